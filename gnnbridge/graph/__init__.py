"""Token graphs: builders, checks, and the way to the attention matrix."""

from gnnbridge.graph.cache import cache_graph as cache_graph
from gnnbridge.graph.cache import to_bipartite as to_bipartite
from gnnbridge.graph.causal import block_graph as block_graph
from gnnbridge.graph.causal import causal_graph as causal_graph
from gnnbridge.graph.causal import complete_graph as complete_graph
from gnnbridge.graph.causal import dilated_graph as dilated_graph
from gnnbridge.graph.causal import prefix_graph as prefix_graph
from gnnbridge.graph.causal import sliding_window_graph as sliding_window_graph
from gnnbridge.graph.dense import from_attention as from_attention
from gnnbridge.graph.dense import to_attention as to_attention
from gnnbridge.graph.mask import from_mask as from_mask
from gnnbridge.graph.schema import is_causal as is_causal
from gnnbridge.graph.schema import roots as roots
from gnnbridge.graph.schema import sort as sort
from gnnbridge.graph.schema import validate as validate
from gnnbridge.graph.sparsify import sparsify as sparsify
from gnnbridge.graph.unroll import unroll as unroll

__all__ = [
    'block_graph',
    'cache_graph',
    'causal_graph',
    'complete_graph',
    'dilated_graph',
    'from_attention',
    'from_mask',
    'is_causal',
    'prefix_graph',
    'roots',
    'sliding_window_graph',
    'sort',
    'sparsify',
    'to_attention',
    'to_bipartite',
    'unroll',
    'validate',
]
