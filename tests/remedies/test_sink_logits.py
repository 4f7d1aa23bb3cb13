"""Sinks in the denominator of the softmax."""

from __future__ import annotations

import math

import architectures
import pytest
import torch
from remedied import relative, tokens

import gnnbridge as gb
import gnnbridge.remedies as R


def test_softmax_one_is_a_sink_at_zero():
    ids = tokens()
    one = R.SoftmaxOne().apply(architectures.build('llama'))
    zero = R.SinkLogit(0.0).apply(architectures.build('llama'))
    assert torch.equal(one(ids).logits, zero(ids).logits)


def test_rows_lose_what_the_sink_takes():
    model = R.SinkLogit(2.0).apply(architectures.build('llama'))
    graph = gb.capture(model, tokens(1))[0]
    total = torch.zeros(11, 4).index_add(
        0, graph.edge_index[1], graph.edge_attr
    )
    # The first token has one key: its share is a sigmoid.
    assert (total > 0).all()
    assert (total < 1).all()
    plain = gb.capture(architectures.build('llama'), tokens(1))[0]
    # All keys lose alike.
    row = graph.edge_index[1]
    assert relative(graph.edge_attr / total[row], plain.edge_attr) < 1e-5


def test_a_far_sink_takes_little():
    ids, model = tokens(), architectures.build('llama')
    expected = model(ids).logits
    errors = []
    for initial in (-5.0, -10.0, -20.0):
        remedy = R.SinkLogit(initial)
        errors.append(relative(remedy.apply(model)(ids).logits, expected))
        remedy.remove(model)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


def test_each_head_of_each_layer_has_a_logit():
    model = R.SinkLogit(0.5, layers=(0, -1)).apply(architectures.build('gpt2'))
    found = R.SinkLogit(0.5, layers=(0, -1)).parameters(model)
    assert {key: x.tolist() for key, x in found.items()} == {
        f'transformer.h.{layer}.attn.gnnbridge_remedies.sink_logit.logit': (
            [0.5] * 4
        )
        for layer in (0, 2)
    }


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_bad_values(bad):
    with pytest.raises(ValueError, match="'initial'"):
        R.SinkLogit(bad)


def test_nothing_to_train_alone():
    with pytest.raises(ValueError, match="'frozen'"):
        R.SoftmaxOne(frozen=True)
    with pytest.raises(ValueError, match="'layers'"):
        R.SinkLogit(layers=(7,)).apply(architectures.build('llama'))
