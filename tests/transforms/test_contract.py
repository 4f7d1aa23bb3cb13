"""What all rewirings promise, checked for each of them."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset
from torch_geometric.datasets import FakeDataset
from torch_geometric.transforms import Compose

import gnnbridge.transforms as T
from gnnbridge.graph import (
    causal_graph,
    is_causal,
    roots,
    sliding_window_graph,
)

METHODS = {
    'GTR': T.GTR(3),
    'GTR-directed': T.GTR(2, kind='lyapunov'),
    'FoSR': T.FoSR(3),
    'SDRF': T.SDRF(3),
    'SDRF-stochastic': T.SDRF(3, temperature=2.0, removal_bound=0.5),
    'BORF': T.BORF(3),
    'AFRC-3': T.AFRC(3),
    'AFRC-4': T.AFRC(cycles=4),
    'Diffusion': T.Diffusion(avg_degree=4),
    'Diffusion-heat': T.Diffusion('heat', k=3),
    'LASER': T.LASER(radius=3),
    'Expander': T.Expander(),
    'Expander-regular': T.Expander('random_regular'),
    'ProxyAdd': T.ProxyAdd(3),
    'ProxyDelete': T.ProxyDelete(2),
    'ResistanceRewiring': T.ResistanceRewiring(3),
    'ResistanceRewiring-both': T.ResistanceRewiring(2, num_removed=2),
    'Shells': T.Shells(3),
    'VirtualNode': T.VirtualNode(),
    'TopK': T.TopK(2),
    'SlidingWindow': T.SlidingWindow(3),
    'AttentionSinks': T.AttentionSinks(2, 1),
    'RandomEdges': T.RandomEdges(4),
    'RandomEdges-per-node': T.RandomEdges(per_node=2),
    'RunwayRewiring': T.RunwayRewiring(),
    'CausalResistanceRewiring': T.CausalResistanceRewiring(3, hops=2.0),
    'CausalResistanceRewiring-rows': T.CausalResistanceRewiring(
        edges_per_token=4
    ),
    'CausalResistanceRewiring-delete': T.CausalResistanceRewiring(
        2, delete=True
    ),
}
DELETES = {
    'SDRF-stochastic',
    'AFRC-4',
    'Diffusion',
    'Diffusion-heat',
    'ProxyDelete',
    'ResistanceRewiring-both',
    'TopK',
    'SlidingWindow',
    'AttentionSinks',
    'CausalResistanceRewiring-delete',
}
CAUSAL_ONLY = {name for name in METHODS if name.startswith('CausalRes')}
GROWS = {'VirtualNode'}
# They choose for each target, or single directions on purpose.
BY_TARGET = {
    'TopK',
    'RandomEdges-per-node',
    'Diffusion-heat',
    'AttentionSinks',
    'GTR-directed',
}
ON_ANY_GRAPH = sorted(set(METHODS) - CAUSAL_ONLY)


def pairs(edge_index):
    return {tuple(edge) for edge in edge_index.T.tolist()}


def with_attributes(edge_index, num_nodes):
    """Attributes that tell which edge they belong to."""
    source, target = edge_index
    code = source * 100 + target
    return Data(
        edge_index=edge_index,
        edge_attr=torch.stack([code, -code], dim=1).float(),
        edge_weight=1 / (1 + code % 7).float(),
        edge_type=code % 3,
        edge_note=code,
        x=torch.arange(num_nodes).float().unsqueeze(1),
        y=torch.tensor([1.0]),
        num_nodes=num_nodes,
    )


@st.composite
def causal_graphs(draw):
    n = draw(st.integers(1, 9))
    every = [(j, i) for i in range(n) for j in range(i + 1)]
    chosen = draw(st.lists(st.sampled_from(every), unique=True))
    edges = torch.tensor(chosen, dtype=torch.long).view(-1, 2).T
    return with_attributes(edges.contiguous(), n)


def rewired_or_refused(name, data):
    """GTR's directed form refuses graphs with several closed classes."""
    try:
        return METHODS[name].rewire(data)
    except ValueError:
        if name != 'GTR-directed':
            raise
        assert roots(data).numel() > 1
        return None


@pytest.mark.parametrize('name', METHODS)
@settings(max_examples=200, deadline=None)
@given(data=causal_graphs())
def test_causal_graphs_stay_causal(name, data):
    before, edges = copy.deepcopy(data), pairs(data.edge_index)
    found = rewired_or_refused(name, data)
    if found is None:
        return
    out, changes = found
    new = pairs(out.edge_index) - edges
    assert is_causal(out)
    assert not any(u == v for u, v in new)
    if name not in DELETES:
        assert name in GROWS or edges <= pairs(out.edge_index)
    # No edge comes twice, and the changes are what was changed.
    assert out.edge_index.size(1) == len(pairs(out.edge_index))
    if name not in GROWS:
        assert pairs(changes.added) == new
        assert pairs(changes.removed) == edges - pairs(out.edge_index)
    for key, value in before.to_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, data[key])


def undirected(n, seed, density=0.3):
    generator = torch.Generator().manual_seed(seed)
    upper = torch.rand(n, n, generator=generator) < density
    upper = upper.triu(1)
    return (upper | upper.T).nonzero().T.contiguous()


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('name', sorted(set(ON_ANY_GRAPH) - BY_TARGET))
def test_undirected_graphs_stay_undirected(name, seed):
    edge_index = undirected(12, seed)
    data = Data(edge_index=edge_index, num_nodes=12)
    data.edge_weight = torch.ones(edge_index.size(1))
    out = METHODS[name](data)
    edges = pairs(out.edge_index)
    assert edges == {(v, u) for u, v in edges}


@pytest.mark.parametrize('name', METHODS)
def test_attributes_stay_with_their_edges(name):
    edges = sliding_window_graph(9, 3, 1).edge_index
    if name not in CAUSAL_ONLY:
        edges = undirected(9, 4, 0.4)
    data = with_attributes(edges, 9)
    out, _ = METHODS[name].rewire(data)
    edge_type = data.edge_type.max()
    kept = 0
    for number, (u, v) in enumerate(out.edge_index.T.tolist()):
        if name in GROWS and max(u, v) >= 9:
            continue
        old = (data.edge_index[0] == u) & (data.edge_index[1] == v)
        if old.any():
            place = int(old.nonzero())
            kept += 1
            for key in ('edge_attr', 'edge_note', 'edge_type'):
                assert torch.equal(out[key][number], data[key][place])
        else:
            assert out.edge_type[number] > edge_type
            assert out.edge_note[number] == 0
            assert out.edge_attr[number].abs().sum() == 0
    for key in ('edge_attr', 'edge_note', 'edge_type', 'edge_weight'):
        assert out[key].size(0) == out.edge_index.size(1)
        assert out[key].dtype == data[key].dtype
    # Those that stay come first, in their order.
    places = [
        int(((edge == data.edge_index.T).all(1)).nonzero()[0])
        for edge in out.edge_index[:, :kept].T
    ]
    assert places == sorted(places)
    assert out.y.equal(data.y)


@pytest.mark.parametrize('name', METHODS)
def test_batches_are_rewired_graph_by_graph(name):
    sizes = [7, 4, 9]
    graphs = [sliding_window_graph(n, 3, 1) for n in sizes]
    if name not in CAUSAL_ONLY:
        graphs = [Data(edge_index=undirected(n, n, 0.5), num_nodes=n)
                  for n in sizes]  # fmt: skip
    for data in graphs:
        data.edge_weight = torch.ones(data.num_edges)
    if name == 'GTR-directed':
        graphs = graphs[:1]
    out, changes = METHODS[name].rewire(Batch.from_data_list(graphs))
    assert len(changes) == len(graphs)
    for ours, data in zip(out.to_data_list(), graphs, strict=True):
        expected = METHODS[name](data)
        for key, value in expected.to_dict().items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(ours[key], value)


@pytest.mark.parametrize('name', METHODS)
def test_results_can_be_repeated(name):
    data = sliding_window_graph(11, 2, 1)
    data.edge_weight = torch.ones(data.num_edges)
    first, second = METHODS[name](data), METHODS[name](data)
    assert torch.equal(first.edge_index, second.edge_index)


@pytest.mark.parametrize('name', METHODS)
def test_transforms_tell_their_settings(name):
    text = repr(METHODS[name])
    assert text.startswith(type(METHODS[name]).__name__ + '(')
    for parameter in inspect.signature(type(METHODS[name])).parameters:
        assert f'{parameter}=' in text
    again = pickle.loads(pickle.dumps(METHODS[name]))
    assert repr(again) == text


@pytest.mark.parametrize('name', METHODS)
def test_transforms_compose_and_preprocess(name, tmp_path):
    data = sliding_window_graph(9, 2, 1)
    data.edge_weight = torch.ones(data.num_edges)
    composed = Compose([METHODS[name], T.AttentionSinks(4, 1)])
    expected = T.AttentionSinks(4, 1)(METHODS[name](data))
    assert torch.equal(composed(data).edge_index, expected.edge_index)


@pytest.mark.parametrize('name', ['FoSR', 'SDRF', 'Diffusion', 'Shells'])
def test_datasets_take_them(name, tmp_path):
    class Windows(InMemoryDataset):
        def __init__(self, root, **options):
            super().__init__(root, **options)
            self.load(self.processed_paths[0])

        processed_file_names = ('data.pt',)

        def process(self):
            graphs = [sliding_window_graph(n, 2, 1) for n in (6, 9, 3)]
            data = [self.pre_transform(graph) for graph in graphs]
            self.save(data, self.processed_paths[0])

    before = Windows(tmp_path, pre_transform=METHODS[name])
    later = FakeDataset(num_graphs=3, avg_num_nodes=12, transform=METHODS[name])
    for data in (*before, *later):
        assert data.edge_type.size(0) == data.edge_index.size(1)
    expected = METHODS[name](sliding_window_graph(9, 2, 1))
    assert torch.equal(before[1].edge_index, expected.edge_index)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize(
    'data',
    [
        Data(edge_index=torch.empty(2, 0).long(), num_nodes=1),
        Data(edge_index=torch.empty(2, 0).long(), num_nodes=5),
        Data(edge_index=torch.tensor([[0], [0]]), num_nodes=1),
        Data(edge_index=torch.tensor([[0, 3], [1, 4]]), num_nodes=7),
        causal_graph(6),
    ],
    ids=['node', 'isolated', 'loop', 'disconnected', 'complete'],
)
def test_degenerate_graphs(name, data):
    data = data.clone()
    data.edge_weight = torch.ones(data.edge_index.size(1))
    found = rewired_or_refused(name, data)
    if found is None:
        return
    out, changes = found
    assert is_causal(out)
    new = pairs(out.edge_index) - pairs(data.edge_index)
    assert not any(u == v for u, v in new)
    assert out.edge_index.size(1) == len(pairs(out.edge_index))
    assert changes.step.numel() == changes.edge_index.size(1)


STATIC = {
    **METHODS,
    'CausalResistanceRewiring-start': T.CausalResistanceRewiring(
        edges_per_token=4, start=T.AttentionSinks(2, 1), weighted=False
    ),
    'CausalResistanceRewiring-start-anywhere': T.CausalResistanceRewiring(
        3, hops=2.0, start=T.SlidingWindow(2), weighted=False
    ),
}


ON_MODELS = [name for name, method in STATIC.items() if method.static]


@pytest.mark.parametrize('name', ON_MODELS)
def test_what_is_known_of_causal_graphs_is_what_comes_out(name):
    method = STATIC[name]
    for n in (1, 2, 9):
        expected = pairs(method(causal_graph(n)).edge_index)
        assert pairs(method.on_causal(n).edge_index) == expected


@pytest.mark.parametrize(
    'name', [name for name in ON_MODELS if STATIC[name].prefix]
)
def test_rows_that_are_said_to_stay_do(name):
    long = pairs(STATIC[name].on_causal(11).edge_index)
    short = pairs(STATIC[name].on_causal(7).edge_index)
    assert {(j, i) for j, i in long if i < 7} == short


@pytest.mark.parametrize('name', METHODS)
def test_bad_input_is_refused(name):
    method = METHODS[name]
    with pytest.raises(TypeError, match='to_homogeneous'):
        method(HeteroData())
    with pytest.raises(ValueError, match="with 'edge_index'"):
        method(Data(x=torch.ones(3, 1)))
    outside = Data(edge_index=torch.tensor([[0], [5]]), num_nodes=3)
    with pytest.raises(ValueError, match='between the 3 nodes'):
        method(outside)
    data = causal_graph(4)
    for bad in (float('nan'), -1.0):
        data.edge_weight = torch.ones(data.num_edges)
        data.edge_weight[2] = bad
        with pytest.raises(ValueError, match="'edge_weight'"):
            method(data)


@pytest.mark.parametrize('name', ON_ANY_GRAPH)
def test_causal_true_asks_for_a_causal_graph(name):
    method = copy.copy(METHODS[name])
    method.causal = True
    data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    data.edge_weight = torch.ones(2)
    with pytest.raises(ValueError, match='causal=True'):
        method(data)


def test_all_methods_are_here():
    classes = {
        getattr(T, name)
        for name in T.__all__
        if inspect.isclass(getattr(T, name))
    }
    rewirings = {
        kind
        for kind in classes
        if issubclass(kind, T.Rewiring) and kind is not T.Rewiring
    }
    assert rewirings == {type(method) for method in METHODS.values()}
