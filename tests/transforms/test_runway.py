from typing import Any

import pytest
import torch
from attributed import attributed, causal_data, check_aligned, edge_set
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import edges_of, random_causal, random_walk, window
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.transforms.runway import RunwayRewiring

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def rewired(A: Tensor, *args: Any, **options: Any) -> Tensor:
    edges, weight = edges_of(A)
    data = Data(edge_index=edges, edge_weight=weight, num_nodes=len(A))
    out = RunwayRewiring(*args, **options)(data)
    return edges_to_dense(out.edge_index, out.edge_weight, len(A))


def runway_by_paths(A: Tensor, survival: float = 1.0) -> Tensor:
    """All paths of two and more steps of a causal graph, one by one.

    The walk goes on with a probability before each step; steps to itself are
    a geometric series.
    """
    n = len(A)
    step = survival * A / A.sum(1, keepdim=True)
    stay = step.diag()[:, None]
    step = step / (1 - stay).where(stay < 1, 1)
    indirect = torch.zeros_like(A)

    def follow(start: int, at: int, share: float, length: int) -> None:
        for j in range(at):
            onward = share * float(step[at, j])
            if onward > 0:
                if length > 0:
                    indirect[start, j] += onward
                follow(start, j, onward, length + 1)

    for i in range(n):
        follow(i, i, 1.0, 0)
    return indirect


def by_definition(
    A: Tensor, strength: float, support: Tensor, survival: float = 1.0
) -> Tensor:
    runway = runway_by_paths(A, survival) * support
    total = runway.sum(1, keepdim=True)
    own = A.diag().diag()
    others = A - own
    leaving = others.sum(1, keepdim=True)
    mixed = (1 - strength) * others + strength * leaving * runway / total
    return own + others.where(total == 0, mixed)


@pytest.mark.parametrize('strength', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('density', [1.0, 0.4])
def test_weights_are_those_of_all_paths(
    strength: float, density: float
) -> None:
    A = random_causal(9, seed=1, density=density)
    support = (A > 0) & ~torch.eye(9, dtype=torch.bool)
    expected = by_definition(A, strength, support)
    torch.testing.assert_close(rewired(A, strength=strength), expected)
    everything = torch.ones(9, 9, dtype=torch.bool).tril(-1)
    torch.testing.assert_close(
        rewired(A, None, strength=strength),
        by_definition(A, strength, everything),
    )


def test_hops_are_those_of_a_killed_walk() -> None:
    A = random_causal(8, seed=2, density=0.7)
    support = (A > 0) & ~torch.eye(8, dtype=torch.bool)
    torch.testing.assert_close(
        rewired(A, hops=3.0),
        by_definition(A, 0.5, support, survival=3 / 4),
    )
    # Few steps: nothing indirect.
    torch.testing.assert_close(rewired(A, hops=0.0), A)


def test_uniform_attention() -> None:
    # The walk gets from i to j < i with probability 1 / (j + 1).
    n = 12
    A = torch.ones(n, n, dtype=torch.float64).tril()
    A = A / A.sum(1, keepdim=True)
    i = torch.arange(n, dtype=torch.float64)[:, None]
    runway = (1 / (i.T + 1) - 1 / i.clamp(min=1)).tril(-1)
    share = runway / runway.sum(1, keepdim=True).clamp(min=1e-300)
    others = A - A.diag().diag()
    expected = A.clone()
    mixed = 0.5 * others + 0.5 * others.sum(1, keepdim=True) * share
    # Tokens 0 and 1 have no indirect path.
    expected[2:] = (mixed + A.diag().diag())[2:]
    torch.testing.assert_close(rewired(A), expected)


def test_path() -> None:
    # From i the walk gets everywhere before, and only to i - 1 directly.
    A = window(7, 2)
    support = rewired(A)
    torch.testing.assert_close(support, A)  # No indirect path over an edge.
    all_pairs = rewired(A, None, strength=1.0)
    for i in range(2, 7):
        expected = torch.zeros(7, dtype=torch.float64)
        expected[: i - 1] = 0.5 / (i - 1)
        expected[i] = 0.5
        torch.testing.assert_close(all_pairs[i], expected)


def test_added_edges_are_the_largest_first() -> None:
    A = window(7, 2)
    edges, weight = edges_of(A)
    # All indirect paths of row i weigh 1 / (i - 1): token 2 has one.
    plans = [
        RunwayRewiring(k).plan(edges, weight, num_nodes=7) for k in range(17)
    ]
    assert plans[4].added.T.tolist() == [[0, 2], [0, 3], [1, 3], [0, 4]]
    for few in plans[:15]:
        count = few.added.size(1)
        assert torch.equal(few.added, plans[15].added[:, :count])
    assert [plan.exhausted for plan in plans] == [False] * 16 + [True]


@PROPERTY
@given(causal_data(), st.sampled_from([0, 3, None]))
def test_causal_graphs(data: Data, num_edges: int | None) -> None:
    before = data.clone()
    out, changes = RunwayRewiring(num_edges).rewire(data)
    assert (changes.added[0] < changes.added[1]).all()
    assert changes.removed.numel() == 0
    assert len(edge_set(out.edge_index)) == out.num_edges
    check_aligned(data, out, reweighted=True)
    rows = [
        torch.zeros(data.num_nodes, dtype=torch.float64).index_add(
            0, graph.edge_index[1], graph.edge_weight
        )
        for graph in (data, out)
    ]
    torch.testing.assert_close(*rows)
    loops = data.edge_index[0] == data.edge_index[1]
    kept = out.edge_weight[: data.num_edges]
    assert torch.equal(kept[loops], data.edge_weight[loops])
    assert torch.equal(data.edge_weight, before.edge_weight)


def test_graphs_that_are_not_causal() -> None:
    A = random_walk(6, seed=0)
    out = rewired(A, strength=1.0)
    # The walk gets everywhere.
    step = A - A.diag().diag()
    step = step / step.sum(1, keepdim=True)
    runway = (1 - step).fill_diagonal_(0)
    expected = (1 - A.diag())[:, None] * runway / runway.sum(1, keepdim=True)
    torch.testing.assert_close(out, expected + A.diag().diag())


def test_repeated_edges_and_edges_without_weights() -> None:
    once = torch.tensor([[0, 0, 1], [1, 2, 2]])
    twice = torch.tensor([[0, 0, 1, 0], [1, 2, 2, 2]])
    weight = torch.tensor([1.0, 0.5, 0.5])
    parts = torch.tensor([1.0, 0.25, 0.5, 0.25])
    one = RunwayRewiring()(
        Data(edge_index=once, edge_weight=weight, num_nodes=3)
    )
    two = RunwayRewiring()(
        Data(edge_index=twice, edge_weight=parts, num_nodes=3)
    )
    # Row 2: half of (1/2, 1/2), and half of the only runway, to token 0.
    assert one.edge_weight.tolist() == [1, 0.75, 0.25]
    assert two.edge_weight.tolist() == [1, 0.375, 0.25, 0.375]
    A = random_causal(7, seed=3)
    edges, weight = edges_of(A)
    half = torch.cat([edges, edges[:, ::2]], dim=1)
    weights = torch.cat([weight, weight[::2] / 2])
    weights[: edges.size(1) : 2] /= 2
    out = RunwayRewiring()(
        Data(edge_index=half, edge_weight=weights, num_nodes=7)
    )
    merged = edges_to_dense(out.edge_index, out.edge_weight, 7)
    torch.testing.assert_close(merged, rewired(A))
    plain = RunwayRewiring()(Data(edge_index=once, num_nodes=3))
    assert plain.edge_weight.tolist() == [1, 1.5, 0.5]


def test_small_graphs_and_batches() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    out, changes = RunwayRewiring(2).rewire(Data(edge_index=none, num_nodes=2))
    assert out.edge_index.numel() == 0
    assert changes.exhausted
    data = attributed(torch.tensor([[0, 0, 1], [1, 2, 2]]), 3)
    batch = RunwayRewiring()(Batch.from_data_list([data, data]))
    expected = RunwayRewiring()(data).edge_weight
    assert torch.equal(batch.edge_weight, expected.repeat(2))


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'num_edges': -1}, "'num_edges'"),
        ({'strength': 1.1}, "'strength'"),
        ({'hops': -1.0}, "'hops'"),
    ],
)
def test_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RunwayRewiring(**options)
