"""Discrete curvature of the edges of any graph or token graph.

Every function takes ``(edge_index, edge_weight, num_nodes)`` and returns a
value for each edge, in float64 and in the order of the edges, or takes a
dense ``A[i, j]`` (row = receiver) and returns a matrix. Directed graphs have
their own forms, in which the edges into the source and those from the target
count: those that the edge connects.
"""

from gnnbridge.curvature.balanced_forman import (
    balanced_forman as balanced_forman,
)
from gnnbridge.curvature.forman import augmented_forman as augmented_forman
from gnnbridge.curvature.forman import forman as forman
from gnnbridge.curvature.ollivier import ollivier_ricci as ollivier_ricci

__all__ = [
    'augmented_forman',
    'balanced_forman',
    'forman',
    'ollivier_ricci',
]
