"""Attention as message passing: PyG modules and the plans they run on."""

from gnnbridge.nn.attention_conv import AttentionConv as AttentionConv
from gnnbridge.nn.differential import (
    DifferentialAttention as DifferentialAttention,
)
from gnnbridge.nn.differential_conv import (
    DifferentialAttentionConv as DifferentialAttentionConv,
)
from gnnbridge.nn.differential_conv import (
    DifferentialWeights as DifferentialWeights,
)
from gnnbridge.nn.edge_softmax import edge_softmax as edge_softmax
from gnnbridge.nn.history import AttentionHistory as AttentionHistory
from gnnbridge.nn.history_state import HistoryState as HistoryState
from gnnbridge.nn.naive import naive_attention as naive_attention
from gnnbridge.nn.plan import AttentionPlan as AttentionPlan
from gnnbridge.nn.plan import plan_attention as plan_attention
from gnnbridge.nn.projected_attention import (
    ProjectedAttention as ProjectedAttention,
)
from gnnbridge.nn.transformer_layer import (
    GraphTransformerLayer as GraphTransformerLayer,
)

__all__ = [
    'AttentionConv',
    'AttentionHistory',
    'AttentionPlan',
    'DifferentialAttention',
    'DifferentialAttentionConv',
    'DifferentialWeights',
    'GraphTransformerLayer',
    'HistoryState',
    'ProjectedAttention',
    'edge_softmax',
    'naive_attention',
    'plan_attention',
]
