import networkx as nx
import pytest
import torch
from attributed import causal_data, check_aligned, edge_set
from hypothesis import given, settings
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnnbridge.transforms.shells import Shells

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}


def by_type(edge_index: Tensor, edge_type: Tensor) -> set[tuple[int, ...]]:
    table = torch.cat([edge_type[None], edge_index]).T.tolist()
    return set(map(tuple, table))


@pytest.mark.parametrize('name', GRAPHS)
@pytest.mark.parametrize('radius', [1, 2, 4])
def test_types_are_distances(name: str, radius: int) -> None:
    graph = GRAPHS[name]
    data = Data(edge_index=edges_of(graph), num_nodes=len(graph))
    out = Shells(radius)(data)
    expected = {
        (length - 1, source, target)
        for source, lengths in nx.all_pairs_shortest_path_length(graph)
        for target, length in lengths.items()
        if 1 <= length <= radius
    }
    assert by_type(out.edge_index, out.edge_type) == expected
    assert out.edge_index.size(1) == len(expected)


def test_types_go_on_from_the_largest() -> None:
    path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    data = Data(edge_index=path, edge_type=torch.tensor([4, 0, 1]), num_nodes=4)
    out = Shells(3)(data)
    assert out.edge_index[:, 3:].tolist() == [[0, 1, 0], [2, 3, 3]]
    assert out.edge_type.tolist() == [4, 0, 1, 5, 5, 6]
    # In layer l of DRew the shells up to l + 1.
    plain = Shells(3)(Data(edge_index=path, num_nodes=4))
    for layer in range(3):
        seen = plain.edge_index[:, plain.edge_type <= layer]
        assert (seen[1] - seen[0]).max() == layer + 1


@PROPERTY
@given(causal_data())
def test_causal_graphs(data: Data) -> None:
    before = data.clone()
    out = Shells(4)(data)
    added = out.edge_index[:, data.num_edges :]
    assert (added[0] < added[1]).all()
    check_aligned(data, out)
    assert torch.equal(data.edge_index, before.edge_index)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = edges_of(NETWORKS['karate'])
    whole = Shells(3).plan(edges)
    monkeypatch.setattr('gnnbridge.transforms.shells._BLOCK', 100)
    parts = Shells(3).plan(edges)
    assert torch.equal(whole.edge_index, parts.edge_index)


def test_parts_and_complete_graphs() -> None:
    edges = torch.tensor([[0, 1, 3, 4], [1, 2, 4, 5]])
    assert Shells(5).plan(edges, num_nodes=8).added.tolist() == [[0, 3], [2, 5]]
    complete = edges_of(NETWORKS['complete'])
    assert Shells(3).plan(complete).added.numel() == 0
    none = torch.empty(2, 0, dtype=torch.long)
    assert Shells(2)(Data(edge_index=none, num_nodes=1)).edge_type.numel() == 0


def test_batches() -> None:
    data = [
        Data(edge_index=edges_of(NETWORKS[name]), num_nodes=len(NETWORKS[name]))
        for name in ('path', 'complete')
    ]
    batch, changes = Shells(2).rewire(Batch.from_data_list(data))
    assert len(changes) == 2
    assert edge_set(batch[0].edge_index) == edge_set(
        Shells(2)(data[0]).edge_index
    )


def test_radius_is_positive() -> None:
    with pytest.raises(ValueError, match="'radius' to be at least 1"):
        Shells(0)
    assert repr(Shells(2)) == 'Shells(radius=2, causal=None)'
