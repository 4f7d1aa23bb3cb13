"""Decoding with a KV cache: what a state remembers of earlier rows."""

from __future__ import annotations

import pytest
import torch
from differential_twin import GRAPHS, HEADS, KINDS, ROWS, below, layer, tensors

from gnnbridge.nn import HistoryState, plan_attention


def close(ours, theirs, tolerance):
    """Relative to the largest number."""
    return (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize('of', ['second', 'first'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('graph', ['causal', 'window', 'dilated'])
@pytest.mark.parametrize('chunks', [[1] * 13, [5, 1, 1, 4, 2], [13], [7, 6]])
def test_a_cache_gives_what_all_rows_at_once_give(chunks, graph, kind, of):
    nodes, conv = 13, layer(kind, of=of).float()
    edge_index = GRAPHS[graph](nodes)
    inputs = tensors(2 * nodes, HEADS, 2, dtype=torch.float32)
    previous = below(kind, 2 * nodes, dtype=torch.float32)
    size = (2 * nodes, 2 * nodes)
    both = torch.cat([edge_index, edge_index + nodes], dim=1)
    plan = plan_attention(both, size, num_graphs=2)
    expected, (_, maps) = conv(
        *inputs, plan, previous=previous, return_attention_weights=True
    )

    def rows(x, start, stop):
        return x.unflatten(0, (2, nodes))[:, start:stop].flatten(0, 1)

    state, start, outs, weights = HistoryState(), 0, [], {}
    for length in chunks:
        stop = start + length
        here = (edge_index[1] >= start) & (edge_index[1] < stop)
        step = edge_index[:, here] - torch.tensor([[0], [start]])
        shift = torch.tensor([[stop], [length]])
        step = torch.cat([step, step + shift], dim=1)
        chunk = plan_attention(step, (2 * stop, 2 * length), num_graphs=2)
        query, *cached = (
            rows(inputs[0], start, stop),
            rows(inputs[1], 0, stop),
            rows(inputs[2], 0, stop),
        )
        kept = None
        if previous is not None:
            kept = rows(previous[0], start, stop), rows(previous[1], 0, stop)
        out, (_, some) = conv(
            query, *cached, chunk, previous=kept, state=state,
            return_attention_weights=True,
        )  # fmt: skip
        outs.append(out.unflatten(0, (2, length)))
        place = here.nonzero().flatten()
        for edge, alpha in zip(
            torch.cat([place, place + edge_index.size(1)]),
            some.second,
            strict=True,
        ):
            weights[int(edge)] = alpha
        start = stop
    out = torch.cat(outs, dim=1).flatten(0, 1)
    # float32; the norm magnifies the rounding of small differences.
    assert close(out, expected, 1e-6)
    second = torch.stack([weights[e] for e in range(both.size(1))])
    assert (second - maps.second).abs().max() <= 1e-6
    assert state.num_keys == (nodes if kind in ROWS else 0)


def test_a_state_says_when_it_does_not_fit():
    conv = layer('decay')
    query, key, value = tensors(9, HEADS, 2)
    with pytest.raises(ValueError, match="Expected 'state' for 2 queries"):
        conv(query[7:], key, value, 'causal')
    state = HistoryState()
    conv(query[:7], key[:7], value[:7], 'causal', state=state)
    assert repr(state) == 'HistoryState(num_keys=7)'
    with pytest.raises(ValueError, match='Expected 8 keys'):
        conv(query[7:8], key[2:], value[2:], 'causal', state=state)
    plan = plan_attention('causal', (18, 4), num_graphs=2)
    both = [torch.cat([x, x]) for x in (query[7:], key, value)]
    with pytest.raises(ValueError, match='2 sequences'):
        conv(*both, plan, state=state)
    last = conv(query[7:], key, value, 'causal', state=state)
    torch.testing.assert_close(last, conv(query, key, value, 'causal')[7:])
    state.reset()
    assert not state
    conv(query, key, value, 'causal', state=state)
    assert state.num_keys == 9


def test_a_state_follows_its_sequences():
    conv, size = layer('runway'), (18, 18)
    inputs = tensors(18, HEADS, 2)
    plan = plan_attention('causal', size, num_graphs=2)
    state, swapped = HistoryState(), HistoryState()
    conv(*inputs, plan, state=state)
    order = torch.tensor([1, 0])
    conv(
        *(x.unflatten(0, (2, 9))[order].flatten(0, 1) for x in inputs),
        plan, state=swapped,
    )  # fmt: skip
    swapped.reorder(order)
    torch.testing.assert_close(swapped.received, state.received)
