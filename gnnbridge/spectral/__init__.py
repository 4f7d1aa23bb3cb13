"""Spectral quantities of directed token graphs.

Every function takes ``(edge_index, edge_weight, num_nodes)`` or a dense
attention matrix ``A[..., i, j]`` (row = receiver) in place of ``edge_index``,
computes in float64 and returns float64, and is differentiable in the weights.
"""

from gnnbridge.spectral.green import absorption_time as absorption_time
from gnnbridge.spectral.green import hitting_probability as hitting_probability
from gnnbridge.spectral.laplacian import laplacian as laplacian
from gnnbridge.spectral.laplacian import leave_rate as leave_rate
from gnnbridge.spectral.lyapunov import (
    lyapunov_resistance as lyapunov_resistance,
)
from gnnbridge.spectral.resistance import (
    effective_resistance as effective_resistance,
)
from gnnbridge.spectral.resistance import total_resistance as total_resistance
from gnnbridge.spectral.restart import commute_time as commute_time
from gnnbridge.spectral.rollout import attention_rollout as attention_rollout

__all__ = [
    'absorption_time',
    'attention_rollout',
    'commute_time',
    'effective_resistance',
    'hitting_probability',
    'laplacian',
    'leave_rate',
    'lyapunov_resistance',
    'total_resistance',
]
