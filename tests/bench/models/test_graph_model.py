"""What holds for every model of the benchmark."""

import copy

import pytest
import torch
from torch_geometric.data import Batch, Data

import gnnbridge.transforms as T
from gnnbridge.bench.models.registry import MODELS, build_model
from gnnbridge.bench.task import Task

NAMES = tuple(MODELS)
RELATIONAL = tuple(name for name in NAMES if MODELS[name].relations)
# Node and graph in turn: what differs is the same for all.
LEVELS = tuple((name, ('node', 'graph')[n % 2]) for n, name in enumerate(NAMES))
# Through a few layers in float64; the trained block rotates in float32.
CLOSE = {'rtol': 1e-6, 'atol': 1e-7}


def task(level='node', **kwargs):
    settings = {'features': 3, 'layers': 3, 'outputs': 4, **kwargs}
    return Task('t', '', level, 'accuracy', load=lambda seed: None, **settings)


def model_of(name, level='node', *, relations=1, **kwargs):
    budget = 64_000 if MODELS[name].width else 4_000 * relations
    asked = task(level, **kwargs)
    model = build_model(name, asked, budget=budget, relations=relations)
    return model.double()


def graph(num_nodes, seed=0, *, edges=None, **kwargs):
    """A directed graph, unsorted, with self-loops and nodes without edges."""
    generator = torch.Generator().manual_seed(seed)
    count = 2 * num_nodes if edges is None else edges
    pairs = torch.randperm(num_nodes**2, generator=generator)[:count]
    edge_index = torch.stack([pairs % num_nodes, pairs // num_nodes])
    if num_nodes > 3:
        # The last node has no edges, and the first has none that enters.
        edge_index = edge_index[:, (edge_index < num_nodes - 1).all(0)]
        edge_index = edge_index[:, edge_index[1] > 0]
    data = Data(
        x=torch.randn(num_nodes, 3, generator=generator, dtype=torch.float64),
        edge_index=edge_index,
        target_mask=torch.rand(num_nodes, generator=generator) < 0.6,
        edge_type=torch.randint(2, edge_index.shape[1:], generator=generator),
        **kwargs,
    )
    data.target_mask[0] = True
    return data


def graphs():
    return [graph(6), graph(1, 1), graph(9, 2), graph(5, 3, edges=0)]


@pytest.mark.parametrize(('name', 'level'), LEVELS)
def test_the_graphs_of_a_batch_do_not_mix(name, level):
    model, few = model_of(name, level), graphs()
    together = model(Batch.from_data_list(few))
    alone = torch.cat([model(one) for one in few])
    torch.testing.assert_close(together, alone, **CLOSE)
    rows = sum(int(one.target_mask.sum()) for one in few)
    assert together.shape == (rows if level == 'node' else 4, 4)


@pytest.mark.parametrize('name', RELATIONAL)
def test_nor_do_they_with_relations(name):
    model, few = model_of(name, relations=2), graphs()
    together = model(Batch.from_data_list(few))
    alone = torch.cat([model(one) for one in few])
    torch.testing.assert_close(together, alone, **CLOSE)


@pytest.mark.parametrize(
    ('name', 'relations'),
    [*((name, 1) for name in NAMES), *((name, 2) for name in RELATIONAL)],
)
def test_the_numbers_of_nodes_say_nothing(name, relations):
    model, data = model_of(name, relations=relations), graph(9)
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(9, generator=generator)
    edges = torch.randperm(data.edge_index.size(1), generator=generator)
    moved = Data(
        x=data.x[order],
        edge_index=order.argsort()[data.edge_index][:, edges],
        edge_type=data.edge_type[edges],
    )
    for states, others in zip(
        model.states(data), model.states(moved), strict=True
    ):
        torch.testing.assert_close(others, states[order], **CLOSE)


@pytest.mark.parametrize('name', NAMES)
def test_states_lead_to_the_answers(name):
    model, data = model_of(name), graph(9)
    states = model.states(data)
    assert len(states) == model.layers + 1 == 4
    assert all(x.shape == (9, model.width) for x in states)
    last = model.from_states(states[0], data)
    torch.testing.assert_close(last, states[-1])
    torch.testing.assert_close(model.readout(last, data), model(data))
    (grad,) = torch.autograd.grad(last[1, 0], states[0])
    assert grad[1].abs().sum() > 0
    assert (grad[8].abs().sum() > 0) == (name == 'gps')  # joined to nothing


@pytest.mark.parametrize('edge_features', [None, (3, 2)])
@pytest.mark.parametrize('name', NAMES)
def test_gradients_reach_all_that_is_trained(name, edge_features):
    relations = 2 if edge_features and name in RELATIONAL else 1
    model = model_of(name, relations=relations, edge_features=edge_features)
    data = graph(9, edges=60)
    size = data.edge_index.size(1)
    data.edge_attr = torch.arange(size * 2).view(size, 2) % 2
    generator = torch.Generator().manual_seed(0)
    answers = model(data)
    goal = torch.randn(answers.shape, generator=generator).double()
    (answers * goal).sum().backward()
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name == 'converted_frozen'
            assert parameter.grad is None
            continue
        assert parameter.grad.isfinite().all(), path
        # A constant of all scores of a row makes no difference to it.
        if 'lin_key.bias' not in path:
            assert parameter.grad.any(), path


@pytest.mark.parametrize('name', RELATIONAL)
def test_a_relation_learns_from_its_edges_alone(name):
    model, data = model_of(name, relations=2), graph(9)
    of_second = [
        parameter
        for path, parameter in model.named_parameters()
        if 'convs.1.' in path or 'attentions.1.' in path
    ]
    assert of_second
    first = data.clone()
    first.edge_type.zero_()
    out = model(first)
    out.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in of_second)
    model.zero_grad()
    model(data).square().sum().backward()
    assert any(p.grad.any() for p in of_second)
    with torch.no_grad():
        for parameter in of_second:
            parameter.mul_(2.0)
    torch.testing.assert_close(model(first), out)


@pytest.mark.parametrize('name', NAMES)
def test_what_a_model_reads_is_what_it_says(name):
    kind = MODELS[name]
    model, data = model_of(name, edge_features=2), graph(9)
    size = data.edge_index.size(1)
    data.edge_attr = torch.ones(size, 2, dtype=torch.float64)
    out = model(data)
    for key, value, reads in (
        ('edge_attr', torch.linspace(0, 3, 2 * size).double().view(size, 2),
         kind.edge_features),
        ('edge_weight', torch.linspace(0.1, 2, size), kind.edge_weight),
        ('position', torch.arange(9).flip(0), kind.position),
        ('edge_type', data.edge_type.flip(0), False),
    ):  # fmt: skip
        other = data.clone()
        other[key] = value
        same = torch.allclose(model(other), out, **CLOSE)
        assert same != reads, key


@pytest.mark.parametrize('name', NAMES)
def test_features_of_edges_must_be_there_where_they_are_read(name):
    reads = MODELS[name].edge_features
    model = model_of(name, edge_features=2)
    assert (model.edge_encoder is not None) == reads
    if reads:
        with pytest.raises(ValueError, match="Expected 'edge_attr' to be fl"):
            model(graph(5))
    else:
        assert model(graph(5)).isfinite().all()


@pytest.mark.parametrize('name', NAMES)
def test_edges_that_nobody_described_are_ignored(name):
    data = graph(5)
    model, expected = model_of(name), model_of(name)(data)
    data.edge_attr = torch.zeros(data.edge_index.size(1), 7)
    assert torch.equal(model(data), expected)


@pytest.mark.parametrize(('name', 'level'), LEVELS)
def test_graphs_with_a_virtual_node_have_as_many_answers(name, level):
    few = [T.VirtualNode(causal=False)(one) for one in graphs()[:3]]
    relations = 4 if name in RELATIONAL else 1
    model = model_of(name, level, relations=relations)
    together = model(Batch.from_data_list(few))
    plain = model(Batch.from_data_list(graphs()[:3]))
    assert together.shape == plain.shape
    assert (together - plain).abs().max() > 1e-4
    alone = torch.cat([model(one) for one in few])
    torch.testing.assert_close(together, alone, **CLOSE)


@pytest.mark.parametrize('name', NAMES)
def test_graphs_are_not_changed(name):
    data = Batch.from_data_list([graph(6), graph(4, 1)])
    data.edge_weight = torch.rand(data.edge_index.size(1))
    before = copy.deepcopy(data.to_dict())
    versions = {k: v._version for k, v in data.to_dict().items()}
    model_of(name)(data).sum().backward()
    assert data.to_dict().keys() == before.keys()
    for key, value in data.to_dict().items():
        assert torch.equal(value, before[key])
        assert value._version == versions[key]


@pytest.mark.parametrize('name', NAMES)
def test_a_model_can_be_copied_and_saved(name):
    model, data = model_of(name), graph(6)
    out = model(data)
    again = copy.deepcopy(model)
    assert again.total == model.total
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)
    assert torch.equal(model(data), out)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(data), out)


@pytest.mark.parametrize('name', ['converted', 'converted_frozen'])
def test_one_block_is_run_at_every_depth(name):
    shallow, deep = (model_of(name, layers=n) for n in (1, 4))
    assert (shallow.layers, deep.layers) == (1, 4)
    assert deep.total == shallow.total
    frozen = name == 'converted_frozen'
    block = sum(p.numel() for p in deep.blocks[0].parameters())
    assert deep.total - deep.trainable == (block if frozen else 0)
    data = graph(6)
    once = deep.blocks[0](shallow.states(data)[0], shallow._graph(data))
    torch.testing.assert_close(once, shallow.states(data)[1])


def test_relations_need_types_of_edges():
    data = graph(6)
    del data.edge_type
    with pytest.raises(ValueError, match="'edge_type' of shape"):
        model_of('gcn', relations=2)(data)
    assert model_of('gcn')(data).shape[1] == 4
