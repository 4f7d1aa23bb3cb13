import torch

from gnnbridge.graph.ranges import ranges_to_graph, window_ranges


def test_ranges_of_a_row_are_joined_in_order():
    start = torch.tensor([[0, 3], [1, 4]])
    count = torch.tensor([[2, 1], [0, 2]])
    data = ranges_to_graph(start, count, 7, first_query=5)
    assert data.edge_index.tolist() == [[0, 1, 3, 4, 5], [5, 5, 5, 6, 6]]


def test_steps_within_a_range():
    data = ranges_to_graph(
        torch.tensor([1, 0]), torch.tensor([1, 3]), 7, step=2, first_query=1
    )
    assert data.edge_index.tolist() == [[1, 0, 2, 4], [1, 2, 2, 2]]


def test_sinks_inside_the_window_are_not_counted_twice():
    start, count = window_ranges(torch.tensor([1, 3, 5]), window=3, sinks=2)
    assert start.tolist() == [[0, 0], [0, 1], [0, 3]]
    assert count.tolist() == [[0, 2], [1, 3], [2, 3]]
