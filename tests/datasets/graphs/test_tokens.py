"""Token tasks against a lookup in plain Python."""

import pytest
import torch

from gnnbridge.datasets.graphs import causal_copy, key_value_graphs
from gnnbridge.graph.schema import is_causal


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('window', [None, 3])
@pytest.mark.parametrize('lag', [None, 0, 4, 8])
def test_the_last_token_gives_an_earlier_one(lag, window):
    graphs = causal_copy(
        30, length=9, num_symbols=4, lag=lag, window=window, generator=seeded()
    )
    seen = set()
    for graph in graphs:
        tokens, places = graph.x.T.tolist()
        assert places == graph.position.tolist() == list(range(9))
        wanted = tokens[0] if lag is None else tokens[::-1][lag]
        assert graph.y.tolist() == [wanted]
        assert graph.target_mask.tolist() == [False] * 8 + [True]
        assert graph.x.dtype == torch.int64
        seen |= set(tokens)
    assert seen == set(range(4))


@pytest.mark.parametrize('window', [None, 1, 2, 5])
def test_tokens_see_what_their_window_holds(window):
    width = 7 if window is None else window
    expected = [
        [j, i] for i in range(7) for j in range(max(0, i - width + 1), i + 1)
    ]
    graphs = [
        *causal_copy(
            2, length=7, num_symbols=2, window=window, generator=seeded()
        ),
        *key_value_graphs(
            2, num_pairs=3, num_symbols=4, window=window, generator=seeded()
        ),
    ]
    for graph in graphs:
        assert graph.edge_index.T.tolist() == expected
        assert is_causal(graph)


@pytest.mark.parametrize(('pairs', 'symbols'), [(1, 2), (3, 3), (4, 8)])
def test_the_last_key_gives_its_value(pairs, symbols):
    graphs = key_value_graphs(
        200, num_pairs=pairs, num_symbols=symbols, generator=seeded()
    )
    asked_for = set()
    for graph in graphs:
        *bound, asked = graph.x[:, 0].tolist()
        keys, values = bound[::2], bound[1::2]
        assert len(set(keys)) == pairs
        assert all(0 <= key < symbols for key in keys)
        assert all(symbols <= value < 2 * symbols for value in values)
        answer = dict(zip(keys, values, strict=True))[asked]
        assert graph.y.tolist() == [answer - symbols]
        assert graph.x[:, 1].tolist() == list(range(2 * pairs + 1))
        assert graph.target_mask.tolist() == [False] * 2 * pairs + [True]
        asked_for.add(keys.index(asked))
    # Whichever pair it is.
    assert asked_for == set(range(pairs))


def test_the_generator_decides_everything():
    def drawn(seed):
        graphs = [
            *causal_copy(4, length=9, num_symbols=5, generator=seeded(seed)),
            *key_value_graphs(
                4, num_pairs=3, num_symbols=6, generator=seeded(seed)
            ),
        ]
        return [(graph.x.tolist(), graph.y.tolist()) for graph in graphs]

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize(
    ('draw', 'sizes', 'message'),
    [
        (causal_copy, {'length': 0, 'num_symbols': 3}, "'length' .* 1"),
        (causal_copy, {'length': 4, 'num_symbols': 1}, "'num_symbols' .* 2"),
        (
            causal_copy,
            {'length': 4, 'num_symbols': 3, 'lag': 4},
            r"'lag' .* 4 tokens \(got 4\)",
        ),
        (
            causal_copy,
            {'length': 4, 'num_symbols': 3, 'lag': -1},
            "'lag' .* 0",
        ),
        (
            causal_copy,
            {'length': 4, 'num_symbols': 3, 'window': 0},
            "'window' .* 1",
        ),
        (
            key_value_graphs,
            {'num_pairs': 5, 'num_symbols': 4},
            'at most 4 distinct keys .*got 5',
        ),
        (
            key_value_graphs,
            {'num_pairs': 0, 'num_symbols': 4},
            "'num_pairs' .* 1",
        ),
    ],
)
def test_sizes_that_make_no_task_are_refused(draw, sizes, message):
    with pytest.raises(ValueError, match=message):
        draw(3, **sizes, generator=seeded())
