"""Remedies against dense attention that is written with none of our code."""

from __future__ import annotations

import math

import pytest
import torch
from remedied import gradients, model_for, relative, tokens
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

import gnnbridge.remedies as R

TWIN = 'dense_twin'
# What the running twin does, and with which numbers.
_STATE = {}


def twin(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Scores, what a remedy makes of them, and a weighted sum."""
    groups = query.size(1) // key.size(1)
    key = key.repeat_interleave(groups, dim=1)
    value = value.repeat_interleave(groups, dim=1)
    scaling = query.size(-1) ** -0.5 if scaling is None else scaling
    score = query @ key.transpose(-1, -2) * scaling
    keep = (attention_mask == 0).expand(-1, query.size(1), -1, -1)
    numbers = _STATE['numbers'](module.layer_idx)
    weight = _STATE['rule'](score, keep, numbers)
    out = (weight @ value).transpose(1, 2)
    if 'gate' in numbers:
        states = _STATE['states'][module.layer_idx]
        gate = torch.sigmoid(states @ numbers['gate'].T) * numbers['factor']
        out = out * gate.view(*out.shape[:3], -1)
    return out, None


def softmax(score, keep, numbers):
    return torch.softmax(score.masked_fill(~keep, -1e30), dim=-1)


def with_sink(score, keep, numbers):
    sink = numbers['logit'].view(1, -1, 1, 1).expand(*score.shape[:3], 1)
    score = torch.cat([score.masked_fill(~keep, -1e30), sink], dim=-1)
    return torch.softmax(score, dim=-1)[..., :-1]


def in_window(score, keep, numbers):
    place = torch.arange(score.size(-1))
    kept = (place[:, None] - place < 3) | (place < 2)
    return softmax(score, keep & kept, numbers)


def sigmoids(score, keep, numbers):
    count = keep.sum(-1, keepdim=True)
    bias = numbers.get('bias', -count.float().log())
    return torch.sigmoid(score + bias) * keep


def along_runways(score, keep, numbers):
    direct = softmax(score, keep, numbers)
    runway = direct @ direct - direct
    beta = numbers['beta'].view(1, -1, 1, 1)
    return softmax(score + beta * runway, keep, numbers)


def tempered(score, keep, numbers):
    count = keep.sum(-1, keepdim=True).float()
    by_length = (count.log() / math.log(4)).clamp_min(1.0).sqrt()
    temperature = numbers['log_temperature'].exp().view(1, -1, 1, 1)
    return softmax(score * temperature * by_length, keep, numbers)


RULES = {
    'sink_logit': (R.SinkLogit(0.5), with_sink),
    'softmax_one': (R.SoftmaxOne(), with_sink),
    'gated-element': (R.GatedAttention('element', 'paper', 0.5), softmax),
    'gated-head': (R.GatedAttention('head', 'paper', 0.5), softmax),
    'gated-identity': (R.GatedAttention('head'), softmax),
    'window_sinks': (R.WindowWithSinks(3, 2), in_window),
    'sigmoid': (R.SigmoidAttention(), sigmoids),
    'sigmoid-number': (R.SigmoidAttention(-1.0), sigmoids),
    'runway': (R.RunwayAware(1.5), along_runways),
    'temperature': (
        R.CalibratedTemperature(
            target=0.4, length='sqrt_log', reference=4
        ),
        tempered,
    ),
}  # fmt: skip


def numbers_of(remedy, ours):
    """The numbers of a layer, from the changed model."""

    def found(layer):
        module = attention_of(ours, layer)
        change = module.gnnbridge_remedies[remedy.name]
        numbers = dict(change.named_parameters()) | dict(change.named_buffers())
        if isinstance(remedy, R.SoftmaxOne):
            numbers['logit'] = torch.zeros(4)
        if isinstance(remedy, R.SigmoidAttention) and remedy.bias != 'row':
            numbers['bias'] = remedy.bias
        if isinstance(remedy, R.GatedAttention):
            numbers['gate'] = numbers.pop('weight')
            numbers['factor'] = 2.0 if remedy.start == 'identity' else 1.0
        return _STATE['leaves'].setdefault(
            layer,
            {
                k: v.detach().clone().requires_grad_(v.requires_grad)
                if isinstance(v, torch.Tensor)
                else v
                for k, v in numbers.items()
            },
        )

    return found


def attention_of(model, layer):
    if hasattr(model, 'transformer'):
        return model.transformer.h[layer].attn
    return model.model.layers[layer].self_attn


def dense_twin(model, remedy, ours, rule):
    """The unchanged model on the twin's attention."""
    AttentionInterface.register(TWIN, twin)
    AttentionMaskInterface.register(TWIN, eager_mask)
    model.set_attn_implementation(TWIN)
    _STATE.update(rule=rule, leaves={}, states={})
    _STATE['numbers'] = numbers_of(remedy, ours)

    def note(module, args, kwargs):
        states = kwargs.get('hidden_states', args[0] if args else None)
        _STATE['states'][module.layer_idx] = states

    for layer in range(3):
        attention_of(model, layer).register_forward_pre_hook(
            note, with_kwargs=True
        )
    return model


@pytest.mark.parametrize('architecture', ['llama', 'gpt2'])
@pytest.mark.parametrize('name', RULES)
def test_outputs_and_gradients_are_those_of_the_formula(name, architecture):
    remedy, rule = RULES[name]
    ours, ids = remedy.apply(model_for(architecture)), tokens()
    remedy.calibrate(ours, tokens(1, 12, 9))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in remedy.parameters(ours).values():
            parameter.add_(
                0.4 * torch.randn(parameter.shape, generator=generator)
            )
    theirs = dense_twin(model_for(architecture), remedy, ours, rule)
    mask = torch.ones_like(ids)
    out = ours(ids, attention_mask=mask).logits
    expected = theirs(ids, attention_mask=mask).logits
    assert relative(out, expected) < 3e-6
    factor = torch.randn(out.shape, generator=generator)
    (out * factor).sum().backward()
    (expected * factor).sum().backward()
    own = gradients(ours)
    for key, value in gradients(theirs).items():
        # The bias of keys has none, but for rounding.
        if value.abs().max() > 1e-3:
            assert relative(own[key], value) < 1e-4, key
    for layer in range(3):
        for key, leaf in _STATE['leaves'][layer].items():
            if not isinstance(leaf, torch.Tensor) or leaf.grad is None:
                continue
            key = 'weight' if key == 'gate' else key
            module = attention_of(ours, layer)
            change = module.gnnbridge_remedies[remedy.name]
            assert relative(getattr(change, key).grad, leaf.grad) < 1e-4
