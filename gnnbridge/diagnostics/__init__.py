"""What goes wrong in attention graphs, measured.

The functions take the token graph of each layer (a PyG ``Batch`` per layer
for several sequences, over which they average), or plain tensors, and know
nothing of the model that they come from.
"""

from gnnbridge.diagnostics.attention import (
    attention_entropy as attention_entropy,
)
from gnnbridge.diagnostics.attention import sink_rate as sink_rate
from gnnbridge.diagnostics.attention import sink_score as sink_score
from gnnbridge.diagnostics.attention import (
    uniform_sink_score as uniform_sink_score,
)
from gnnbridge.diagnostics.oversmoothing import (
    dirichlet_energy as dirichlet_energy,
)
from gnnbridge.diagnostics.oversmoothing import (
    effective_rank as effective_rank,
)
from gnnbridge.diagnostics.oversmoothing import mean_cosine as mean_cosine
from gnnbridge.diagnostics.oversmoothing import rank_collapse as rank_collapse
from gnnbridge.diagnostics.token_graph import (
    TokenGraphMetrics as TokenGraphMetrics,
)
from gnnbridge.diagnostics.token_graph import (
    token_graph_metrics as token_graph_metrics,
)

__all__ = [
    'TokenGraphMetrics',
    'attention_entropy',
    'dirichlet_energy',
    'effective_rank',
    'mean_cosine',
    'rank_collapse',
    'sink_rate',
    'sink_score',
    'token_graph_metrics',
    'uniform_sink_score',
]
