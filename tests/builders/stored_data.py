"""Tiny data sets in the formats that the published ones have."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

PARTS = ('train', 'val', 'test')
# Columns of the atoms and bonds of molecules, the largest categories first.
ATOMS = torch.tensor([[118, 4, 11, 11, 9, 5, 5, 1, 1], [0] * 9, [5] + [1] * 8])
BONDS = torch.tensor([[4, 5, 1], [0, 0, 0]])
ENDS = ((0, 1), (1, 2))


def write_tu(root: Path, name: str, *, labels: int, edge_labels: int) -> None:
    """Twenty paths of three nodes; the first holds the largest labels."""
    folder = root / name / 'raw'
    folder.mkdir(parents=True)
    edges, kinds, owner, nodes, classes = [], [], [], [], []
    for graph in range(20):
        first = 3 * graph + 1
        for a, b in ((0, 1), (1, 0), (1, 2), (2, 1)):
            edges.append(f'{first + a}, {first + b}')
            kinds.append((graph + a + b) % max(edge_labels, 1))
        owner += [graph + 1] * 3
        nodes += [(3 * graph + node) % labels for node in range(3)]
        classes.append(graph % 2 * 2 - 1)
    tables = {'A': edges, 'graph_indicator': owner, 'node_labels': nodes}
    tables['graph_labels'] = classes
    if edge_labels:
        tables['edge_labels'] = kinds
    for table, rows in tables.items():
        text = '\n'.join(map(str, rows)) + '\n'
        (folder / f'{name}_{table}.txt').write_text(text)


def write_planetoid(root: Path, name: str, *, width: int, classes: int) -> None:
    """A ring of nodes: some to train on, 500 to choose by, 7 to test."""
    folder = root / name / 'raw'
    folder.mkdir(parents=True)
    train, known, size = 6, 506, 513
    label = np.arange(size) % classes
    features = np.zeros((size, width), dtype=np.float32)
    features[np.arange(size), label] = 2
    features[:, width - 1] = 2
    answers = np.eye(classes, dtype=np.int32)[label]
    rows = {'x': slice(train), 'allx': slice(known), 'tx': slice(known, None)}
    contents = {
        key: scipy.sparse.csr_matrix(features[part])
        for key, part in rows.items()
    }
    contents |= {
        'y': answers[:train],
        'ally': answers[:known],
        'ty': answers[known:],
        'graph': {i: [(i - 1) % size, (i + 1) % size] for i in range(size)},
    }
    stem = f'ind.{name.lower()}'
    for key, value in contents.items():
        (folder / f'{stem}.{key}').write_bytes(pickle.dumps(value))
    order = '\n'.join(map(str, range(known, size)))
    (folder / f'{stem}.test.index').write_text(order + '\n')


def write_peptides(root: Path, name: str, *, outputs: int) -> None:
    """Molecules of three atoms: four, two and two of them."""
    folder = root / name.lower() / 'raw'
    folder.mkdir(parents=True)
    ends = torch.tensor([*ENDS, *(end[::-1] for end in ENDS)]).T
    for count, part in zip((4, 2, 2), PARTS, strict=True):
        graphs = [
            (
                ATOMS,
                BONDS.repeat(2, 1),
                ends,
                torch.full((1, outputs), float(i)),
            )
            for i in range(count)
        ]
        torch.save(graphs, folder / f'{part}.pt')


def write_zinc(root: Path) -> None:
    """Five molecules of three atoms in each part, of which two are taken."""
    folder = root / 'ZINC' / 'raw'
    folder.mkdir(parents=True)
    bonds = torch.tensor([[0, 1, 0], [1, 0, 3], [0, 3, 0]])
    for part in PARTS:
        molecules = [
            {
                'atom_type': torch.tensor([0, 27, i]),
                'bond_type': bonds,
                'logP_SA_cycle_normalized': torch.tensor([i / 2]),
            }
            for i in range(5)
        ]
        (folder / f'{part}.pickle').write_bytes(pickle.dumps(molecules))
        (folder / f'{part}.index').write_text('1,3\n')


def write_molhiv(root: Path) -> None:
    """Four molecules of three atoms and one of a single atom."""
    raw = root / 'ogbg_molhiv' / 'raw'
    split = root / 'ogbg_molhiv' / 'split' / 'scaffold'
    raw.mkdir(parents=True)
    split.mkdir(parents=True)
    tables = {
        raw / 'num-node-list': [[3]] * 4 + [[1]],
        raw / 'num-edge-list': [[2]] * 4 + [[0]],
        raw / 'node-feat': ATOMS.tolist() * 4 + [[7] + [0] * 8],
        raw / 'edge': [list(end) for end in ENDS] * 4,
        raw / 'edge-feat': BONDS.tolist() * 4,
        raw / 'graph-label': [[0], [1], [0], [1], [0]],
        split / 'train': [[4], [1], [0]],
        split / 'valid': [[2]],
        split / 'test': [[3]],
    }
    for file, rows in tables.items():
        text = ''.join(','.join(map(str, row)) + '\n' for row in rows)
        path = file.with_name(f'{file.name}.csv.gz')
        path.write_bytes(gzip.compress(text.encode()))
