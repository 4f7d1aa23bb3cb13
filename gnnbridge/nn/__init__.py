"""Attention as message passing: PyG modules and the plans they run on."""

from gnnbridge.nn.attention_conv import AttentionConv as AttentionConv
from gnnbridge.nn.edge_softmax import edge_softmax as edge_softmax
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
    'AttentionPlan',
    'GraphTransformerLayer',
    'ProjectedAttention',
    'edge_softmax',
    'naive_attention',
    'plan_attention',
]
