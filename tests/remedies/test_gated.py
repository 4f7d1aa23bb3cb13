"""Gates on the output of attention."""

from __future__ import annotations

import architectures
import pytest
import torch
from remedied import tokens

import gnnbridge.remedies as R


@pytest.mark.parametrize(('gate', 'rows'), [('head', 4), ('element', 32)])
def test_a_matrix_for_each_layer(gate, rows):
    remedy = R.GatedAttention(gate)
    model = remedy.apply(architectures.build('llama'))
    shapes = [tuple(x.shape) for x in remedy.parameters(model).values()]
    assert shapes == [(rows, 32)] * 3
    assert remedy.num_parameters(model) == 3 * rows * 32


@pytest.mark.parametrize('architecture', ['llama', 'gpt2'])
def test_gates_start_at_one_exactly(architecture):
    model, ids = architectures.build(architecture), tokens()
    expected = model(ids).logits
    out = R.GatedAttention().apply(model)(ids).logits
    assert (out - expected).abs().max() < 1e-5
    # The converted model, to the last bit.
    plain = R.CalibratedTemperature().apply(architectures.build(architecture))
    assert torch.equal(out, plain(ids).logits)


def test_gates_of_the_paper_start_at_a_half():
    zero = R.GatedAttention(start='paper', std=0.0)
    model, ids = zero.apply(architectures.build('llama')), tokens()
    halved = architectures.build('llama')
    with torch.no_grad():
        for layer in halved.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.5)
    error = model(ids).logits - halved(ids).logits
    assert error.abs().max() < 1e-5


def test_layers_and_seeds_draw_their_own():
    def drawn(seed):
        remedy = R.GatedAttention('head', 'paper', seed=seed)
        model = remedy.apply(architectures.build('llama'))
        return list(remedy.parameters(model).values())

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not any(torch.equal(a, b) for a in first for b in other)
    assert abs(float(torch.cat(first).detach().std()) - 0.02) < 0.003


def test_bad_settings():
    with pytest.raises(ValueError, match="'gate'"):
        R.GatedAttention('token')
    with pytest.raises(ValueError, match="'start'"):
        R.GatedAttention(start='ones')
    with pytest.raises(ValueError, match="'std'"):
        R.GatedAttention(std=-1.0)
