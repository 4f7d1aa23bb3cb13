import numpy as np
import torch
from attributed import attributed, check_aligned
from torch_geometric.data import Data

from gnnbridge.transforms.at_once import (
    both_ways,
    distinct,
    make_at_once,
    missing_from,
)
from gnnbridge.transforms.input_graph import read_data

EDGES = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 3]])


def graph_of(edges: torch.Tensor = EDGES) -> tuple[Data, object]:
    data = attributed(edges, 5)
    return data, read_data(data, None)


def test_removed_come_first_and_all_is_one_step() -> None:
    data, graph = graph_of()
    changes = make_at_once(
        graph,  # type: ignore[arg-type]
        added=np.array([[0, 0, 1], [2, 3, 4]]),
        removed=np.array([[1], [2]]),
        weight=np.array([2.0, 3.0, 4.0]),
        relation=np.array([2, 1, 2]),
    )
    assert changes.is_added.tolist() == [False, True, True, True]
    assert changes.num_steps == 1
    assert changes.first(3) is changes
    assert changes.first(0).edge_index.numel() == 0
    out = changes.apply(data)
    check_aligned(data, out)
    # Types 0, 1, 2, 0 without the second: the largest is 2.
    assert out.edge_type.tolist() == [0, 2, 0, 4, 3, 4]
    assert out.edge_weight[3:].tolist() == [2, 3, 4]
    assert data.edge_index.size(1) == 4


def test_nothing_changes_nothing() -> None:
    data, graph = graph_of()
    changes = make_at_once(graph)  # type: ignore[arg-type]
    assert changes.num_steps == 0
    assert torch.equal(changes.apply(data).edge_index, data.edge_index)


def test_weights_without_edges_that_change() -> None:
    data, graph = graph_of()
    weight = np.array([0.5, 0.25, 0.125, 1.0])
    changes = make_at_once(graph, kept_weight=weight)  # type: ignore[arg-type]
    assert changes.apply(data).edge_weight.tolist() == weight.tolist()
    del data.edge_weight
    out = changes.apply(data)
    assert out.edge_weight.dtype == torch.get_default_dtype()


def test_edges_as_arrays() -> None:
    edges = np.array([[3, 0, 3, 1], [1, 2, 1, 0]])
    assert distinct(edges, 4).tolist() == [[0, 1, 3], [2, 0, 1]]
    assert both_ways(np.array([[0, 1], [2, 3]])).tolist() == [
        [0, 2, 1, 3],
        [2, 0, 3, 1],
    ]
    _, graph = graph_of()
    beyond = np.array([[0, 1, 6], [1, 3, 7]])
    missing = missing_from(beyond, graph)  # type: ignore[arg-type]
    assert missing.tolist() == [False, True, True]
