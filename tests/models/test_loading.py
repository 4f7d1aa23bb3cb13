"""Models are loaded, or one clear line says why not."""

from __future__ import annotations

import json

import architectures
import pytest
import torch
import transformers as hf

import gnnbridge as gb
from gnnbridge.models.loading import (
    LoadError,
    load_pretrained,
    reinitialize,
)


@pytest.fixture
def directory(tmp_path):
    architectures.build('llama').save_pretrained(tmp_path)
    return tmp_path


@torch.no_grad()
def test_a_directory_is_loaded(directory):
    model, tokenizer = load_pretrained(directory)
    assert isinstance(model, hf.LlamaForCausalLM)
    assert tokenizer is None
    assert not model.training
    ids = torch.arange(2, 9).unsqueeze(0)
    expected = architectures.build('llama')(ids)[0]
    assert torch.equal(model(ids)[0], expected)
    assert load_pretrained(directory, dtype=torch.float64)[0].dtype == (
        torch.float64
    )


@pytest.mark.parametrize('name', ['bert', 'vit', 't5'])
def test_the_class_that_was_saved_is_loaded(name, tmp_path):
    model = architectures.build(name)
    model.save_pretrained(tmp_path)
    assert type(load_pretrained(tmp_path)[0]) is type(model)


def refusal(path) -> str:
    with pytest.raises(LoadError) as caught:
        load_pretrained(path)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_wrong_paths_are_named(directory, tmp_path):
    assert 'no model directory' in refusal(tmp_path / 'nowhere')
    assert 'no model directory' in refusal('./nowhere')
    assert 'got the file' in refusal(directory / 'config.json')
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert 'no config.json' in refusal(empty)


def test_weights_must_be_safetensors(directory):
    weights = directory / 'model.safetensors'
    torch.save(architectures.build('llama').state_dict(), directory / 'a.bin')
    weights.unlink()
    message = refusal(directory)
    assert 'no safetensors weights' in message
    assert 'a.bin' in message


def test_broken_files_are_reported(directory):
    (directory / 'model.safetensors').write_bytes(b'not weights')
    assert 'Cannot load the model' in refusal(directory)
    (directory / 'config.json').write_text('{')
    assert 'Cannot load the model' in refusal(directory)


def test_code_of_a_model_is_never_run(directory):
    config = json.loads((directory / 'config.json').read_text())
    config['model_type'] = 'their_own'
    config['auto_map'] = {
        'AutoConfig': 'their_own.Config',
        'AutoModelForCausalLM': 'their_own.Model',
    }
    (directory / 'config.json').write_text(json.dumps(config))
    ran = directory / 'ran'
    (directory / 'their_own.py').write_text(f'open({str(ran)!r}, "w")')
    assert 'never run' in refusal(directory)
    assert not ran.exists()


def test_a_hub_name_without_network_is_one_line():
    message = refusal('gnnbridge-tests/no-such-model')
    assert 'no directory' in message
    assert 'hub' in message


@torch.no_grad()
def test_reinitialised_weights_are_fresh_and_reproducible():
    model = gb.convert(architectures.build('llama')).bfloat16()
    before = torch.get_rng_state()
    fresh = reinitialize(model, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert fresh.dtype == torch.bfloat16
    assert fresh.config._attn_implementation == 'eager'
    assert not fresh.training
    again, other = reinitialize(model, seed=3), reinitialize(model, seed=4)
    name = 'model.layers.0.self_attn.q_proj.weight'
    weight = fresh.get_parameter(name)
    assert torch.equal(weight, again.get_parameter(name))
    assert not torch.equal(weight, other.get_parameter(name))
    assert not torch.equal(weight, model.get_parameter(name))
    # Llama draws its matrices with standard deviation 0.02.
    assert weight.float().std() == pytest.approx(0.02, rel=0.1)
    ids = torch.arange(2, 9).unsqueeze(0)
    assert torch.isfinite(fresh(ids)[0]).all()
