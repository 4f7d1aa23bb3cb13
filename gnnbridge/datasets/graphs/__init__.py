"""Graph tasks that need no data: lists of PyG graphs, drawn by a generator.

Every graph has ``x``, ``edge_index`` (sorted by target then source), the
answers ``y``, and for tasks on nodes ``target_mask``, which tells the nodes
that are asked: ``y`` has a row for each, in their order.
"""

from gnnbridge.datasets.graphs.block_model import (
    contextual_blocks as contextual_blocks,
)
from gnnbridge.datasets.graphs.block_model import (
    labelled_blocks as labelled_blocks,
)
from gnnbridge.datasets.graphs.distances import eccentricities as eccentricities
from gnnbridge.datasets.graphs.distances import hop_distances as hop_distances
from gnnbridge.datasets.graphs.distances import shortest_paths as shortest_paths
from gnnbridge.datasets.graphs.numbering import renumbered as renumbered
from gnnbridge.datasets.graphs.tokens import causal_copy as causal_copy
from gnnbridge.datasets.graphs.tokens import (
    key_value_graphs as key_value_graphs,
)
from gnnbridge.datasets.graphs.transfer import (
    clique_path_transfer as clique_path_transfer,
)
from gnnbridge.datasets.graphs.transfer import (
    directed_path_transfer as directed_path_transfer,
)
from gnnbridge.datasets.graphs.transfer import (
    lollipop_transfer as lollipop_transfer,
)
from gnnbridge.datasets.graphs.transfer import ring_transfer as ring_transfer
from gnnbridge.datasets.graphs.tree_neighbors import (
    tree_neighbors_match as tree_neighbors_match,
)

__all__ = [
    'causal_copy',
    'clique_path_transfer',
    'contextual_blocks',
    'directed_path_transfer',
    'eccentricities',
    'hop_distances',
    'key_value_graphs',
    'labelled_blocks',
    'lollipop_transfer',
    'renumbered',
    'ring_transfer',
    'shortest_paths',
    'tree_neighbors_match',
]
