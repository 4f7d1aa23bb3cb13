import numpy as np
import pytest
import torch

from gnnbridge.curvature.simple_graph import in_chunks, read_graph


def test_values_go_back_where_the_edges_were() -> None:
    edges = torch.tensor([[2, 1, 0, 2, 1], [0, 1, 2, 0, 2]])
    weight = torch.tensor([1.0, 9.0, 2.0, 3.0, 5.0])
    graph = read_graph(edges, weight, None, None)
    assert graph.edge_index.tolist() == [[0, 1, 2], [2, 2, 0]]
    assert graph.weight is not None
    assert graph.weight.tolist() == [2, 5, 4]
    assert graph.directed
    values = graph.spread(torch.tensor([10.0, 20.0, 30.0]))
    assert values.tolist() == [30, 0, 10, 30, 20]


def test_adjacency_has_a_row_for_each_source() -> None:
    graph = read_graph(torch.tensor([[0, 1], [1, 2]]), None, 4, None)
    expected = [[0, 1, 0, 0], [0, 0, 1, 0], [0] * 4, [0] * 4]
    assert graph.adjacency().toarray().tolist() == expected


def test_reverse_of_each_edge() -> None:
    edges = torch.tensor([[0, 2, 1, 0], [1, 0, 0, 2]])
    graph = read_graph(edges, None, None, None)
    assert not graph.directed
    assert torch.equal(
        graph.edge_index[:, graph.reverse], graph.edge_index.flip(0)
    )


@pytest.mark.parametrize('limit', [1, 7, 10**6])
def test_chunks_are_all_items_in_order(limit: int) -> None:
    work = np.array([3, 0, 0, 9, 1, 1, 30, 2])
    chunks = list(in_chunks(work, limit))
    covered = [k for chunk in chunks for k in range(8)[chunk]]
    assert covered == list(range(8))
    assert all(work[chunk][1:].sum() < limit for chunk in chunks)


def test_no_items_have_no_chunks() -> None:
    assert list(in_chunks(np.zeros(0, dtype=np.int64), 5)) == []
