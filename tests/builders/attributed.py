"""Graphs with every kind of attribute, to see that all stay aligned."""

from typing import Any

import networkx as nx
import torch
from hypothesis import strategies as st
from networks import edges_of
from torch import Tensor
from torch_geometric.data import Data


def attributed(edge_index: Tensor, num_nodes: int, seed: int = 0) -> Data:
    """A graph whose attributes of edges tell which edge they belong to."""
    generator = torch.Generator().manual_seed(seed)
    count = edge_index.size(1)
    weight = torch.rand(count, generator=generator, dtype=torch.float64)
    name = edge_index[0] * num_nodes + edge_index[1]
    return Data(
        x=torch.rand(num_nodes, 3, generator=generator),
        edge_index=edge_index,
        edge_weight=weight + 0.1,
        edge_attr=torch.stack([name, name + 1], dim=1).double(),
        edge_type=torch.arange(count) % 3,
        position=torch.arange(num_nodes),
        num_nodes=num_nodes,
    )


@st.composite
def causal_data(draw: Any) -> Data:
    """Random causal graphs: some without edges, some with self-loops."""
    n = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 999))
    density = draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, n, generator=generator) < density
    target, source = mask.tril(draw(st.integers(-1, 0))).nonzero().T
    data = attributed(torch.stack([source, target]), n, seed)
    if draw(st.booleans()):
        del data.edge_type
    return data


@st.composite
def undirected_data(draw: Any) -> Data:
    """Random undirected graphs, some in parts."""
    n = draw(st.integers(2, 12))
    pairs = n * (n - 1) // 2
    graph = nx.gnm_random_graph(
        n, draw(st.integers(1, pairs)), seed=draw(st.integers(0, 999))
    )
    return attributed(edges_of(graph), n)


def edge_set(edge_index: Tensor) -> set[tuple[int, int]]:
    """The edges as pairs."""
    return set(map(tuple, edge_index.T.tolist()))


def check_aligned(data: Data, out: Data, reweighted: bool = False) -> None:
    """What a rewiring without new nodes has to leave as it is.

    The edges that stay come first in their order with their attributes; the
    others have zeros, and types that are new.
    """
    count = data.edge_index.size(1)
    names = data.edge_index[0] * data.num_nodes + data.edge_index[1]
    out_names = out.edge_index[0] * data.num_nodes + out.edge_index[1]
    stays = torch.isin(names, out_names)
    kept = int(stays.sum())
    assert torch.equal(out_names[:kept], names[stays])
    assert not torch.isin(out_names[kept:], names).any()
    assert torch.equal(out.edge_attr[:kept], data.edge_attr[stays])
    assert not out.edge_attr[kept:].any()
    assert out.edge_weight.dtype == data.edge_weight.dtype
    if not reweighted:
        assert torch.equal(out.edge_weight[:kept], data.edge_weight[stays])
    if 'edge_type' in data:
        assert torch.equal(out.edge_type[:kept], data.edge_type[stays])
    elif 'edge_type' in out:
        assert not out.edge_type[:kept].any()
    if 'edge_type' in out and kept < out.edge_type.numel():
        old = data.get('edge_type', torch.zeros(1, dtype=torch.long))
        top = int(old[stays].max()) if 'edge_type' in data and kept else 0
        assert int(out.edge_type[kept:].min()) > top
    assert torch.equal(out.x, data.x)
    for name, value in data.to_dict().items():
        if isinstance(value, torch.Tensor) and name.startswith('edge_'):
            assert value.size(-1 if name == 'edge_index' else 0) == count
