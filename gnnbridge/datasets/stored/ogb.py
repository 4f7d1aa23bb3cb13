"""Molecules of the Open Graph Benchmark, read from its published files.

The package ``ogb`` is not needed: its version 1.3.6 cannot read what it has
processed with torch 2.6 and later, and looks for a newer one of itself in the
network whenever it is imported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.datasets.stored.files import stored_files

Parts = tuple[list[Data], list[Data], list[Data]]


def molhiv_parts(root: Path | str) -> Parts:
    """``ogbg-molhiv``: does a molecule inhibit the replication of HIV?

    From `Hu et al., 2020, "Open Graph Benchmark"
    <https://arxiv.org/abs/2005.00687>`_, with its split by scaffolds. Reading
    the 41,127 molecules takes some seconds.

    Args:
        root: The folder that holds ``ogbg_molhiv/raw`` and
            ``ogbg_molhiv/split``.

    Shapes:
        ``x`` is ``[N, 9]`` and ``edge_attr`` ``[E, 3]``, both int64; ``y`` is
        ``[1, 1]`` float32, 0 or 1.

    Raises:
        FileNotFoundError: If the data set is not there.
    """
    stored_files('ogbg-molhiv').require(root)
    folder = Path(root) / 'ogbg_molhiv'
    graphs = _graphs(folder / 'raw')

    def part(name: str) -> list[Data]:
        rows = _table(folder / 'split' / 'scaffold' / f'{name}.csv.gz')
        return [graphs[row] for row in rows.flatten().tolist()]

    return part('train'), part('valid'), part('test')


def _graphs(raw: Path) -> list[Data]:
    nodes = _table(raw / 'num-node-list.csv.gz').flatten().tolist()
    edges = _table(raw / 'num-edge-list.csv.gz').flatten().tolist()
    rows = zip(
        _table(raw / 'node-feat.csv.gz').split(nodes),
        _table(raw / 'edge.csv.gz').split(edges),
        _table(raw / 'edge-feat.csv.gz').split(edges),
        _table(raw / 'graph-label.csv.gz').float(),
        strict=True,
    )
    # Each bond is listed once.
    return [
        Data(
            x=x,
            edge_index=torch.cat([bonds.T, bonds.T.flip(0)], dim=1),
            edge_attr=kinds.repeat(2, 1),
            y=label.view(1, 1),
        )
        for x, bonds, kinds, label in rows
    ]


def _table(file: Path) -> Tensor:
    rows = np.loadtxt(file, dtype=np.int64, delimiter=',', ndmin=2)
    return torch.from_numpy(rows)
