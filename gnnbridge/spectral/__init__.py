"""Spectral quantities of directed token graphs.

Every function takes ``(edge_index, edge_weight, num_nodes)`` or a dense
attention matrix ``A[..., i, j]`` (row = receiver) in place of ``edge_index``,
and those of a stack of layers take the matrices of all layers. They compute
in float64 unless `dtype` says otherwise and are differentiable in the
weights. What each is for, with the theorems behind it, is in the README of
this package.
"""

from gnnbridge.spectral.cache import ResistanceCache as ResistanceCache
from gnnbridge.spectral.gradient import (
    resistance_gradient as resistance_gradient,
)
from gnnbridge.spectral.green import absorption_time as absorption_time
from gnnbridge.spectral.green import hitting_probability as hitting_probability
from gnnbridge.spectral.laplacian import laplacian as laplacian
from gnnbridge.spectral.laplacian import leave_rate as leave_rate
from gnnbridge.spectral.layered import envelope_hitting as envelope_hitting
from gnnbridge.spectral.layered import layered_influence as layered_influence
from gnnbridge.spectral.lyapunov import (
    lyapunov_resistance as lyapunov_resistance,
)
from gnnbridge.spectral.resistance import (
    effective_resistance as effective_resistance,
)
from gnnbridge.spectral.resistance import total_resistance as total_resistance
from gnnbridge.spectral.restart import commute_time as commute_time
from gnnbridge.spectral.rollout import attention_rollout as attention_rollout
from gnnbridge.spectral.rollout import rms_rollout as rms_rollout
from gnnbridge.spectral.sketch import resistance_sketch as resistance_sketch
from gnnbridge.spectral.spectrum import fiedler_vector as fiedler_vector
from gnnbridge.spectral.spectrum import magnetic_laplacian as magnetic_laplacian
from gnnbridge.spectral.spectrum import singular_values as singular_values
from gnnbridge.spectral.spectrum import spectral_gap as spectral_gap

__all__ = [
    'ResistanceCache',
    'absorption_time',
    'attention_rollout',
    'commute_time',
    'effective_resistance',
    'envelope_hitting',
    'fiedler_vector',
    'hitting_probability',
    'laplacian',
    'layered_influence',
    'leave_rate',
    'lyapunov_resistance',
    'magnetic_laplacian',
    'resistance_gradient',
    'resistance_sketch',
    'rms_rollout',
    'singular_values',
    'spectral_gap',
    'total_resistance',
]
