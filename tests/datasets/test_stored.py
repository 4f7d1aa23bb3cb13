"""Data sets on a disk, in small copies of the published formats."""

import socket
import urllib.request
from types import SimpleNamespace

import pytest
import torch
from stored_data import (
    ATOMS,
    BONDS,
    write_molhiv,
    write_peptides,
    write_planetoid,
    write_tu,
    write_zinc,
)
from torch_geometric.datasets import ZINC, LRGBDataset, Planetoid, TUDataset

from gnnbridge.datasets.stored import (
    STORED_FILES,
    molhiv_parts,
    peptides_parts,
    planetoid_parts,
    stored_files,
    tu_graphs,
    zinc_parts,
)

READERS = {
    'MUTAG': lambda root: tu_graphs(root, 'MUTAG'),
    'PROTEINS': lambda root: tu_graphs(root, 'PROTEINS'),
    'ENZYMES': lambda root: tu_graphs(root, 'ENZYMES'),
    'Cora': lambda root: planetoid_parts(root, 'Cora'),
    'CiteSeer': lambda root: planetoid_parts(root, 'CiteSeer'),
    'PubMed': lambda root: planetoid_parts(root, 'PubMed'),
    'Peptides-func': lambda root: peptides_parts(root, 'Peptides-func'),
    'Peptides-struct': lambda root: peptides_parts(root, 'Peptides-struct'),
    'ZINC': zinc_parts,
    'ogbg-molhiv': molhiv_parts,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError('the network was asked')

    monkeypatch.setattr(socket.socket, 'connect', refused)
    monkeypatch.setattr(socket, 'getaddrinfo', refused)
    monkeypatch.setattr(urllib.request, 'urlopen', refused)


@pytest.mark.parametrize('name', STORED_FILES)
def test_a_missing_data_set_is_one_line_and_no_download(tmp_path, name):
    assert READERS.keys() == STORED_FILES.keys()
    with pytest.raises(FileNotFoundError) as caught:
        READERS[name](tmp_path)
    line = str(caught.value)
    assert '\n' not in line
    for part in (name, str(tmp_path), STORED_FILES[name].raw[0], '--root'):
        assert part in line
    assert list(tmp_path.iterdir()) == []


def test_a_single_missing_file_is_named(tmp_path):
    write_tu(tmp_path, 'MUTAG', labels=7, edge_labels=4)
    (tmp_path / 'MUTAG/raw/MUTAG_graph_labels.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'MUTAG_graph_labels\.txt'):
        tu_graphs(tmp_path, 'MUTAG')


def test_unknown_names_list_those_there_are():
    with pytest.raises(ValueError, match=r"MUTAG, .*ogbg-molhiv.*'mutag'"):
        stored_files('mutag')


@pytest.mark.parametrize('name', list(STORED_FILES)[:-1])
def test_files_are_those_that_pyg_looks_for(name):
    kind = {'Peptides': LRGBDataset, 'ZINC': ZINC}.get(name.split('-')[0])
    if kind is None:
        tu = name in ('MUTAG', 'PROTEINS', 'ENZYMES')
        kind = TUDataset if tu else Planetoid
    known = name.lower() if kind is LRGBDataset else name
    settings = SimpleNamespace(
        root='ZINC' if kind is ZINC else '', name=known, cleaned=False,
        split='public', subset=True,
    )  # fmt: skip
    # Without the constructor, which would read or download.
    blank = kind.__new__(kind)
    blank.__dict__.update(vars(settings))
    files = STORED_FILES[name]
    assert set(blank.raw_paths) <= set(files.raw)
    assert set(blank.processed_paths) == set(files.processed)


@pytest.mark.parametrize(
    ('name', 'labels', 'edge_labels'), [('MUTAG', 7, 4), ('ENZYMES', 3, 0)]
)
def test_tu_graphs_have_their_labels(tmp_path, name, labels, edge_labels):
    write_tu(tmp_path, name, labels=labels, edge_labels=edge_labels)
    graphs = tu_graphs(tmp_path, name)
    assert len(graphs) == 20
    for number, graph in enumerate(graphs):
        assert graph.y.tolist() == [number % 2]
        kinds = [(3 * number + node) % labels for node in range(3)]
        assert graph.x.argmax(1).tolist() == kinds
        assert graph.x.shape == (3, labels)
        assert graph.x.sum() == 3
        ends = [[0, 1, 1, 2], [1, 0, 2, 1]]
        assert graph.edge_index.tolist() == ends
        if edge_labels:
            assert graph.edge_attr.shape == (4, edge_labels)
            sums = torch.tensor(ends).sum(0)
            kinds = ((number + sums) % edge_labels).tolist()
            assert graph.edge_attr.argmax(1).tolist() == kinds
        else:
            assert 'edge_attr' not in graph


def test_what_pyg_has_processed_is_enough(tmp_path):
    write_tu(tmp_path, 'MUTAG', labels=7, edge_labels=4)
    before = tu_graphs(tmp_path, 'MUTAG')
    for file in (tmp_path / 'MUTAG/raw').iterdir():
        file.unlink()
    after = tu_graphs(str(tmp_path), 'MUTAG')
    assert all(
        torch.equal(a.x, b.x) for a, b in zip(before, after, strict=True)
    )


def test_planetoid_is_one_graph_with_three_masks(tmp_path):
    write_planetoid(tmp_path, 'Cora', width=9, classes=7)
    parts = planetoid_parts(tmp_path, 'Cora')
    asked = [part[0].target_mask for part in parts]
    assert [int(mask.sum()) for mask in asked] == [6, 500, 7]
    assert not (asked[0] & asked[1] | asked[1] & asked[2]).any()
    for (graph,), mask in zip(parts, asked, strict=True):
        assert graph.num_nodes == 513
        assert graph.edge_index.shape == (2, 1026)
        assert torch.equal(graph.edge_index, parts[0][0].edge_index)
        assert torch.allclose(graph.x.sum(1), torch.ones(513))
        # The class is the first feature of each node.
        assert torch.equal(graph.x.argmax(1)[mask], graph.y)
        assert set(graph.keys()) == {'x', 'edge_index', 'y', 'target_mask'}


@pytest.mark.parametrize(
    ('name', 'outputs'), [('Peptides-func', 10), ('Peptides-struct', 11)]
)
def test_peptides_keep_their_split_and_features(tmp_path, name, outputs):
    write_peptides(tmp_path, name, outputs=outputs)
    parts = peptides_parts(tmp_path, name)
    assert [len(part) for part in parts] == [4, 2, 2]
    for part in parts:
        for number, graph in enumerate(part):
            assert torch.equal(graph.x, ATOMS)
            assert torch.equal(graph.edge_attr, BONDS.repeat(2, 1))
            assert graph.y.shape == (1, outputs)
            assert graph.y.dtype == torch.float32
            assert (graph.y == number).all()


def test_zinc_is_its_subset(tmp_path):
    write_zinc(tmp_path)
    for part in zinc_parts(tmp_path):
        assert [graph.y.tolist() for graph in part] == [[[0.5]], [[1.5]]]
        assert [graph.x.flatten().tolist() for graph in part] == [
            [0, 27, 1], [0, 27, 3],
        ]  # fmt: skip
        for graph in part:
            assert graph.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
            assert graph.edge_attr.tolist() == [[1], [1], [3], [3]]
            assert graph.x.dtype == graph.edge_attr.dtype == torch.int64


def test_molhiv_is_read_without_its_package(tmp_path):
    write_molhiv(tmp_path)
    train, val, test = molhiv_parts(tmp_path)
    answers = [
        [graph.y.item() for graph in part] for part in (train, val, test)
    ]
    assert answers == [[0, 1, 0], [0], [1]]
    assert train[0].num_nodes == 1
    assert train[0].edge_index.shape == (2, 0)
    assert train[0].edge_attr.shape == (0, 3)
    for graph in (*train[1:], *val, *test):
        assert torch.equal(graph.x, ATOMS)
        bonds = zip(
            graph.edge_index.T.tolist(), graph.edge_attr.tolist(), strict=True
        )
        first, second = BONDS.tolist()
        assert sorted(bonds) == [
            ([0, 1], first), ([1, 0], first),
            ([1, 2], second), ([2, 1], second),
        ]  # fmt: skip
        assert graph.y.dtype == torch.float32
