"""Data sets that users bring: read from a disk, never downloaded."""

from gnnbridge.datasets.stored.files import STORED_FILES as STORED_FILES
from gnnbridge.datasets.stored.files import StoredFiles as StoredFiles
from gnnbridge.datasets.stored.files import stored_files as stored_files
from gnnbridge.datasets.stored.ogb import molhiv_parts as molhiv_parts
from gnnbridge.datasets.stored.pyg import peptides_parts as peptides_parts
from gnnbridge.datasets.stored.pyg import planetoid_parts as planetoid_parts
from gnnbridge.datasets.stored.pyg import tu_graphs as tu_graphs
from gnnbridge.datasets.stored.pyg import zinc_parts as zinc_parts

__all__ = [
    'STORED_FILES',
    'StoredFiles',
    'molhiv_parts',
    'peptides_parts',
    'planetoid_parts',
    'stored_files',
    'tu_graphs',
    'zinc_parts',
]
