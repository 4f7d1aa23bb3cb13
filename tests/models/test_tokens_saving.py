"""Inserted tokens in files: saved with a model, loaded again, or left out."""

from __future__ import annotations

import json
import logging

import architectures
import pytest
import torch
import transformers
from inserted import REQUIRED
from transformers import AutoModelForCausalLM

import gnnbridge as gb
from gnnbridge.models.loading import LoadError, load_pretrained
from gnnbridge.models.tokens.add import add_tokens, remove_tokens
from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.tokens.saving import load_tokens

TOKENS = {'prepend': 2, 'append': 1, 'sink': ['middle', -2]}


pytestmark = pytest.mark.usefixtures('quiet_transformers')


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory)


@pytest.mark.parametrize('name', REQUIRED)
def test_a_saved_model_is_loaded_with_and_without_its_tokens(name, tmp_path):
    model = architectures.build(name)
    add_tokens(model, embedding='random', shared=False, **TOKENS)
    inputs = architectures.left_padded(model)
    expected = model(**inputs).logits
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert tokens_of(loaded) is None
    plain = architectures.build(name)(**inputs).logits
    assert torch.equal(loaded(**inputs).logits, plain)
    assert load_tokens(loaded) is loaded
    assert torch.equal(loaded(**inputs).logits, expected)
    assert tokens_of(loaded).settings == tokens_of(model).settings
    keys = set(loaded.state_dict())
    assert keys == set(model.state_dict())
    assert {key.partition('gnnbridge_tokens.')[2] for key in keys} - {''} == {
        'pause', 'sink', 'settings_json',
    }  # fmt: skip


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
def test_load_pretrained_gives_a_model_its_tokens(name, tmp_path):
    model = add_tokens(architectures.build(name), embedding='random', **TOKENS)
    inputs = architectures.left_padded(model)
    model.save_pretrained(tmp_path, max_shard_size='20KB')
    assert len(list(tmp_path.glob('*.safetensors'))) > 1
    loaded, _ = load_pretrained(tmp_path, dtype=torch.float64)
    assert tokens_of(loaded).sink.dtype == torch.float64
    error = loaded(**inputs).logits - model(**inputs).logits
    assert error.abs().max() < 1e-4
    # Without tokens nothing changes.
    remove_tokens(model).save_pretrained(tmp_path / 'plain')
    assert tokens_of(load_pretrained(tmp_path / 'plain')[0]) is None


def test_tokens_of_the_vocabulary_are_saved_by_their_ids(tmp_path):
    model = add_tokens(architectures.build('llama'), append=2, embedding=7)
    model.save_pretrained(tmp_path)
    loaded = load_tokens(load(tmp_path), tmp_path)
    assert tokens_of(loaded).settings.ids == (7, 7)
    inputs = architectures.inputs_for(model)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    with pytest.raises(ValueError, match='learned tokens to train'):
        load_tokens(load(tmp_path), freeze=True)


@pytest.mark.parametrize('first', ['convert', 'add'])
def test_converted_models_save_and_load_their_tokens(first, tmp_path):
    model = architectures.build('llama')
    steps = [gb.convert, lambda m: add_tokens(m, embedding='random', **TOKENS)]
    for one in steps if first == 'convert' else reversed(steps):
        one(model)
    gb.restore(model)
    inputs = architectures.left_padded(model)
    model.save_pretrained(tmp_path)
    loaded = gb.convert(load_tokens(load(tmp_path), freeze=True))
    expected = model(**inputs).logits
    error = (loaded(**inputs).logits - expected).abs().max()
    assert error < 1e-5 * expected.abs().max()
    assert not loaded.lm_head.weight.requires_grad
    assert tokens_of(loaded).pause.requires_grad


def test_an_ordinary_loader_reports_the_tokens(tmp_path, caplog):
    model = add_tokens(architectures.build('llama'), append=1)
    model.save_pretrained(tmp_path)
    logger = logging.getLogger('transformers')
    transformers.utils.logging.set_verbosity_warning()
    logger.addHandler(caplog.handler)
    try:
        load(tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert 'gnnbridge_tokens' in caplog.text
    assert 'gnnbridge' not in (tmp_path / 'config.json').read_text()


def saved(directory, **tokens):
    model = add_tokens(architectures.build('llama'), **tokens)
    model.save_pretrained(directory)
    return model


def test_files_without_tokens_or_with_unfit_ones_are_refused(tmp_path):
    plain, some, late = (tmp_path / x for x in ('plain', 'some', 'late'))
    architectures.build('llama').save_pretrained(plain)
    saved(some, append=1)
    saved(late, sink=9)
    with pytest.raises(ValueError, match='among the safetensors weights'):
        load_tokens(load(plain))
    with pytest.raises(ValueError, match="weights of ''"):
        load_tokens(architectures.build('llama'))
    with pytest.raises(ValueError, match='without inserted tokens'):
        load_tokens(load_tokens(load(some)))
    wide = architectures.build('llama', hidden_size=64)
    with pytest.raises(ValueError, match="'pause' of 64 dimensions"):
        load_tokens(wide, some)
    short = architectures.build('llama', max_position_embeddings=9)
    with pytest.raises(ValueError, match='fit the context of 9'):
        load_tokens(short, late)
    config = json.loads((late / 'config.json').read_text())
    config['max_position_embeddings'] = 9
    (late / 'config.json').write_text(json.dumps(config))
    with pytest.raises(LoadError, match=r'Cannot load the model in .* context'):
        load_pretrained(late)


def test_weights_of_other_tokens_are_refused(tmp_path):
    model = saved(tmp_path, append=1)
    other = add_tokens(architectures.build('llama'), prepend=1)
    with pytest.raises(ValueError, match='got those of'):
        other.load_state_dict(model.state_dict())
    same = add_tokens(
        architectures.build('llama'), append=1, embedding='random'
    )
    assert not torch.equal(tokens_of(same).pause, tokens_of(model).pause)
    same.load_state_dict(model.state_dict())
    assert torch.equal(tokens_of(same).pause, tokens_of(model).pause)
