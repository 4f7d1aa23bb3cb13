"""What all remedies promise, checked for each of them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json

import architectures
import pytest
import torch
import transformers
from remedied import (
    CASES,
    DIFFERENTIAL,
    IN_ATTENTION,
    ON,
    model_for,
    relative,
    tokens,
    with_remedy,
)
from transformers import Trainer, TrainingArguments

import gnnbridge as gb
import gnnbridge.remedies as R

IDS = [f'{name}-{architecture}' for name, architecture in ON]
on_all = pytest.mark.parametrize(('name', 'architecture'), ON, ids=IDS)
by_name = pytest.mark.parametrize('name', CASES)


pytestmark = pytest.mark.usefixtures('quiet_transformers')


def home(name):
    return 'diffllama' if name in DIFFERENTIAL else 'llama'


@on_all
def test_neutral_settings_change_nothing(name, architecture):
    remedy = CASES[name].neutral()
    if remedy is None:
        assert R.REMEDIES[CASES[name].name] in (
            R.SoftmaxOne, R.SigmoidAttention,
        )  # fmt: skip
        return
    model, ids = model_for(architecture), tokens()
    expected = model(ids).logits
    assert remedy.apply(model) is model
    assert relative(model(ids).logits, expected) < 2e-6


@on_all
def test_removal_is_exact(name, architecture):
    model, ids = model_for(architecture), tokens()
    expected, keys = model(ids).logits, list(model.state_dict())
    hooks = [len(m._forward_pre_hooks) for m in model.modules()]
    remedy = CASES[name]
    remedy.apply(model)
    remedy.calibrate(model, ids)
    if name != 'differential':
        assert relative(model(ids).logits, expected) > 1e-3
    assert remedy.remove(model) is model
    assert torch.equal(model(ids).logits, expected)
    assert list(model.state_dict()) == keys
    assert [len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert not R.applied(model)


@on_all
def test_later_tokens_change_nothing_earlier(name, architecture):
    model, ids = with_remedy(name, architecture), tokens()
    other = ids.clone()
    other[:, 7:] = tokens(seed=6)[:, 7:]
    short, long = model(other).logits, model(ids).logits
    assert relative(short[:, :7], long[:, :7]) < 1e-6
    assert relative(short[:, 7:], long[:, 7:]) > 1e-3


@on_all
def test_a_cache_changes_nothing(name, architecture):
    model, ids = with_remedy(name, architecture), tokens()
    with torch.no_grad():
        full = model(ids).logits
        out = model(ids[:, :5], use_cache=True)
        parts, cache = [out.logits], out.past_key_values
        for start, end in ((5, 6), (6, 9), (9, 11)):
            step = model(ids[:, start:end], past_key_values=cache)
            parts.append(step.logits)
    assert relative(torch.cat(parts, dim=1), full) < 3e-6


@on_all
def test_generation_goes_by_full_passes(name, architecture):
    model, ids = with_remedy(name, architecture), tokens(size=5)
    options = {'max_new_tokens': 6, 'do_sample': False}
    out = model.generate(ids, **options)
    best = model(out).logits.argmax(dim=-1)
    assert torch.equal(best[:, 4:-1], out[:, 5:])


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_static_caches_work(name):
    model, ids = with_remedy(name, 'llama'), tokens(size=5)
    options = {'max_new_tokens': 6, 'do_sample': False}
    expected = model.generate(ids, **options)
    out = model.generate(
        ids, cache_implementation='static', disable_compile=True, **options
    )
    assert torch.equal(out, expected)


@on_all
def test_padding_changes_nothing(name, architecture):
    model, ids = with_remedy(name, architecture), tokens(1, 9)
    expected = model(ids, attention_mask=torch.ones_like(ids)).logits
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1)
    padded = torch.cat([padded, tokens(1, 12, 8)])
    mask = torch.ones_like(padded)
    mask[0, :3] = 0
    position = (mask.cumsum(-1) - 1).clamp_min(0)
    inputs = {'attention_mask': mask, 'position_ids': position}
    out = model(padded, **inputs).logits[0, 3:]
    assert relative(out, expected[0]) < 3e-6
    options = {'max_new_tokens': 4, 'do_sample': False}
    both = model.generate(padded, attention_mask=mask, **options)
    alone = model.generate(ids, **options)
    assert torch.equal(both[0, 3:], alone[0])


@on_all
def test_files_keep_remedies(name, architecture, tmp_path):
    model, ids = with_remedy(name, architecture), tokens()
    expected = model(ids).logits
    model.save_pretrained(tmp_path)
    loaded = R.load(tmp_path)
    assert R.applied(loaded) == [CASES[name]]
    assert relative(loaded(ids).logits, expected) < 1e-6
    assert set(loaded.state_dict()) == set(model.state_dict())
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert R.load(plain) is plain
    assert relative(plain(ids).logits, expected) < 1e-6
    with pytest.raises(ValueError, match='without remedies'):
        R.load(plain)


@by_name
def test_fresh_models_are_built(name):
    config = model_for('llama').config
    remedy, ids = CASES[name], tokens()
    state = torch.get_rng_state()
    model = remedy.build(config, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(remedy.build(config, 3)(ids).logits, model(ids).logits)
    assert not torch.equal(
        remedy.build(config, 4)(ids).logits, model(ids).logits
    )
    assert not model.training
    plain = R.SoftmaxOne().build(config, 3).state_dict()
    if name not in DIFFERENTIAL:
        own = model.state_dict()
        for key in plain:
            if 'gnnbridge' not in key:
                assert torch.equal(own[key], plain[key])


class Repeats(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        ids = tokens(1, 6, index % 4)[0].repeat(2)
        return {'input_ids': ids, 'labels': ids}


def trained(model, directory, steps=12, rate=1e-2):
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=rate,
        report_to='none',
        save_strategy='no',
        disable_tqdm=True,
        logging_strategy='no',
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    Trainer(model=model, args=arguments, train_dataset=Repeats()).train()
    return model.eval()


def loss_of(model):
    with torch.no_grad():
        batch = torch.stack([Repeats()[k]['input_ids'] for k in range(4)])
        return float(model(batch, labels=batch).loss)


@by_name
def test_they_train_with_the_model(name, tmp_path):
    model = CASES[name].build(model_for('llama').config, 0)
    before = loss_of(model)
    added = {n: p.clone() for n, p in CASES[name].parameters(model).items()}
    trained(model, tmp_path)
    assert loss_of(model) < before - 0.5
    for key, value in CASES[name].parameters(model).items():
        assert not torch.equal(value, added[key]), key


FROZEN = [n for n, r in CASES.items() if r.learns and n != 'differential']


@pytest.mark.parametrize('name', FROZEN)
def test_they_train_alone(name, tmp_path):
    remedy = dataclasses.replace(CASES[name], frozen=True)
    model = remedy.apply(model_for(home(name)))
    added = remedy.parameters(model)
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learned == set(added)
    before = loss_of(model)
    own = {n: p.clone() for n, p in model.named_parameters() if n not in added}
    trained(model, tmp_path, 20, 5e-2)
    assert loss_of(model) < before - 1e-4
    for key, value in model.named_parameters():
        assert key in added or torch.equal(value, own[key])
    remedy.remove(model)
    assert all(p.requires_grad for p in model.parameters())


@by_name
def test_they_tell_their_settings(name):
    remedy = CASES[name]
    text = repr(remedy)
    assert text.startswith(type(remedy).__name__ + '(')
    for parameter in inspect.signature(type(remedy)).parameters:
        assert f'{parameter}=' in text
    settings = json.loads(json.dumps(remedy.settings()))
    assert type(remedy).of_settings(settings) == remedy
    assert remedy.costs
    assert R.REMEDIES[remedy.name] is type(remedy)


@by_name
def test_they_say_what_they_cost(name):
    model = model_for(home(name))
    before = sum(p.numel() for p in model.parameters())
    remedy = CASES[name]
    remedy.apply(model)
    after = sum(p.numel() for p in model.parameters())
    assert remedy.num_parameters(model) == after - before
    assert (after > before) == (remedy.learns and name != 'differential')


@on_all
def test_copies_have_their_own(name, architecture):
    model, ids = with_remedy(name, architecture), tokens()
    expected = model(ids).logits
    copied = copy.deepcopy(model)
    assert torch.equal(copied(ids).logits, expected)
    CASES[name].remove(copied)
    assert torch.equal(model(ids).logits, expected)
    assert R.applied(model)
    assert not R.applied(copied)


@pytest.mark.parametrize('name', sorted(set(CASES) - {'differential-decay'}))
def test_graphs_are_those_of_the_remedy(name):
    model, ids = with_remedy(name, home(name)), tokens(1)
    before = model(ids).logits
    graphs = gb.capture(model, ids)
    assert len(graphs) == 3
    with gb.rewire(model, gb.capture(model, ids)[0]):
        assert relative(model(ids).logits, before) < 3e-6
    assert torch.equal(model(ids).logits, before)


@by_name
def test_one_at_a_time(name):
    model = CASES[name].apply(model_for(home(name)))
    with pytest.raises(ValueError, match='Remove that one first'):
        CASES[name].apply(model)
    other = CASES['sink_tokens' if name != 'sink_tokens' else 'pause']
    with pytest.raises(ValueError, match='Apply it first'):
        other.remove(model)
    with pytest.raises(ValueError, match='Apply it first'):
        other.parameters(model)


@by_name
def test_other_things_are_refused(name):
    with pytest.raises((TypeError, NotImplementedError), match='Expected'):
        CASES[name].apply(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="'config'"):
        CASES[name].build({'hidden_size': 3})
    with pytest.raises(NotImplementedError, match='Expected'):
        CASES[name].apply(architectures.build('bert'))


def test_all_remedies_are_here():
    assert {type(remedy) for remedy in CASES.values()} == set(
        R.REMEDIES.values()
    )
    for name, kind in R.REMEDIES.items():
        assert R.make(name) == kind()
    with pytest.raises(ValueError, match="'no_such'"):
        R.make('no_such')
