"""Tasks on data sets that users bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch_geometric.data import Data

from gnnbridge.bench.task import Level, Metric, Splits, Task
from gnnbridge.datasets.stored.files import stored_files
from gnnbridge.datasets.stored.ogb import molhiv_parts
from gnnbridge.datasets.stored.pyg import (
    peptides_parts,
    planetoid_parts,
    tu_graphs,
    zinc_parts,
)

#: Where data sets are looked for if no folder is named.
ROOT = Path('data')
Features = int | tuple[int, ...]
# Categories of OGB's atom and bond features, which the peptides have as well:
# https://github.com/snap-stanford/ogb/blob/master/ogb/utils/features.py
_ATOMS = (119, 5, 12, 12, 10, 6, 6, 2, 2)
_BONDS = (5, 6, 2)


@dataclass(frozen=True)
class StoredTask:
    """A task on a data set; what is known of it before it is read.

    Attributes:
        name: What the task is called.
        data_set: A name of
            :data:`~gnnbridge.datasets.stored.files.STORED_FILES`.
        read: Takes a seed, a root folder and the data set's name, and gives
            the three parts.
        about: One sentence on what is asked, and its source.
        metric: How answers count.
        outputs: The number of classes or of targets.
        features: The width of ``x``, or the categories of its columns.
        layers: The depth of the models.
        edge_features: The same for ``edge_attr``.
        chance: What guessing reaches, if that is known.
        level: ``'node'`` for one graph whose nodes are asked.
    """

    name: str
    data_set: str
    read: Callable[[int, Path, str], Splits]
    about: str
    metric: Metric
    outputs: int
    features: Features
    layers: int
    edge_features: Features | None = None
    chance: float | None = None
    level: Level = 'graph'

    def __call__(self, *, root: Path | str | None = None) -> Task:
        """The task, if the data set is there.

        Args:
            root: The folder that holds the data sets; ``data`` if None.

        Raises:
            FileNotFoundError: If it is not, in one line.
        """
        folder = ROOT if root is None else Path(root)
        stored_files(self.data_set).require(folder)
        return Task(
            name=self.name,
            about=self.about,
            level=self.level,
            metric=self.metric,
            outputs=self.outputs,
            features=self.features,
            edge_features=self.edge_features,
            layers=self.layers,
            chance=self.chance,
            load=partial(_load, kind=self, root=folder),
        )


def _load(seed: int, *, kind: StoredTask, root: Path) -> Splits:
    splits = kind.read(seed, root, kind.data_set)
    for part in splits:
        for graph in part:
            _check(kind, root, 'x', graph.x, kind.features)
            if kind.edge_features is not None:
                _check(
                    kind, root, 'edge_attr', graph.edge_attr, kind.edge_features
                )
    return splits


def _check(
    kind: StoredTask, root: Path, name: str, value: Tensor, features: Features
) -> None:
    width = features if isinstance(features, int) else len(features)
    if value.size(1) != width:
        raise ValueError(
            f"Expected '{name}' of {kind.data_set} to have {width} columns "
            f"(got {value.size(1)} in '{root}'). Use the published files."
        )
    if isinstance(features, int) or not len(value):
        return
    if (value.amin(0) < 0).any() or (
        value.amax(0) >= torch.tensor(features)
    ).any():
        raise ValueError(
            f"Expected '{name}' of {kind.data_set} to be below {features} in "
            f"its columns (got {value.amax(0).tolist()} in '{root}'). Use the "
            'published files.'
        )


def _tu(seed: int, root: Path, name: str) -> Splits:
    """A random split into 80, 10 and 10 % of the graphs."""
    graphs = tu_graphs(root, name)
    generator = Generator().manual_seed(seed)
    order = torch.randperm(len(graphs), generator=generator).tolist()
    held_out = round(len(graphs) / 10)

    def part(rows: list[int]) -> list[Data]:
        return [graphs[row] for row in rows]

    return Splits(
        part(order[2 * held_out :]),
        part(order[:held_out]),
        part(order[held_out : 2 * held_out]),
    )


def _planetoid(seed: int, root: Path, name: str) -> Splits:
    return Splits(*planetoid_parts(root, name))


def _peptides(seed: int, root: Path, name: str) -> Splits:
    return Splits(*peptides_parts(root, name))


def _zinc(seed: int, root: Path, name: str) -> Splits:
    return Splits(*zinc_parts(root))


def _molhiv(seed: int, root: Path, name: str) -> Splits:
    return Splits(*molhiv_parts(root))


_TU_ABOUT = '(TUDataset, Morris et al. 2020)'
_PLANETOID_ABOUT = 'What is a paper about? (Planetoid, Yang et al. 2016)'
_LRGB = 'Long Range Graph Benchmark, Dwivedi et al. 2022'
# The chance is the share of the largest class.
STORED_TASKS = {
    kind.name: kind
    for kind in (
        StoredTask(
            'mutag', 'MUTAG', _tu,
            f'Is a molecule mutagenic? {_TU_ABOUT}', 'accuracy',
            outputs=2, features=7, edge_features=4, layers=4,
            chance=125 / 188,
        ),
        StoredTask(
            'proteins', 'PROTEINS', _tu,
            f'Is a protein an enzyme? {_TU_ABOUT}', 'accuracy',
            outputs=2, features=3, layers=4, chance=663 / 1113,
        ),
        StoredTask(
            'enzymes', 'ENZYMES', _tu,
            f'Of which class is an enzyme? {_TU_ABOUT}', 'accuracy',
            outputs=6, features=3, layers=4, chance=1 / 6,
        ),
        StoredTask(
            'cora', 'Cora', _planetoid, _PLANETOID_ABOUT, 'accuracy',
            outputs=7, features=1433, layers=2, level='node',
            chance=818 / 2708,
        ),
        StoredTask(
            'citeseer', 'CiteSeer', _planetoid, _PLANETOID_ABOUT, 'accuracy',
            outputs=6, features=3703, layers=2, level='node',
            chance=701 / 3327,
        ),
        StoredTask(
            'pubmed', 'PubMed', _planetoid, _PLANETOID_ABOUT, 'accuracy',
            outputs=3, features=500, layers=2, level='node',
            chance=7875 / 19717,
        ),
        StoredTask(
            'peptides_func', 'Peptides-func', _peptides,
            f'Which functions has a peptide? ({_LRGB})', 'average_precision',
            outputs=10, features=_ATOMS, edge_features=_BONDS, layers=5,
        ),
        StoredTask(
            'peptides_struct', 'Peptides-struct', _peptides,
            f'What shape has a peptide? ({_LRGB})', 'mean_absolute_error',
            outputs=11, features=_ATOMS, edge_features=_BONDS, layers=5,
        ),
        StoredTask(
            'zinc', 'ZINC', _zinc,
            'How soluble is a molecule, less what makes it hard to make? '
            '(subset of Dwivedi et al. 2020)', 'mean_absolute_error',
            outputs=1, features=(28,), edge_features=(4,), layers=4,
        ),
        StoredTask(
            'molhiv', 'ogbg-molhiv', _molhiv,
            'Does a molecule inhibit HIV? (Hu et al. 2020)', 'roc_auc',
            outputs=1, features=_ATOMS, edge_features=_BONDS, layers=5,
            chance=0.5,
        ),
    )
}  # fmt: skip
