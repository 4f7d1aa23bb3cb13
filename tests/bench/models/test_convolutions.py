import pytest
import torch
from torch_geometric.nn import (
    DirGNNConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GINEConv,
    SAGEConv,
    TransformerConv,
)
from torch_geometric.utils import to_undirected

from gnnbridge.bench.models.convolutions import (
    GCN,
    GIN,
    SAGE,
    DirGCN,
    DirSAGE,
    GATv2,
    Transformer,
)
from gnnbridge.bench.models.size import Size
from gnnbridge.bench.models.wiring import Edges

NODES, WIDTH = 9, 8
SIZE = Size(WIDTH, 5)
ALL = (GCN, GIN, SAGE, GATv2, Transformer, DirGCN, DirSAGE)


def graph(weighted=False):
    """States and directed edges; node 8 is alone, and 4 has a self-loop."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(NODES, NODES, generator=generator) < 0.3
    mask.fill_diagonal_(False)
    mask[8], mask[:, 8], mask[4, 4] = False, False, True
    edge_index = mask.nonzero().t()[:, torch.randperm(int(mask.sum()))]
    weight = torch.rand(edge_index.size(1), generator=generator) + 0.1
    x = torch.randn(NODES, WIDTH, generator=generator)
    return x, Edges(edge_index, NODES, weight if weighted else None)


def built(kind, *, first=True, edge_features=False):
    torch.manual_seed(0)
    return kind(SIZE, first=first, edge_features=edge_features)


def mlp():
    return torch.nn.Sequential(
        torch.nn.Linear(WIDTH, 5),
        torch.nn.ReLU(),
        torch.nn.Linear(5, WIDTH),
    )


PEERS = {
    GCN: lambda: GCNConv(WIDTH, WIDTH),
    GIN: lambda: GINConv(mlp()),
    SAGE: lambda: SAGEConv(WIDTH, WIDTH),
    GATv2: lambda: GATv2Conv(WIDTH, 2, 4),
    Transformer: lambda: TransformerConv(WIDTH, 2, 4),
    DirSAGE: lambda: DirGNNConv(SAGEConv(WIDTH, WIDTH, root_weight=False)),
}


@pytest.mark.parametrize('kind', PEERS)
def test_the_first_relation_is_what_pyg_gives(kind):
    conv, peer = built(kind), PEERS[kind]()
    peer.load_state_dict(conv.conv.state_dict())
    x, edges = graph()
    torch.testing.assert_close(conv(x, edges, None), peer(x, edges.edge_index))


@pytest.mark.parametrize(
    ('kind', 'peer'),
    [
        (GIN, lambda: GINEConv(mlp())),
        (GATv2, lambda: GATv2Conv(WIDTH, 2, 4, edge_dim=WIDTH)),
        (Transformer, lambda: TransformerConv(WIDTH, 2, 4, edge_dim=WIDTH)),
    ],
)
def test_features_of_edges_are_read_as_pyg_does(kind, peer):
    conv, peer = built(kind, edge_features=True), peer()
    peer.load_state_dict(conv.conv.state_dict())
    x, edges = graph()
    features = torch.randn(edges.edge_index.size(1), WIDTH)
    torch.testing.assert_close(
        conv(x, edges, features), peer(x, edges.edge_index, features)
    )


def test_gcn_takes_weights_as_pyg_does():
    conv, peer = built(GCN), PEERS[GCN]()
    peer.load_state_dict(conv.conv.state_dict())
    x, edges = graph(weighted=True)
    expected = peer(x, edges.edge_index, edges.edge_weight)
    torch.testing.assert_close(conv(x, edges, None), expected)


def test_dir_gcn_is_pygs_in_undirected_graphs():
    conv = built(DirGCN)
    peer = DirGNNConv(GCNConv(WIDTH, WIDTH))
    peer.load_state_dict(conv.conv.state_dict())
    x, edges = graph()
    edges = Edges(to_undirected(edges.edge_index), NODES)
    torch.testing.assert_close(conv(x, edges, None), peer(x, edges.edge_index))
    weighted = Edges(edges.edge_index, NODES, edges.balanced + 1)
    assert (conv(x, weighted, None) - conv(x, edges, None)).abs().max() > 1e-3


def test_dir_gcn_hears_the_source_of_a_directed_path():
    """PyG's normalisation gives what leaves such a node the weight zero."""
    conv = built(DirGCN)
    peer = DirGNNConv(GCNConv(WIDTH, WIDTH))
    peer.load_state_dict(conv.conv.state_dict())
    path, x = torch.tensor([[0, 1], [1, 2]]), torch.randn(3, WIDTH)
    moved = x.clone()
    moved[0] += 1.0
    edges = Edges(path, 3)
    heard = (conv(moved, edges, None) - conv(x, edges, None))[1]
    assert heard.abs().max() > 1e-2
    assert torch.equal(peer(moved, path)[1], peer(x, path)[1])


@pytest.mark.parametrize('edge_features', [False, True])
@pytest.mark.parametrize('kind', ALL)
def test_further_relations_add_nothing_without_edges(kind, edge_features):
    conv = built(kind, first=False, edge_features=edge_features)
    x, edges = graph()
    features = torch.randn(edges.edge_index.size(1), WIDTH)
    out = conv(x, edges, features if edge_features else None)
    assert torch.equal(out[8], torch.zeros(WIDTH))
    assert out[edges.edge_index[1]].abs().sum(dim=1).min() > 0
    out.square().sum().backward()
    assert all(p.grad.any() for p in conv.parameters())


def test_further_relations_of_gcn_are_normalised_by_themselves():
    conv = built(GCN, first=False)
    x, edges = graph(weighted=True)
    A = torch.zeros(NODES, NODES)
    A[edges.edge_index[1], edges.edge_index[0]] = edges.edge_weight
    scale = (A.sum(1).unsqueeze(1) * A.sum(0)).clamp(min=1e-9).sqrt()
    expected = (A / scale) @ x @ conv.conv.lin.weight.t()
    torch.testing.assert_close(
        conv(x, edges, None), expected, rtol=1e-5, atol=1e-6
    )
