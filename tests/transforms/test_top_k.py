import pytest
import torch
from attributed import attributed, causal_data, check_aligned, edge_set
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from gnnbridge.graph.sparsify import sparsify
from gnnbridge.transforms.top_k import TopK

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


@PROPERTY
@given(causal_data(), st.integers(1, 5), st.booleans())
def test_keeps_the_heaviest_of_each_target(
    data: Data, k: int, tied: bool
) -> None:
    if tied:
        data.edge_weight = (data.edge_weight * 2).round() / 2
    before = data.clone()
    rows: dict[int, list[tuple[float, int]]] = {}
    weight = data.edge_weight.tolist()
    for (j, i), w in zip(data.edge_index.T.tolist(), weight, strict=True):
        rows.setdefault(i, []).append((-w, j))
    expected = {(j, i) for i, row in rows.items() for _, j in sorted(row)[:k]}
    out = TopK(k)(data)
    assert edge_set(out.edge_index) == expected
    check_aligned(data, out)
    assert torch.equal(data.edge_index, before.edge_index)
    assert ('edge_type' in out) == ('edge_type' in data)
    if data.num_edges > 0:
        same = sparsify(data, top_k=k)
        assert edge_set(same.edge_index) == expected


def test_any_order_and_any_graph() -> None:
    edges = torch.tensor([[3, 0, 1, 2, 1], [0, 3, 0, 0, 2]])
    data = attributed(edges, 5)
    data.edge_weight = torch.tensor([0.5, 0.1, 0.5, 0.9, 0.2])
    out = TopK(2)(data)
    # Nodes 1 and 3 are as heavy: the smaller stays.
    assert out.edge_index.tolist() == [[0, 1, 2, 1], [3, 0, 0, 2]]
    check_aligned(data, out)


def test_repeated_edges_are_one() -> None:
    edges = torch.tensor([[0, 1, 0], [2, 2, 2]])
    weight = torch.tensor([0.3, 0.5, 0.3])
    assert TopK(1).plan(edges, weight).removed.tolist() == [[1], [2]]
    out = TopK(1)(Data(edge_index=edges, edge_weight=weight, num_nodes=3))
    assert out.edge_index.tolist() == [[0, 0], [2, 2]]


def test_batches() -> None:
    data = [attributed(torch.tensor([[0, 1], [2, 2]]), 3, s) for s in (0, 1)]
    batch = TopK(1)(Batch.from_data_list(data))
    assert batch.num_edges == 2


def test_needs_weights() -> None:
    with pytest.raises(ValueError, match="with 'edge_weight'"):
        TopK(1).plan(torch.tensor([[0], [1]]))
    with pytest.raises(ValueError, match="'k' to be at least 1"):
        TopK(0)
    assert not TopK.static
    assert not TopK.adds
    assert repr(TopK(3)) == 'TopK(k=3, causal=None)'
