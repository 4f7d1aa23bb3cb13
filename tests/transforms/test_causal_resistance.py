"""Causal resistance rewiring against trying every edge."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal
from torch_geometric.data import Data

from gnnbridge.graph import (
    block_graph,
    causal_graph,
    is_causal,
    sliding_window_graph,
)
from gnnbridge.spectral import effective_resistance, resistance_gradient
from gnnbridge.transforms.causal_objective import (
    TotalResistance,
    WorstResistance,
)
from gnnbridge.transforms.causal_resistance import CausalResistanceRewiring
from gnnbridge.transforms.causal_walk import CausalWalk

DEPTHS = [None, 1.5, 6.0]


def matrix(data):
    """Weights ``[N, N]``, row = receiver; ones without weights."""
    A = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.float64)
    weight = data.get('edge_weight')
    weight = torch.ones(data.num_edges) if weight is None else weight
    A[data.edge_index[1], data.edge_index[0]] = weight.double()
    return A


def attention(weight):
    total = weight.sum(1, keepdim=True)
    share = weight / total.clamp(min=1e-300)
    return torch.where(total > 0, share, torch.eye(len(weight)).double())


def values(weight, hops, objective='total'):
    """Unconnected pairs and the objective, by the library's own solver."""
    R = effective_resistance(attention(weight), hops=hops)
    n = len(weight)
    below = torch.ones(n, n).tril(-1).bool()
    if objective == 'last':
        below[:-1] = False
    R = R[below]
    finite = R[R.isfinite()]
    value = finite.max() if objective == 'worst' else finite.sum()
    return int(R.isinf().sum()), float(value) if finite.numel() else 0.0


def best_addition(weight, hops, objective):
    """The edge after which the objective is least, by trying all of them."""
    count = (weight > 0).sum(1)
    found = []
    for source, a in itertools.combinations(range(len(weight)), 2):
        if weight[a, source] > 0:
            continue
        new = weight.clone()
        mean = weight[a].sum() / count[a] if count[a] > 0 else 1.0
        new[a, source] = mean
        found.append((*values(new, hops, objective), source, a, new))
    return smallest(found)


def smallest(found):
    fewest = min(apart for apart, *_ in found)
    found = [pick for pick in found if pick[0] == fewest]
    least = min(value for _, value, *_ in found)
    return next(p for p in found if p[1] <= least * (1 + 1e-12))


def reaches(weight):
    n = len(weight)
    step = ((weight > 0) | torch.eye(n).bool()).double()
    return torch.linalg.matrix_power(step, n) > 0


def weighted(n, seed, share=0.4):
    """A random causal graph of attention with a path through all tokens."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(n, n, generator=generator).double().tril()
    keep = torch.rand(n, n, generator=generator) < share
    keep |= torch.eye(n).bool() | torch.eye(n).roll(-1, 1).bool()
    A = (A * keep).tril()
    A = A / A.sum(1, keepdim=True)
    target, source = A.nonzero(as_tuple=True)
    return Data(
        edge_index=torch.stack([source, target]),
        edge_weight=A[target, source],
        num_nodes=n,
    )


GRAPHS = {
    'window': sliding_window_graph(9, 2),
    'sink': sliding_window_graph(9, 2, 1),
    'wide': sliding_window_graph(8, 4, 1),
    'blocks': block_graph(9, 4),
    'weighted': weighted(8, 1),
    'loops': Data(edge_index=torch.arange(5).expand(2, 5), num_nodes=5),
    'empty': Data(edge_index=torch.empty(2, 0).long(), num_nodes=4),
}


@pytest.mark.parametrize('hops', DEPTHS)
@pytest.mark.parametrize('objective', ['total', 'worst', 'last'])
@pytest.mark.parametrize('name', GRAPHS)
def test_each_edge_is_the_best_of_all(name, objective, hops):
    data = GRAPHS[name]
    transform = CausalResistanceRewiring(3, objective=objective, hops=hops)
    out, changes = transform.rewire(data)
    weight = matrix(data)
    added = changes.added.T.tolist()
    for number, edge in enumerate(added):
        _, value, source, a, weight = best_addition(weight, hops, objective)
        assert edge == [source, a]
        # Sums of tens of terms in another order.
        assert float(changes.trace[number + 1]) == pytest.approx(value, 1e-9)
    if len(added) < 3:
        # It stopped since every edge would have done harm.
        assert changes.exhausted
        before = values(weight, hops, objective)
        assert best_addition(weight, hops, objective)[:2] >= before
    torch.testing.assert_close(attention(matrix(out)), attention(weight))


@pytest.mark.parametrize('hops', DEPTHS)
@pytest.mark.parametrize('name', ['sink', 'wide', 'weighted', 'blocks'])
def test_each_removal_does_the_least_harm(name, hops):
    data = GRAPHS[name]
    out, changes = CausalResistanceRewiring(3, hops=hops, delete=True).rewire(
        data
    )
    weight = matrix(data)
    for edge in changes.edge_index.T.tolist():
        reach, found = reaches(weight), []
        for a, source in weight.tril(-1).nonzero().tolist():
            new = weight.clone()
            new[a, source] = 0
            if torch.equal(reaches(new)[a], reach[a]) and new[a].any():
                found.append((*values(new, hops), source, a, new))
        *_, source, a, weight = smallest(sorted(found, key=lambda p: p[2:4]))
        assert edge == [source, a]
    assert torch.equal(reaches(matrix(out)), reaches(matrix(data)))
    assert changes.added.numel() == 0


@pytest.mark.parametrize('hops', DEPTHS)
@pytest.mark.parametrize('objective', ['total', 'worst'])
@pytest.mark.parametrize('name', ['window', 'sink', 'weighted', 'blocks'])
def test_rows_take_what_is_best_for_themselves(name, objective, hops):
    data = GRAPHS[name]
    transform = CausalResistanceRewiring(
        edges_per_token=4, objective=objective, hops=hops
    )
    changes = transform.rewire(data)[1]
    weight = matrix(data)
    picks = iter(changes.added.T.tolist())
    for a in range(len(weight)):
        row = weight[a].clone()
        mean = row.sum() / max(int((row > 0).sum()), 1)
        while (row > 0).sum() < min(4, a + 1) and (row[:a] == 0).any():
            found = []
            for source in (row[:a] == 0).nonzero().flatten().tolist():
                new = weight[: a + 1, : a + 1].clone()
                new[a] = row[: a + 1]
                new[a, source] = mean
                found.append((*values(new, hops, 'last'), source))
                if objective == 'worst':
                    R = effective_resistance(attention(new), hops=hops)[a, :a]
                    worst = float(R[R.isfinite()].max())
                    found[-1] = (found[-1][0], worst, source)
            source = smallest(found)[2]
            assert next(picks) == [source, a]
            row[source] = mean
        weight[a] = row
    assert next(picks, None) is None


def test_the_trace_of_rows_is_the_total_after_each_token():
    data = GRAPHS['sink']
    transform = CausalResistanceRewiring(edges_per_token=4, hops=2.0)
    changes = transform.rewire(data)[1]
    assert changes.num_steps == changes.trace.numel() - 1
    for step in range(changes.num_steps + 1):
        out = changes.first(step).apply(data)
        value = values(matrix(out), 2.0)[1]
        assert float(changes.trace[step]) == pytest.approx(value, 1e-9)


def test_rows_are_thinned_to_their_best():
    out, changes = CausalResistanceRewiring(
        edges_per_token=3, hops=2.0, delete=True
    ).rewire(causal_graph(9))
    degree = matrix(out).count_nonzero(dim=1)
    assert degree.tolist() == [1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert torch.equal(reaches(matrix(out)), reaches(matrix(causal_graph(9))))
    assert not changes.exhausted


def test_longer_sequences_keep_the_rows_of_shorter_ones():
    transform = CausalResistanceRewiring(edges_per_token=5, hops=3.0)
    long = transform(sliding_window_graph(20, 2, 1))
    short = transform(sliding_window_graph(13, 2, 1))
    assert torch.equal(matrix(long)[:13, :13], matrix(short))


@pytest.mark.parametrize('delete', [False, True])
def test_fewer_edges_are_a_prefix(delete):
    data = sliding_window_graph(10, 3, 1)
    many = CausalResistanceRewiring(6, hops=3.0, delete=delete)
    few = CausalResistanceRewiring(4, hops=3.0, delete=delete)
    changes = many.rewire(data)[1].first(4)
    expected = few.rewire(data)[1]
    assert torch.equal(changes.edge_index, expected.edge_index)
    assert torch.equal(changes.trace, expected.trace)


def test_total_resistance_falls_below_that_of_random_edges():
    data = sliding_window_graph(24, 3, 1)
    transform = CausalResistanceRewiring(12, hops=4.0)
    changes = transform.rewire(data)[1]
    weight = matrix(data)
    generator = torch.Generator().manual_seed(0)
    free = ((weight == 0) & torch.ones(24, 24).bool().tril(-1)).nonzero()
    for _ in range(20):
        new = weight.clone()
        chosen = free[torch.randperm(len(free), generator=generator)[:12]]
        new[chosen[:, 0], chosen[:, 1]] = 1
        assert float(changes.trace[-1]) < values(new, 4.0)[1]
    assert (changes.trace.diff() < 0).all()


def test_a_start_chooses_among_the_edges_of_the_input():
    from gnnbridge.transforms.sliding_window import SlidingWindow

    data = weighted(10, 3, share=0.7)
    transform = CausalResistanceRewiring(
        edges_per_token=4, hops=2.0, start=SlidingWindow(2)
    )
    out, changes = transform.rewire(data)
    given = {tuple(edge) for edge in data.edge_index.T.tolist()}
    assert {tuple(edge) for edge in out.edge_index.T.tolist()} <= given
    assert changes.added.numel() == 0
    degree = torch.minimum(torch.tensor(4), matrix(data).count_nonzero(dim=1))
    assert torch.equal(matrix(out).count_nonzero(dim=1), degree)
    # The weights of a row keep their proportions.
    kept, full = matrix(out), matrix(data)
    share = (kept / full).where(kept > 0, math.nan)
    for row in share:
        ratios = row[~row.isnan()]
        torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
    torch.testing.assert_close(kept.sum(1), full.sum(1))


def test_pairs_say_what_counts():
    data = sliding_window_graph(12, 2, 1)
    pairs = torch.zeros(12, 12)
    pairs[9, 4] = 1.0
    changes = CausalResistanceRewiring(1, hops=1.0, pairs=pairs).rewire(data)[1]
    assert changes.added.T.tolist() == [[4, 9]]


@pytest.mark.parametrize('objective', [TotalResistance, WorstResistance])
@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 9),
    seed=st.integers(0, 10_000),
    hops=st.sampled_from(DEPTHS),
    data=st.data(),
)
def test_a_move_is_exact_and_its_bound_below(objective, n, seed, hops, data):
    A = random_causal(n, seed=seed)
    a = data.draw(st.integers(1, n - 1))
    source = data.draw(st.integers(0, a - 1))
    eta = data.draw(st.floats(0.01, 0.99))
    new = A.clone()
    new[a] += eta * (torch.eye(n).double()[source] - A[a])
    aim = objective(torch.ones(n, n).double())
    walk = CausalWalk.on(A, hops)
    sources, move = torch.tensor([source]), A.new_tensor([eta])
    resistance = aim.measure(walk.conductance, aim.pairs)[0]
    rest = aim.rest(resistance)[a]
    value = aim.join(aim.after(walk, a, sources, move), rest)
    _, expected = aim.value(CausalWalk.on(new, hops))
    # Sums and products of tens of terms in another order.
    assert float(value) == pytest.approx(expected, 1e-9)
    bound = aim.join(aim.bound(walk, a, sources, move), rest)
    assert float(bound) <= float(value) * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(4, 9),
    seed=st.integers(0, 10_000),
    hops=st.sampled_from(DEPTHS),
)
def test_a_removal_is_exact(n, seed, hops):
    A = random_causal(n, seed=seed)
    a = n - 2
    walk = CausalWalk.on(A, hops)
    sources = torch.arange(a)
    move = -A[a, :a] / (1 - A[a, :a])
    own = walk.own_row_after(a, sources, move)
    later = walk.h[-1, a] * walk.push(a, sources, move) + walk.h[-1, :a]
    for source in sources.tolist():
        new = A.clone()
        new[a, source] = 0
        after = CausalWalk.on(new, hops)
        scale = 1 / (1 - A[a, source])
        for ours, theirs in (
            (own[source], after.conductance[a, :a]),
            (later[source], after.h[-1, :a]),
        ):
            # What goes is subtracted from what may be hardly more than it.
            torch.testing.assert_close(
                ours, theirs, rtol=0, atol=1e-14 * float(scale)
            )


def test_small_moves_follow_the_gradient():
    A, a = random_causal(8, seed=3), 5
    walk, aim = (
        CausalWalk.on(A, 2.0),
        TotalResistance(torch.ones(8, 8).double()),
    )
    rest = aim.rest(aim.measure(walk.conductance, aim.pairs)[0])[a]
    gradient = resistance_gradient(A, hops=2.0)[a]
    eta = 1e-6
    sources, move = torch.arange(a), torch.full((a,), eta).double()
    value = aim.after(walk, a, sources, move) + rest
    slope = (value - aim.value(walk)[1]) / eta
    # Attention moves away from what the row has, its self-loop included.
    expected = gradient[:a] - A[a] @ gradient
    # An error of the order of the step.
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=1e-3)


def test_the_input_stays_as_it_was_and_rows_keep_their_sums():
    data = weighted(9, 5)
    before = data.clone()
    out = CausalResistanceRewiring(4, hops=2.0)(data)
    assert out.num_edges == data.num_edges + 4
    assert is_causal(out)
    torch.testing.assert_close(matrix(out).sum(1), matrix(data).sum(1))
    assert torch.equal(out.edge_index[:, : data.num_edges], data.edge_index)
    assert out.edge_type.tolist() == [0] * data.num_edges + [1] * 4
    for name, value in before.to_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(data[name], value)


def test_weights_may_be_left_out():
    data = weighted(9, 5)
    plain = Data(edge_index=data.edge_index, num_nodes=9)
    transform = CausalResistanceRewiring(3, weighted=False)
    expected = transform.rewire(plain)[1].added
    assert torch.equal(transform.rewire(data)[1].added, expected)
    assert transform.static
    assert not CausalResistanceRewiring(3).static


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({}, "one of 'num_edges' and 'edges_per_token'"),
        ({'num_edges': 1, 'edges_per_token': 2}, 'one of'),
        ({'num_edges': -1}, 'at least 0'),
        ({'num_edges': 1, 'objective': 'mean'}, "'objective'"),
        ({'edges_per_token': 1, 'objective': 'last'}, "objective='last'"),
        ({'num_edges': 1, 'hops': -1.0}, "'hops'"),
        ({'num_edges': 1, 'causal': False}, "'causal'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalResistanceRewiring(**arguments)


def test_bad_graphs():
    both = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    with pytest.raises(ValueError, match='causal graph'):
        CausalResistanceRewiring(1)(both)
    with pytest.raises(ValueError, match="'pairs' of shape"):
        CausalResistanceRewiring(1, pairs=torch.ones(3, 3))(causal_graph(4))


def test_one_token_has_nothing_to_gain():
    changes = CausalResistanceRewiring(2).rewire(causal_graph(1))[1]
    assert changes.exhausted
    assert changes.edge_index.shape == (2, 0)
