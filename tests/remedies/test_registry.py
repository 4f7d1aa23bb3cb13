"""Remedies by name, and in files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import architectures
import pytest
import torch
from remedied import CASES, relative, tokens, with_remedy
from safetensors.torch import load_file, save_file

import gnnbridge.remedies as R
from gnnbridge.models.loading import LoadError, load_pretrained

pytestmark = pytest.mark.usefixtures('quiet_transformers')


def test_a_table_of_remedies_is_a_loop():
    config, ids = architectures.build('llama').config, tokens()
    out = {}
    for name in R.REMEDIES:
        remedy = R.make(name)
        model = remedy.calibrate(remedy.build(config, seed=0), ids)
        out[name] = model(ids).logits
    assert len(out) == 10
    assert all(x.isfinite().all() for x in out.values())


def test_settings_go_by_name():
    assert R.make('sink_logit', initial=2.0) == R.SinkLogit(2.0)
    with pytest.raises(TypeError, match='unexpected keyword'):
        R.make('sink_logit', temperature=2.0)


def test_weights_in_several_files(tmp_path):
    model, ids = with_remedy('gated', 'gpt_neox'), tokens()
    model.save_pretrained(tmp_path, max_shard_size='20KB')
    assert len(list(tmp_path.glob('*.safetensors'))) > 1
    loaded = R.load(tmp_path)
    assert relative(loaded(ids).logits, model(ids).logits) < 1e-6


def test_frozen_remedies_are_loaded_frozen(tmp_path):
    remedy = R.SinkLogit(frozen=True, layers=(1,))
    model = remedy.apply(architectures.build('llama'))
    model.save_pretrained(tmp_path)
    loaded = R.load(tmp_path)
    assert R.applied(loaded) == [remedy]
    learned = [n for n, p in loaded.named_parameters() if p.requires_grad]
    assert learned == list(remedy.parameters(loaded))


def test_files_without_remedies_are_refused(tmp_path):
    model = architectures.build('llama')
    model.save_pretrained(tmp_path)
    for where in (tmp_path, tmp_path / 'nowhere'):
        with pytest.raises(ValueError, match='with remedies'):
            R.load(where)
    with pytest.raises(ValueError, match='with remedies'):
        R.load(model, tmp_path)


def test_a_model_is_not_loaded_without_its_remedies(tmp_path):
    with_remedy('gated', 'llama').save_pretrained(tmp_path)
    with pytest.raises(LoadError, match=r'gnnbridge\.remedies\.load'):
        load_pretrained(tmp_path)
    model, _ = load_pretrained(tmp_path, without_remedies=True)
    assert R.applied(model) == []


def test_incomplete_files_are_refused(tmp_path):
    with_remedy('sink_logit', 'llama').save_pretrained(tmp_path)
    path = str(tmp_path / 'model.safetensors')
    saved = load_file(path)
    del saved['model.layers.1.self_attn.gnnbridge_remedies.sink_logit.logit']
    save_file(saved, path, metadata={'format': 'pt'})
    model = architectures.build('llama')
    with pytest.raises(ValueError, match=r'layers\.1.*got none'):
        R.load(model, tmp_path)
    assert not R.applied(model)
    assert torch.equal(
        model(tokens()).logits, architectures.build('llama')(tokens()).logits
    )


@pytest.mark.parametrize('name', ['gated', 'sink_logit', 'sigmoid', 'runway'])
def test_threads_run_one_model(name):
    model = with_remedy(name, 'llama')
    rows = [tokens(1, 9, seed) for seed in range(4)]
    expected = [model(row).logits for row in rows]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: model(row).logits, rows * 10))
    for place, out in enumerate(found):
        assert relative(out, expected[place % 4]) < 1e-6


def test_every_remedy_has_a_case():
    assert {remedy.name for remedy in CASES.values()} == set(R.REMEDIES)
