"""Which files of a data set must lie below a root folder, and who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PARTS = ('train', 'val', 'test')


@dataclass(frozen=True)
class StoredFiles:
    """The files of a data set, relative to a root folder.

    Attributes:
        name: What the data set is called.
        raw: The files as published.
        processed: What PyG makes of them; they do in place of the others.
        source: What fetches them where there is a network.
    """

    name: str
    raw: tuple[str, ...]
    processed: tuple[str, ...]
    source: str

    def require(self, root: Path | str) -> None:
        """Checks that the files are there. Nothing is ever downloaded.

        Args:
            root: The folder that holds the data sets.

        Raises:
            FileNotFoundError: If they are not; one line says what is missing
                and how to get it.
        """
        missing = _missing(root, self.raw)
        if missing and (not self.processed or _missing(root, self.processed)):
            raise FileNotFoundError(
                f"Expected the data set {self.name} in '{root}' (got no "
                f"'{missing[0]}' there). Get it by {self.source}, or name the "
                'folder that holds it (--root).'
            )


def stored_files(name: str) -> StoredFiles:
    """The files of a data set.

    Args:
        name: A name of :data:`STORED_FILES`, as ``'MUTAG'``.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in STORED_FILES:
        raise ValueError(
            f'Expected a data set among {", ".join(STORED_FILES)} '
            f'(got {name!r}).'
        )
    return STORED_FILES[name]


def _missing(root: Path | str, files: Sequence[str]) -> list[str]:
    return [file for file in files if not (Path(root) / file).is_file()]


def _tu(name: str) -> StoredFiles:
    # PyG does without the labels, and answers would be missing later on.
    files = ('A', 'graph_indicator', 'graph_labels', 'node_labels')
    return StoredFiles(
        name,
        tuple(f'{name}/raw/{name}_{file}.txt' for file in files),
        (f'{name}/processed/data.pt',),
        f"torch_geometric.datasets.TUDataset(root, '{name}')",
    )


def _planetoid(name: str) -> StoredFiles:
    files = ('x', 'tx', 'allx', 'y', 'ty', 'ally', 'graph', 'test.index')
    return StoredFiles(
        name,
        tuple(f'{name}/raw/ind.{name.lower()}.{file}' for file in files),
        (f'{name}/processed/data.pt',),
        f"torch_geometric.datasets.Planetoid(root, '{name}')",
    )


def _peptides(name: str) -> StoredFiles:
    folder = name.lower()
    return StoredFiles(
        name,
        tuple(f'{folder}/raw/{part}.pt' for part in _PARTS),
        tuple(f'{folder}/processed/{part}.pt' for part in _PARTS),
        f"torch_geometric.datasets.LRGBDataset(root, '{name}')",
    )


_ZINC = StoredFiles(
    'ZINC',
    tuple(
        f'ZINC/raw/{part}.{kind}'
        for kind in ('pickle', 'index')
        for part in _PARTS
    ),
    tuple(f'ZINC/subset/processed/{part}.pt' for part in _PARTS),
    "torch_geometric.datasets.ZINC(root + '/ZINC', subset=True)",
)
_MOLHIV = StoredFiles(
    'ogbg-molhiv',
    tuple(
        f'ogbg_molhiv/raw/{file}.csv.gz'
        for file in (
            'edge',
            'edge-feat',
            'node-feat',
            'num-edge-list',
            'num-node-list',
            'graph-label',
        )
    )
    + tuple(
        f'ogbg_molhiv/split/scaffold/{part}.csv.gz'
        for part in ('train', 'valid', 'test')
    ),
    (),
    'http://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/hiv.zip, '
    'unpacked and renamed to ogbg_molhiv',
)
#: The data sets that can be read, by their names in PyG and OGB.
STORED_FILES = {
    files.name: files
    for files in (
        *map(_tu, ('MUTAG', 'PROTEINS', 'ENZYMES')),
        *map(_planetoid, ('Cora', 'CiteSeer', 'PubMed')),
        *map(_peptides, ('Peptides-func', 'Peptides-struct')),
        _ZINC,
        _MOLHIV,
    )
}
