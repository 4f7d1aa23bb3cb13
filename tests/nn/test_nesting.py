"""Graphs whose rows are nested, and others."""

from __future__ import annotations

import pytest
import torch
from differential_twin import GRAPHS, HEADS, ROWS, layer, tensors, twin

from gnnbridge.nn import plan_attention
from gnnbridge.nn.nesting import nested_rows


@pytest.mark.parametrize('kind', ROWS)
@pytest.mark.parametrize('side', ['left', 'right', 'middle'])
def test_padded_sequences_are_the_unpadded(side, kind):
    """Masks whose rows are nested, but for gaps, which no shortcut fits."""
    nodes, conv = 9, layer(kind)
    real = torch.ones(2, nodes, dtype=torch.bool)
    gap = {'left': [0, 1], 'right': [7, 8], 'middle': [3, 5]}[side]
    real[1, gap] = False
    mask = torch.ones(nodes, nodes, dtype=torch.bool).tril() & real[:, None]
    plan = plan_attention(mask)
    assert nested_rows(plan) is not None
    inputs = tensors(2 * nodes, HEADS, 2)
    out = conv(*inputs, plan).unflatten(0, (2, nodes))
    first, second = (
        [x.unflatten(0, (2, nodes))[n] for x in inputs] for n in (0, 1)
    )
    torch.testing.assert_close(out[0], conv(*first, 'causal'))
    if side == 'middle':
        # Rows of padding look at what came before, and are remembered.
        expected, _ = twin(conv, *second, mask[1].nonzero().t().flip(0))
        torch.testing.assert_close(out[1], expected)
    else:
        expected = conv(*(x[real[1]] for x in second), 'causal')
        torch.testing.assert_close(out[1, real[1]], expected)


def test_nested_rows_are_recognised():
    size = (9, 9)
    for name, nested in (('causal', True), ('full', True), ('window', False)):
        plan = plan_attention(GRAPHS[name](9), size)
        assert (nested_rows(plan) is not None) == nested
        mask = plan_attention(plan.mask)
        assert (nested_rows(mask) is not None) == nested
    # A prefix that grows by two, and rows without keys at first.
    i, j = torch.ones(9, 9, dtype=torch.bool).tril(-2).nonzero().t()
    plan = plan_attention(torch.stack([j, i]), size)
    assert nested_rows(plan).tolist() == [[False] * 2 + [True] * 7]
    conv, inputs = layer('decay'), tensors(9, HEADS, 2)
    expected, _ = twin(conv, *inputs, torch.stack([j, i]))
    torch.testing.assert_close(conv(*inputs, plan), expected)
    # A later row that loses what the one before it saw.
    keep = torch.ones(9, 9, dtype=torch.bool).tril()
    keep[5, 0] = False
    assert nested_rows(plan_attention(keep)) is None
    assert nested_rows(plan_attention(keep.nonzero().t().flip(0), size)) is None
