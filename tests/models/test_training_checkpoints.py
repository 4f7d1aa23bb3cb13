"""Checkpoints of models with remedies, tokens and history, and of others."""

import dataclasses

import pytest
import torch
from remedied import CASES, model_for, tokens
from small_runs import SETTINGS, mixture, new_model

import gnnbridge.remedies as R
from gnnbridge.models.differential_llama import add_history
from gnnbridge.models.tokens.add import add_tokens
from gnnbridge.models.training import Stream, StreamMixture, train
from gnnbridge.models.training.checkpoints import load_weights

FOUR = {
    **SETTINGS, 'learning_rate': 3e-3, 'save_steps': 2,
    'lr_scheduler_type': 'constant',
}  # fmt: skip


pytestmark = pytest.mark.usefixtures('quiet_transformers')


def answering(step, generator):
    ids = torch.randint(2, 61, (3, 9), generator=generator)
    labels = ids.clone()
    labels[:, :4] = -100
    return {'input_ids': ids, 'labels': labels}


def streams():
    return StreamMixture([Stream('answers', answering)], 0)


def apply(*remedies, on='llama'):
    def build():
        model = model_for(on)
        for remedy in remedies:
            remedy.apply(model)
            remedy.calibrate(model, tokens(1, 12, 9))
        return model

    return build


def build(remedy, model='llama'):
    return lambda: remedy.build(model_for(model).config, 0)


def with_history():
    return add_history(model_for('diffllama'), 'runway', rho=0.3)


def with_tokens():
    return add_tokens(
        model_for('gpt_neox'), prepend=1, sink=['middle'], freeze=True
    )


# The first layer has no layer below of which to have a history.
IDLE = 'model.layers.0.self_attn.attention.conv.history.rho_logit'
# Every remedy on a Llama; names differ in files of others.
MADE = {
    **{name: build(remedy) for name, remedy in CASES.items()},
    'gated-gpt2': apply(CASES['gated'], on='gpt2'),
    'sink_logit-gpt_neox': apply(CASES['sink_logit'], on='gpt_neox'),
    'pause-gpt_neox': apply(CASES['pause'], on='gpt_neox'),
    'frozen': apply(dataclasses.replace(CASES['runway'], frozen=True)),
    'temperature-fitted': apply(CASES['temperature']),
    'two': apply(CASES['gated-head'], CASES['sink_tokens']),
    'three': apply(CASES['window_sinks'], CASES['sink_logit'], CASES['pause']),
    'differential-layer': build(R.Differential('layer', rho=0.2)),
    'history-alone': with_history,
    'tokens-alone': with_tokens,
}


@pytest.mark.parametrize('name', MADE)
def test_killed_runs_go_on_with_all_that_was_added(name, tmp_path):
    made = MADE[name]
    whole = train(made(), streams(), tmp_path / 'a', steps=4, **FOUR)
    directory = tmp_path / 'b'
    train(made(), streams(), directory, steps=2, **FOUR)
    resumed = train(made(), streams(), directory, steps=4, **FOUR)
    loaded = train(made(), streams(), directory, steps=4, **FOUR)
    fresh = dict(made().named_parameters())
    for key, weight in whole.state_dict().items():
        for other in (resumed, loaded):
            found = other.state_dict()[key]
            same = (found == weight) | (found != found) & (weight != weight)
            assert same.all(), key
        idle = name == 'differential-layer' and key == IDLE
        if key in fresh and fresh[key].requires_grad and not idle:
            assert not torch.equal(fresh[key], weight), key


def test_all_remedies_are_here():
    kinds = {type(remedy) for remedy in CASES.values()}
    assert kinds == set(R.REMEDIES.values())


# What was saved, and what it is loaded into.
OTHERS = {
    'remedy': (apply(R.SinkLogit()), apply(R.SoftmaxOne()), 'remedies'),
    'without': (apply(R.SinkLogit()), apply(), r'tokens none \(got one'),
    'with': (apply(), apply(R.SinkLogit()), r'one with none in'),
    'setting': (apply(R.SinkLogit(1.0)), apply(R.SinkLogit(2.0)), 'initial'),
    'no-parameters': (apply(R.SoftmaxOne()), apply(), 'softmax_one'),
    'history': (
        build(R.Differential('layer')), build(R.Differential('runway')),
        'history',
    ),
    'order': (
        apply(CASES['gated'], CASES['sink_logit']),
        apply(CASES['sink_logit'], CASES['gated']),
        'sink_logit.*gated.*gated.*sink_logit',
    ),
    'tokens': (
        lambda: add_tokens(model_for('llama'), append=1),
        lambda: add_tokens(model_for('llama'), append=2),
        '"append": 2.*"append": 1',
    ),
    'plain-history': (
        with_history, apply(on='diffllama'), 'all of the model'
    ),
    'history-plain': (
        apply(on='diffllama'), with_history, 'all of the model'
    ),
    'architecture': (apply(on='gpt2'), apply(), "'LlamaForCausalLM'.*GPT2"),
    'depth': (
        lambda: new_model(num_hidden_layers=2), new_model, 'num_hidden_layers'
    ),
    'rope': (
        lambda: new_model(rms_norm_eps=1e-3), new_model,
        r"config {'rms_norm_eps': 1e-06} \(got one with {'rms_norm_eps': 0.00",
    ),
    'dtype': (
        lambda: new_model().double(), new_model, 'torch.float32 .got torch.fl'
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_checkpoints_of_other_models_are_refused(name, tmp_path):
    saved, other, message = OTHERS[name]
    made = saved()
    kind = mixture() if made.config.vocab_size == 13 else streams()
    train(made, kind, tmp_path, steps=2, **FOUR)
    model = other()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for steps in (2, 4):  # to be loaded, and to go on from
        with pytest.raises(ValueError, match=message):
            train(model, kind, tmp_path, steps=steps, **FOUR)
    assert model.state_dict().keys() == before.keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_what_is_trained_has_to_be_the_same(tmp_path):
    train(new_model(), mixture(), tmp_path, steps=3, **SETTINGS)
    model = new_model()
    model.lm_head.requires_grad_(False)
    with pytest.raises(ValueError, match='got 11 parameters to train'):
        train(model, mixture(), tmp_path, steps=6, **SETTINGS)


def test_weights_of_several_dtypes_are_not_rounded(tmp_path):
    def mixed():
        model = new_model().bfloat16()
        model.lm_head.float()
        with torch.no_grad():
            model.lm_head.weight.add_(1e-5)
        return model

    model = mixed()
    model.save_pretrained(tmp_path)
    other = mixed()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_weights(other, tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
        assert other.state_dict()[key].dtype == value.dtype


def test_saved_remedies_of_a_run_load_without_it(tmp_path):
    model = train(apply(CASES['gated'])(), streams(), tmp_path, steps=2, **FOUR)
    loaded = R.load(tmp_path / 'checkpoint-2')
    ids = tokens()
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert R.applied(loaded) == [CASES['gated']]


def test_global_chance_is_left_alone(tmp_path):
    # Of the history, from_pretrained draws what it does not find.
    with_history().save_pretrained(tmp_path)
    model, state = with_history(), torch.get_rng_state()
    load_weights(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
