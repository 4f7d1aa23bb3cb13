import torch
from torch_geometric.data import Data

from gnnbridge.transforms.new_nodes import add_nodes, shift_nodes


def example() -> Data:
    return Data(
        x=torch.ones(3, 2),
        edge_index=torch.tensor([[0, 1], [1, 2]]),
        edge_attr=torch.ones(2, 4),
        position=torch.tensor([5, 6, 7]),
        batch=torch.tensor([2, 2, 2]),
        train_mask=torch.ones(3, dtype=torch.bool),
        face=torch.tensor([[0], [1], [2]]),
        subset_index=torch.tensor([2]),
        y=torch.tensor([1.0, 2.0]),
        name='a graph',
    )


def test_behind() -> None:
    data = example()
    out = add_nodes(data, data, 0, 2)
    assert out.num_nodes == 5
    assert out.x.tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    assert out.position.tolist() == [5, 6, 7, 8, 9]
    assert out.batch.tolist() == [2] * 5
    assert out.train_mask.tolist() == [True] * 3 + [False] * 2
    assert torch.equal(out.edge_index, data.edge_index)
    assert torch.equal(out.y, data.y)
    assert out.name == 'a graph'
    assert data.num_nodes == 3


def test_in_front() -> None:
    data = example()
    out = add_nodes(shift_nodes(data, 2), data, 2, 0)
    assert out.num_nodes == 5
    assert out.x.tolist() == [[0, 0]] * 2 + [[1, 1]] * 3
    assert out.position.tolist() == [5, 6, 7, 8, 9]
    assert out.edge_index.tolist() == [[2, 3], [3, 4]]
    assert out.face.tolist() == [[2], [3], [4]]
    assert out.subset_index.tolist() == [4]
    assert data.edge_index.tolist() == [[0, 1], [1, 2]]


def test_number_of_nodes_without_attributes() -> None:
    edges = torch.tensor([[0], [1]])
    for data in (
        Data(edge_index=edges, num_nodes=4),
        Data(edge_index=edges, x=torch.ones(4, 1)),
    ):
        assert add_nodes(data, data, 1, 2).num_nodes == 7


def test_a_feature_per_column() -> None:
    class Turned(Data):
        def __cat_dim__(self, key, value, *args, **kwargs):  # type: ignore[no-untyped-def]
            if key == 'turned':
                return 1
            return super().__cat_dim__(key, value, *args, **kwargs)

    data = Turned(x=torch.ones(3, 1), edge_index=torch.tensor([[0], [1]]))
    data.turned = torch.ones(2, 3)
    assert add_nodes(data, data, 1, 1).turned.tolist() == [[0, 1, 1, 1, 0]] * 2
