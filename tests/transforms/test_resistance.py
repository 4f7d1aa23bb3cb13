import math
from itertools import combinations, permutations
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from attributed import causal_data, check_aligned, edge_set, undirected_data
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.spectral.resistance import Kind, effective_resistance
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.resistance import ResistanceRewiring

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
Pair = tuple[int, int]
Events = list[tuple[Pair | None, Pair | None]]


def events(changes: Changes, mutual: bool) -> Events:
    """The pair that is added and the one that is removed in each step."""
    found: Events = []
    for step in range(changes.num_steps):
        now = changes.step == step
        pairs: list[Pair | None] = []
        for adds in (True, False):
            edges = changes.edge_index[:, now & (changes.is_added == adds)]
            several = [(u, v) for u, v in edges.T.tolist()]
            if mutual:
                assert {(v, u) for u, v in several} == set(several)
            assert len(several) <= (2 if mutual else 1)
            pairs.append(min(several, default=None))
        found.append((pairs[0], pairs[1]))
    return found


class Naive:
    """All resistances of the graph as it is by now, and brute force."""

    def __init__(
        self, A: Tensor, kind: Kind, hops: float | None, mutual: bool
    ) -> None:
        self.A, self.there = A.clone(), A > 0
        self.kind, self.hops, self.mutual = kind, hops, mutual
        self.used: set[Pair] = set()

    def resistances(self, there: bool) -> dict[Pair, float]:
        R = effective_resistance(self.A, kind=self.kind, hops=self.hops)
        size = range(len(self.A))
        causal = not self.mutual and not self.A.triu().any()
        ordered = combinations if self.mutual or causal else permutations
        return {
            (j, i): R[i, j].item()
            for j, i in ordered(size, 2)
            if self.there[i, j] == there and (j, i) not in self.used
        }

    def change(self, pair: Pair, weight: float) -> None:
        self.used.add(pair)
        for j, i in {pair, pair[::-1]} if self.mutual else {pair}:
            self.A[i, j] = weight
            self.there[i, j] = weight > 0

    def add(self) -> Pair | None:
        found = self.resistances(there=False)
        if not found:
            return None
        top = max(found.values())
        pair = min(p for p, r in found.items() if r >= top * (1 - 1e-9))
        self.change(pair, 1.0)
        return pair

    def remove(self) -> Pair | None:
        found = self.resistances(there=True)
        while found:
            top = min(found.values())
            j, i = min(p for p, r in found.items() if r <= top * (1 + 1e-9))
            del found[j, i]
            flow = nx.from_numpy_array(
                self.A.T.numpy(), create_using=nx.DiGraph
            )
            flow.remove_edges_from(
                [(j, i), (i, j)] if self.mutual else [(j, i)]
            )
            if nx.has_path(flow, j, i):
                self.change((j, i), 0.0)
                return j, i
        return None

    def run(self, adds: int, removes: int) -> tuple[Events, list[float]]:
        found: Events = []
        trace = [self.largest()]
        for step in range(max(adds, removes)):
            added = self.add() if step < adds else None
            removed = self.remove() if step < removes else None
            if added is None and removed is None:
                break
            found.append((added, removed))
            trace.append(self.largest())
        return found, trace

    def largest(self) -> float:
        return max(self.resistances(there=False).values(), default=0.0)


def check(
    edges: Tensor,
    weight: Tensor | None,
    size: int,
    method: ResistanceRewiring,
    mutual: bool = True,
) -> Changes:
    A = edges_to_dense(edges, weight, size).double()
    naive = Naive(A, method.kind, method.hops, mutual)
    changes = method.plan(edges, weight, size)
    expected, trace = naive.run(method.num_edges, method.num_removed)
    assert events(changes, mutual) == expected
    # Updated some times, with few digits lost each time.
    assert changes.trace.tolist() == pytest.approx(trace, rel=1e-9)
    assert changes.objective == 'largest resistance'
    return changes


@pytest.mark.parametrize('budget', [(4, 0), (0, 4), (4, 4), (2, 5)])
@pytest.mark.parametrize('name', NETWORKS)
def test_classical(name: str, budget: tuple[int, int]) -> None:
    graph = NETWORKS[name]
    method = ResistanceRewiring(*budget)
    check(edges_of(graph), None, len(graph), method)


@pytest.mark.parametrize('name', ['gnm-31', 'tree', 'barbell'])
def test_classical_with_weights(name: str) -> None:
    graph = NETWORKS[name]
    edges = edges_of(graph)
    half = edges.size(1) // 2
    generator = torch.Generator().manual_seed(0)
    # Some edges carry nearly all that their ends exchange, and are no bridges.
    weight = 10 ** (4 * torch.rand(half, generator=generator).double() - 2)
    weight = torch.cat([weight, weight])
    check(edges, weight, len(graph), ResistanceRewiring(6, 6))
    ignored = ResistanceRewiring(6, 6, weighted=False).plan(edges, weight)
    plain = ResistanceRewiring(6, 6).plan(edges)
    assert torch.equal(ignored.edge_index, plain.edge_index)


def test_by_hand() -> None:
    # The ends of a path of three edges are 3 apart. In the ring of four that
    # this makes, each edge has 3 / 4, and without the first of them the pairs
    # along the path 0 - 3 - 2 - 1 that have no edge but once had are left out.
    changes = ResistanceRewiring(1, 1).plan(edges_of(nx.path_graph(4)))
    assert events(changes, True) == [((0, 3), (0, 1))]
    assert changes.trace.tolist() == pytest.approx([3, 2])
    assert not changes.exhausted


def test_components_are_joined_first() -> None:
    parts = [nx.cycle_graph(4), nx.empty_graph(1), nx.path_graph(3)]
    graph = nx.disjoint_union_all(parts)
    changes = check(edges_of(graph), None, 8, ResistanceRewiring(3))
    assert changes.trace[:2].tolist() == [math.inf, math.inf]
    assert events(changes, True)[:2] == [((0, 4), None), ((0, 5), None)]


def test_edges_that_do_not_conduct() -> None:
    # 0 - 1 - 2 - 0 with nothing on the last; 3 on its own but for such one.
    edges = torch.tensor([[0, 1, 0, 2], [1, 2, 2, 3]])
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    weight = torch.tensor([1.0, 2, 0, 0] * 2)
    changes = ResistanceRewiring(1, 9).plan(edges, weight)
    assert events(changes, True) == [
        ((0, 3), (0, 2)),
        (None, (2, 3)),
    ]
    assert changes.exhausted


def test_bridges_stay() -> None:
    changes = ResistanceRewiring(0, 3).plan(edges_of(NETWORKS['tree']))
    assert changes.edge_index.numel() == 0
    assert changes.exhausted
    graph = NETWORKS['barbell']
    out = ResistanceRewiring(0, 99)(
        Data(edge_index=edges_of(graph), num_nodes=10)
    )
    left = nx.Graph(out.edge_index.T.tolist())
    assert nx.is_tree(left)
    assert left.has_edge(4, 5)


@pytest.mark.parametrize('budget', [(5, 0), (0, 4), (4, 4)])
@pytest.mark.parametrize(
    ('kind', 'hops'),
    [
        ('causal', None),
        ('causal', 2.0),
        ('restart', None),
        ('restart', 1.5),
        ('lyapunov', None),
        ('escape', None),
    ],
)
def test_directed_kinds_on_causal_graphs(
    kind: Kind, hops: float | None, budget: tuple[int, int]
) -> None:
    method = ResistanceRewiring(*budget, kind=kind, hops=hops)
    for name in ('window-and-sink', 'sparse-causal'):
        graph = DIGRAPHS[name]
        changes = check(edges_of(graph), None, len(graph), method, False)
        assert (changes.edge_index[0] < changes.edge_index[1]).all()


@pytest.mark.parametrize('kind', ['escape', 'restart', 'lyapunov'])
@pytest.mark.parametrize('name', ['gnp-15', 'gnp-9-dense'])
def test_directed_kinds_on_digraphs(name: str, kind: Kind) -> None:
    graph = DIGRAPHS[name]
    edges = edges_of(graph)
    generator = torch.Generator().manual_seed(2)
    weight = torch.rand(edges.size(1), generator=generator).double() + 0.1
    hops = 3.0 if kind == 'restart' else None
    method = ResistanceRewiring(3, 3, kind=kind, hops=hops)
    check(edges, weight, len(graph), method, mutual=False)


@pytest.mark.parametrize('kind', ['escape', 'lyapunov'])
def test_directed_kinds_of_undirected_graphs_are_classical(kind: Kind) -> None:
    edges = edges_of(NETWORKS['gnm-31'])
    changes = check(edges, None, 31, ResistanceRewiring(3, 3, kind=kind))
    classical = ResistanceRewiring(3, 3).plan(edges)
    assert torch.equal(changes.edge_index, classical.edge_index)


def test_weights_that_differ_by_direction_make_a_digraph() -> None:
    edges = edges_of(NETWORKS['gnm-19-dense'])
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(edges.size(1), generator=generator).double() + 0.1
    method = ResistanceRewiring(3, 3, kind='escape')
    check(edges, weight, 19, method, mutual=False)
    ignored = ResistanceRewiring(3, 3, kind='escape', weighted=False)
    assert torch.equal(
        ignored.plan(edges, weight).edge_index, method.plan(edges).edge_index
    )


def test_unheard_tokens_come_first() -> None:
    # Token 3 hears 2, 2 hears 1; 1 hears no one, nor does 0 matter to any.
    edges = torch.tensor([[1, 2], [2, 3]])
    changes = ResistanceRewiring(3, kind='causal').plan(edges)
    assert changes.added.T.tolist()[0] == [0, 1]
    assert changes.trace.isfinite().tolist() == [False, True, True, True]


def test_repeated_edges_count_once_without_weights() -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    twice = torch.cat([edges, edges[:, :4]], dim=1)
    weight = torch.rand(twice.size(1), generator=torch.Generator())
    plain = ResistanceRewiring(4, 2, kind='causal').plan(edges)
    for method, given_weight in [
        (ResistanceRewiring(4, 2, kind='causal'), None),
        (ResistanceRewiring(4, 2, kind='causal', weighted=False), weight),
    ]:
        changes = method.plan(twice, given_weight)
        assert torch.equal(changes.edge_index, plain.edge_index)
        assert torch.allclose(changes.trace, plain.trace)


@pytest.mark.parametrize('kind', ['undirected', 'causal', 'restart', 'escape'])
@pytest.mark.parametrize('size', [1, 2, 4])
def test_there_is_an_end(size: int, kind: Kind) -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    pairs = size * (size - 1) // 2
    changes = ResistanceRewiring(99, kind=kind).plan(none, num_nodes=size)
    added = {tuple(edge) for edge in changes.added.T.tolist()}
    assert added == set(combinations(range(size), 2))
    assert len(added) == changes.num_steps == pairs
    assert changes.exhausted
    assert changes.trace[-1] == 0
    assert (
        not ResistanceRewiring(pairs, kind=kind)
        .plan(none, num_nodes=size)
        .exhausted
    )


def test_a_small_budget_is_the_beginning_of_a_large_one() -> None:
    edges = edges_of(NETWORKS['karate'])
    large = ResistanceRewiring(9, 9).plan(edges)
    small = ResistanceRewiring(4, 4).plan(edges)
    assert torch.equal(large.first(4).edge_index, small.edge_index)
    assert torch.equal(large.first(4).trace, small.trace)


@PROPERTY
@given(
    data=undirected_data() | causal_data(),
    kind=st.sampled_from(['undirected', 'escape', 'restart']),
)
def test_nothing_else_changes(data: Data, kind: Kind) -> None:
    causal = bool((data.edge_index[0] <= data.edge_index[1]).all())
    if kind == 'restart' and not causal:
        return
    before = data.clone()
    out, changes = ResistanceRewiring(3, 2, kind=kind).rewire(data)
    check_aligned(data, out)
    edges = edge_set(out.edge_index)
    assert len(edges) == out.edge_index.size(1)
    assert not any(u == v for u, v in edges - edge_set(data.edge_index))
    assert not edge_set(changes.added) & edge_set(changes.removed)
    if causal:
        assert all(u <= v for u, v in edges)
    elif kind == 'undirected':
        assert edges == {(v, u) for u, v in edges}
    assert torch.equal(data.edge_index, before.edge_index)
    assert torch.equal(data.edge_weight, before.edge_weight)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'num_edges': -1}, "'num_edges' to be at least 0"),
        ({'num_edges': 1, 'num_removed': -2}, "'num_removed'"),
        ({'num_edges': 1, 'kind': 'classical'}, "'kind' to be one of"),
        ({'num_edges': 1, 'hops': 2.0}, "hops=None for kind='undirected'"),
        (
            {'num_edges': 1, 'kind': 'escape', 'hops': -1.0},
            "'hops' to be a finite number",
        ),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResistanceRewiring(**arguments)


def test_a_kind_that_does_not_fit_the_graph() -> None:
    with pytest.raises(ValueError, match="causal graph for kind='causal'"):
        ResistanceRewiring(1, kind='causal').plan(edges_of(NETWORKS['tree']))


def test_it_says_what_it_is() -> None:
    method = ResistanceRewiring(2, 1)
    assert repr(method) == (
        'ResistanceRewiring(num_edges=2, num_removed=1, '
        "kind='undirected', hops=None, weighted=True, causal=None)"
    )
    assert not method.static
    assert ResistanceRewiring(2, weighted=False).static


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from gnnbridge.transforms import resistance_network, resistance_table

    edges = edges_of(NETWORKS['barabasi-albert-43'])
    whole = ResistanceRewiring(5, 5).plan(edges)
    for module in (resistance_network, resistance_table):
        monkeypatch.setattr(module, '_ENTRIES', 100)
    changes = ResistanceRewiring(5, 5).plan(edges)
    assert torch.equal(changes.edge_index, whole.edge_index)
    assert np.allclose(changes.trace, whole.trace, rtol=1e-12)
