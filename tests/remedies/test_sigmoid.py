"""Attention without normalisation."""

from __future__ import annotations

import math

import architectures
import pytest
import torch
from remedied import tokens

import gnnbridge as gb
import gnnbridge.remedies as R


def flat(remedy):
    """The graph of a model whose scores are all zero."""
    model = architectures.build('llama')
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
    return gb.capture(remedy.apply(model), tokens(1))[0]


def test_scores_of_zero_are_nearly_a_mean():
    graph = flat(R.SigmoidAttention())
    count = (graph.edge_index[1] + 1).float()
    assert torch.allclose(graph.edge_weight, 1 / (1 + count))


def test_a_bias_is_the_same_for_all_rows():
    graph = flat(R.SigmoidAttention(bias=-2.0))
    expected = torch.full_like(graph.edge_weight, 1 / (1 + math.exp(2.0)))
    assert torch.allclose(graph.edge_weight, expected)


def test_a_window_makes_rows_shorter():
    model = R.WindowWithSinks(3, 0).apply(architectures.build('llama'))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
    graph = gb.capture(R.SigmoidAttention().apply(model), tokens(1))[0]
    count = (graph.edge_index[1] + 1).clamp_max(3).float()
    assert torch.allclose(graph.edge_weight, 1 / (1 + count))


@pytest.mark.parametrize('bad', ['length', math.nan, math.inf])
def test_bad_biases(bad):
    with pytest.raises(ValueError, match="'bias'"):
        R.SigmoidAttention(bias=bad)
