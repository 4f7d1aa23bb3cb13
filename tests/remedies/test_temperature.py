"""Temperatures that are fitted."""

from __future__ import annotations

import math

import architectures
import pytest
import torch
from remedied import relative, tokens

import gnnbridge as gb
import gnnbridge.remedies as R
from gnnbridge.graph.dense import to_attention
from gnnbridge.spectral import total_resistance


def entropies(graph):
    """Mean over rows of entropy over its maximum, head by head."""
    dense = torch.zeros(graph.num_nodes, graph.num_nodes, graph.num_heads)
    dense[graph.edge_index[1], graph.edge_index[0]] = graph.edge_attr
    count = torch.arange(1, graph.num_nodes + 1).view(-1, 1)
    entropy = -torch.xlogy(dense, dense).sum(dim=1)
    return (entropy / count.log())[1:].mean(dim=0)


@pytest.mark.parametrize('architecture', ['llama', 'gpt2'])
@pytest.mark.parametrize('target', [0.3, 0.7])
def test_every_head_has_the_entropy_that_was_asked_for(architecture, target):
    remedy = R.CalibratedTemperature(target=target)
    model, ids = remedy.apply(architectures.build(architecture)), tokens(3, 20)
    before = gb.capture(model, ids[0])
    assert (entropies(before[0]) - target).abs().max() > 0.05
    assert remedy.calibrate(model, ids) is model
    found = [gb.capture(model, row) for row in ids]
    for layer, line in enumerate(remedy.report(model)):
        mean = sum(entropies(graphs[layer]) for graphs in found) / len(ids)
        assert (mean - target).abs().max() < 1e-4
        assert (line['reached'] - mean).abs().max() < 1e-4
        assert line['temperature'].shape == (4,)


def test_a_layer_has_the_resistance_that_was_asked_for():
    remedy = R.CalibratedTemperature(rule='resistance', target=1.2, hops=4.0)
    model, ids = remedy.apply(architectures.build('llama')), tokens(1, 16)
    remedy.calibrate(model, ids)
    size = ids.size(1)
    uniform = torch.ones(size, size).tril() / torch.arange(1, size + 1).view(
        -1, 1
    )
    for graph, line in zip(
        gb.capture(model, ids), remedy.report(model), strict=True
    ):
        total, flat = (
            total_resistance(matrix.double(), hops=4.0)
            for matrix in (to_attention(graph), uniform)
        )
        assert abs(float(total / flat) - float(line['reached'][0])) < 1e-4
        # A head on its own is not asked for.
        assert len(set(line['temperature'].tolist())) == 1
    assert abs(float(line['reached'][0]) - 1.2) < 0.1


def test_what_is_out_of_reach_is_told():
    remedy = R.CalibratedTemperature(target=0.999)
    model = remedy.apply(architectures.build('llama'))
    assert all(x['reached'].isnan().all() for x in remedy.report(model))
    remedy.calibrate(model, tokens(1, 30))
    for line in remedy.report(model):
        flattest = line['temperature'] < 1.001 * math.exp(-3)
        assert ((line['reached'] - 0.999).abs() < 1e-4)[~flattest].all()


def test_calibration_can_be_repeated_and_leaves_no_trace():
    remedy, ids = R.CalibratedTemperature(target=0.4), tokens(2, 15)
    model = remedy.apply(architectures.build('llama'))
    remedy.calibrate(model, ids)
    expected = model(ids).logits
    remedy.calibrate(model, ids)
    assert torch.equal(model(ids).logits, expected)
    model(tokens(2, 15, 1))
    assert torch.equal(model(ids).logits, expected)


@pytest.mark.parametrize('length', ['log', 'sqrt_log'])
def test_rows_up_to_the_reference_stay(length):
    model, ids = architectures.build('llama'), tokens()
    expected = model(ids).logits
    R.CalibratedTemperature(length=length, reference=6).apply(model)
    out = model(ids).logits
    assert relative(out[:, :6], expected[:, :6]) < 1e-6
    assert relative(out[:, 6:], expected[:, 6:]) > 1e-3
    other = architectures.build('llama')
    R.CalibratedTemperature(length=length, reference=6, shorter=True).apply(
        other
    )
    assert relative(other(ids).logits[:, 2:6], expected[:, 2:6]) > 1e-3


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'rule': 'sharpness'}, "'rule'"),
        ({'length': 'linear'}, "'length'"),
        ({'target': 0.0}, "'target'"),
        ({'target': 1.0}, "'target'"),
        ({'length': 'log'}, "'reference'"),
        ({'reference': 8}, "'reference'"),
        ({'length': 'log', 'reference': 1}, "'reference'"),
        ({'shorter': True}, "'shorter'"),
        ({'hops': 3.0}, "'hops'"),
        ({'frozen': True}, "'frozen'"),
    ],
    ids=str,
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        R.CalibratedTemperature(**settings)


@pytest.mark.parametrize('bad', [torch.ones(1, 2).long(), torch.rand(2, 9)])
def test_bad_sequences(bad):
    remedy = R.CalibratedTemperature()
    model = architectures.build('llama')
    with pytest.raises(ValueError, match='Apply it first'):
        remedy.calibrate(model, tokens())
    with pytest.raises(ValueError, match="'sequences'"):
        remedy.calibrate(remedy.apply(model), bad)
