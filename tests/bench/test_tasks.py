"""The tasks of the benchmark: their graphs are what they say."""

import math
import pickle
from dataclasses import replace
from functools import partial

import networkx as nx
import pytest
import torch
from stored_data import (
    write_molhiv,
    write_peptides,
    write_planetoid,
    write_tu,
    write_zinc,
)
from torch_geometric.data import Data
from torch_geometric.utils import to_networkx

from gnnbridge.bench.tasks import STORED_TASKS, TASKS, make_task
from gnnbridge.bench.tasks.draws import (
    commonest_share,
    draw_splits,
    drawn,
    median_error,
)
from gnnbridge.datasets.stored import STORED_FILES

DRAWN = [name for name in TASKS if name not in STORED_TASKS]
# Fewer graphs than by default, for speed.
FEW = {'graphs': (12, 6, 8)}
CHANGED = {
    'ring_transfer': {'size': 7, 'crossed': True, 'num_classes': 3},
    'lollipop_transfer': {'size': 7},
    'clique_path': {'size': 7},
    'tree_neighbors': {'depth': 2, 'directed': False},
    'shortest_path': {'size': 9, 'max_distance': 3},
    'eccentricity': {'size': 9, 'level': 'node'},
    'sbm_cluster': {'num_blocks': 2, 'block_sizes': (3, 5)},
    'csbm': {'size': 12, 'degree': 3, 'homophily': 0.3},
    'directed_path': {'size': 4, 'branches': 2},
    'causal_copy': {'length': 6, 'lag': 3, 'window': None},
    'key_value': {'num_pairs': 2, 'num_symbols': 3, 'window': 3},
}
STORED = {
    'mutag': partial(write_tu, name='MUTAG', labels=7, edge_labels=4),
    'proteins': partial(write_tu, name='PROTEINS', labels=3, edge_labels=0),
    'enzymes': partial(write_tu, name='ENZYMES', labels=3, edge_labels=0),
    'cora': partial(write_planetoid, name='Cora', width=1433, classes=7),
    'citeseer': partial(
        write_planetoid, name='CiteSeer', width=3703, classes=6
    ),
    'pubmed': partial(write_planetoid, name='PubMed', width=500, classes=3),
    'peptides_func': partial(write_peptides, name='Peptides-func', outputs=10),
    'peptides_struct': partial(
        write_peptides, name='Peptides-struct', outputs=11
    ),
    'zinc': write_zinc,
    'molhiv': write_molhiv,
}  # fmt: skip


def asked(graph: Data) -> tuple[bytes, bytes]:
    return graph.x.numpy().tobytes(), graph.edge_index.numpy().tobytes()


def every(splits):
    return [graph for part in splits for graph in part]


def same(a: Data, b: Data) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a.keys())  # noqa: SIM118


def check_graph(task, graph):
    """What the task says of its graphs."""
    graph.validate()
    wide = (
        task.features if isinstance(task.features, int) else len(task.features)
    )
    assert graph.x.shape == (graph.num_nodes, wide)
    if isinstance(task.features, int):
        assert graph.x.dtype == torch.float32
    else:
        assert graph.x.dtype == torch.int64
        assert (graph.x >= 0).all()
        assert (graph.x < torch.tensor(task.features)).all()
    if task.edge_features is not None:
        assert len(graph.edge_attr) == graph.edge_index.size(1)
    rows = 1
    if task.level == 'node':
        assert graph.target_mask.dtype == torch.bool
        rows = int(graph.target_mask.sum())
    else:
        assert 'target_mask' not in graph
    if task.metric == 'accuracy':
        assert graph.y.shape == (rows,)
        assert graph.y.dtype == torch.int64
        assert (graph.y >= 0).all()
        assert (graph.y < task.outputs).all()
    else:
        assert graph.y.shape == (rows, task.outputs)
        assert graph.y.dtype == torch.float32


def test_every_name_makes_the_task_of_that_name():
    assert set(STORED_TASKS) == set(STORED)
    assert set(DRAWN) == set(CHANGED)
    for name in DRAWN:
        assert make_task(name, **FEW).name == name


@pytest.mark.parametrize('changed', [False, True])
@pytest.mark.parametrize('name', DRAWN)
def test_graphs_are_what_the_task_says(name, changed):
    task = make_task(name, **(CHANGED[name] if changed else {}), **FEW)
    splits = task.load(3)
    assert [len(part) for part in splits] == [12, 6, 8]
    for part in splits:
        for graph in part:
            check_graph(task, graph)
            undirected = not task.directed
            assert undirected == graph.is_undirected() or not graph.num_edges
    # No graph comes twice, be it in two parts or in one.
    assert len({asked(g) for part in splits for g in part}) == 26
    again = task.load(3)
    for a, b in zip(every(splits), every(again), strict=True):
        assert same(a, b)
    other = task.load(4)
    assert not all(
        same(a, b) for a, b in zip(splits.train, other.train, strict=True)
    )
    assert '\n' not in task.about


@pytest.mark.parametrize('name', DRAWN)
def test_defaults_are_small_enough_for_one_core(name):
    splits = make_task(name).load(0)
    nodes = [sum(int(g.num_nodes) for g in part) for part in splits]
    assert nodes[0] <= 24000
    assert len(splits.train) >= 100
    assert 100 <= len(splits.val) <= 200
    assert len(splits.test) >= 200


@pytest.mark.parametrize('name', DRAWN)
def test_drawn_tasks_can_be_sent_to_another_process(name):
    task = make_task(name, **FEW)
    sent = pickle.loads(pickle.dumps(task))
    assert replace(sent, load=task.load) == task
    assert same(sent.load(1).test[0], task.load(1).test[0])


@pytest.mark.parametrize(
    ('name', 'sizes'),
    [
        ('ring_transfer', {'size': 6}),
        ('ring_transfer', {'size': 9}),
        ('ring_transfer', {'size': 8, 'crossed': True}),
        ('lollipop_transfer', {'size': 7}),
        ('clique_path', {'size': 10}),
        ('directed_path', {'size': 5}),
    ],
)
def test_as_many_layers_as_the_information_has_steps_to_go(name, sizes):
    task = make_task(name, **sizes, **FEW)
    # Only the source's features differ between the classes.
    for graph in task.load(0).train:
        binary = ((graph.x == 0) | (graph.x == 1)).all(1)
        told = binary & (graph.x.sum(1) == 1)
        found = to_networkx(graph)
        end = int(graph.target_mask.nonzero())
        steps = [
            nx.shortest_path_length(found, start, end)
            for start in told.nonzero().flatten().tolist()
            if nx.has_path(found, start, end)
        ]
        assert steps == [task.layers]


@pytest.mark.parametrize(
    ('sizes', 'layers'),
    [
        ({'length': 16, 'window': 4}, 5),
        ({'length': 9, 'window': None}, 1),
        ({'length': 9, 'window': 3, 'lag': 5}, 3),
        ({'length': 9, 'window': 3, 'lag': 0}, 1),
    ],
)
def test_copying_takes_the_steps_that_the_window_leaves(sizes, layers):
    task = make_task('causal_copy', **sizes, **FEW)
    assert task.layers == layers
    graph = task.load(0).train[0]
    found = to_networkx(graph)
    last = sizes['length'] - 1
    start = last - sizes.get('lag', last)
    assert max(nx.shortest_path_length(found, start, last), 1) == layers


def test_lookups_need_one_step_more_than_the_distance():
    task = make_task('key_value', num_pairs=4, window=3, **FEW)
    found = to_networkx(task.load(0).train[0])
    assert task.layers == nx.shortest_path_length(found, 0, 8) + 1 == 5
    assert make_task('key_value', **FEW).layers == 2


def test_chance_is_what_a_guess_reaches():
    task = make_task('shortest_path', graphs=(30, 10, 40))
    splits = task.load(0)
    train = [answer for graph in splits.train for answer in graph.y.tolist()]
    test = [answer for graph in splits.test for answer in graph.y.tolist()]
    best = max(set(train), key=lambda answer: (train.count(answer), -answer))
    assert task.chance == pytest.approx(test.count(best) / len(test))
    assert commonest_share(splits) == task.chance

    task = make_task('eccentricity', graphs=(31, 10, 40))
    splits = task.load(0)
    middle = sorted(graph.y.item() for graph in splits.train)[15]
    errors = [abs(graph.y.item() - middle) for graph in splits.test]
    assert task.chance == pytest.approx(math.fsum(errors) / 40)
    assert median_error(splits) == task.chance


def test_chance_of_a_lookup_is_to_name_a_value_that_is_there():
    task = make_task(
        'key_value', num_pairs=3, num_symbols=4, graphs=(1, 1, 600)
    )
    right = total = 0
    for graph in task.load(0).test:
        for value in graph.x[1:-1:2, 0].tolist():
            right += value - 4 == graph.y.item()
            total += 1
    assert abs(right / total - task.chance) < 5 * math.sqrt(0.25 / 600)


def test_all_trees_of_depth_two_can_be_drawn_and_not_one_more():
    task = make_task('tree_neighbors', depth=2, graphs=(60, 12, 24))
    found = {asked(graph) for part in task.load(0) for graph in part}
    assert len(found) == 96
    task = make_task('tree_neighbors', depth=2, graphs=(60, 12, 25))
    with pytest.raises(ValueError, match=r'97 different .*there are 96'):
        task.load(0)


def test_without_a_spread_rings_are_those_of_the_papers():
    splits = make_task('ring_transfer', spread=0, **FEW).load(0)
    graphs = [graph for part in splits for graph in part]
    # Up to the order of their nodes.
    assert len({tuple(sorted(map(tuple, g.x.tolist()))) for g in graphs}) == 5
    assert len({asked(graph) for graph in graphs}) > 5


def test_parts_are_taken_in_order_from_one_draw():
    def counted(count, *, generator):
        start = int(torch.randint(1000, (1,), generator=generator))
        edges = torch.zeros(2, 0, dtype=torch.int64)
        return [
            Data(x=torch.tensor([[start + i]]), edge_index=edges)
            for i in range(count)
        ]

    splits = draw_splits(0, draw=counted, graphs=(3, 2, 4), distinct=True)
    values = [[graph.x.item() for graph in part] for part in splits]
    first = values[0][0]
    assert values == [
        [first, first + 1, first + 2], [first + 3, first + 4],
        [first + 5, first + 6, first + 7, first + 8],
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"'graphs' .* least 1 .got 0"):
        drawn(counted, (3, 0, 4))


def test_unknown_names_and_sizes_list_those_there_are():
    with pytest.raises(ValueError, match=r"ring_transfer, .*molhiv.*'rings'"):
        make_task('rings')
    with pytest.raises(ValueError, match=r"'csbm' .*homophily.*'depth'"):
        make_task('csbm', depth=3)
    with pytest.raises(ValueError, match=r"no sizes for 'mutag'.*got size"):
        make_task('mutag', size=3)
    with pytest.raises(ValueError, match=r"'size' .* 4 \(got 3\)"):
        make_task('clique_path', size=3, **FEW)


@pytest.mark.parametrize('name', STORED_TASKS)
def test_data_sets_are_read_from_the_folder_that_is_named(tmp_path, name):
    STORED[name](tmp_path)
    task = make_task(name, root=tmp_path)
    assert task.name == name
    splits = pickle.loads(pickle.dumps(task)).load(0)
    for part in splits:
        assert part
        for graph in part:
            check_graph(task, graph)
    again = task.load(0)
    for a, b in zip(every(splits), every(again), strict=True):
        assert same(a, b)


@pytest.mark.parametrize('name', STORED_TASKS)
def test_a_data_set_that_is_not_there_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"in 'data' .*--root"
    ) as caught:
        make_task(name)
    assert '\n' not in str(caught.value)
    assert STORED_TASKS[name].data_set in STORED_FILES
    with pytest.raises(FileNotFoundError, match=r"in 'elsewhere' .*--root"):
        make_task(name, root='elsewhere')
    assert list(tmp_path.iterdir()) == []


def test_tu_data_sets_are_split_anew_for_each_seed(tmp_path):
    STORED['mutag'](tmp_path)
    task = make_task('mutag', root=tmp_path)
    whole = None
    trains = []
    for seed in range(3):
        splits = task.load(seed)
        assert [len(part) for part in splits] == [16, 2, 2]
        found = sorted(asked(graph) for part in splits for graph in part)
        whole = whole or found
        assert found == whole
        trains.append([asked(graph) for graph in splits.train])
    assert trains[0] != trains[1] != trains[2]


def test_other_versions_of_a_data_set_are_refused(tmp_path):
    write_tu(tmp_path, 'MUTAG', labels=5, edge_labels=4)
    with pytest.raises(ValueError, match=r"'x' of MUTAG .* 7 .*got 5"):
        make_task('mutag', root=tmp_path).load(0)
    write_zinc(tmp_path)
    narrow = replace(STORED_TASKS['zinc'], features=(20,))
    with pytest.raises(ValueError, match=r"'x' of ZINC .*below \(20,\).*27"):
        narrow(root=tmp_path).load(0)
