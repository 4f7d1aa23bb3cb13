"""Attention with its four projections as a PyG layer."""

from __future__ import annotations

from typing import Any, Optional, Union

from torch import Tensor, nn
from torch_geometric.nn.inits import reset
from torch_geometric.typing import OptTensor

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.edge_weight import log_edge_weight
from gnnbridge.nn.plan import AttentionPlan
from gnnbridge.nn.rotary import check_width, positions_of, rotate


class ProjectedAttention(nn.Module):
    r"""Attention between node states by way of four projections.

    .. math::
        \mathbf{x}'_i = \mathbf{W}_O \sum_{j \to i} \alpha_{ij}
        \mathbf{W}_V \mathbf{x}_j

    Those of trained models come from :func:`gnnbridge.extract_attention`.

    Args:
        in_channels: Width of the states.
        heads: Number of attention heads.
        kv_heads: Number of key and value heads; ``heads`` by default.
        width: Width of a head; ``in_channels // heads`` by default.
        out_channels: Width of the result; ``in_channels`` by default.
        rope_theta: Base of rotary position embeddings; none by default.
        scale: Factor of the scores; ``width ** -0.5`` by default.
        dropout: Dropout of attention weights.

    Shapes:
        - **x:** :math:`(N, F)`
        - **edge_index:** :math:`(2, E)`, row 0 the key, row 1 the query
        - **position:** :math:`(N)`, **edge_weight:** :math:`(E)`
        - **output:** :math:`(N, F')`
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 1,
        *,
        kv_heads: Optional[int] = None,
        width: Optional[int] = None,
        out_channels: Optional[int] = None,
        rope_theta: Optional[float] = None,
        scale: Optional[float] = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        width = in_channels // heads if width is None else width
        if min(heads, kv_heads, width) < 1 or heads % kv_heads:
            raise ValueError(
                f"Expected 'heads' to be a multiple of 'kv_heads', and a "
                f'positive width (got {heads}, {kv_heads} and {width}).'
            )
        check_width(width, rope_theta)
        self.in_channels, self.heads = in_channels, heads
        self.kv_heads, self.width = kv_heads, width
        self.rope_theta, self.scale = rope_theta, scale
        self.lin_query = nn.Linear(in_channels, heads * width)
        self.lin_key = nn.Linear(in_channels, kv_heads * width)
        self.lin_value = nn.Linear(in_channels, kv_heads * width)
        out = in_channels if out_channels is None else out_channels
        self.lin_out = nn.Linear(heads * width, out)
        self.conv = AttentionConv(dropout)

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        for child in self.children():
            reset(child)

    def forward(
        self,
        x: Tensor,
        edge_index: Union[Tensor, AttentionPlan],
        position: OptTensor = None,
        edge_weight: OptTensor = None,
        *,
        return_attention_weights: bool = False,
    ) -> Any:
        r"""Runs attention on a graph.

        Args:
            x: Node states :obj:`[N, F]`.
            edge_index: Edges :obj:`[2, E]` or a plan. They are the whole
                truth: no causality is added.
            position: Position of each node :obj:`[N]` for the rotary
                embedding; :obj:`0..N-1` by default. Only differences count.
            edge_weight: Prior weight of each edge :obj:`[E]`, non-negative:
                :math:`\alpha_e \propto w_e \exp(s_e)`. Weight 1 changes
                nothing, weight 0 removes the edge (and gets no gradient).
            return_attention_weights: Also return ``(edge_index, alpha)``.

        Raises:
            ValueError: If ``position`` is given without rotary embedding or is
                not :obj:`[N]`, or if a weight is negative.
        """
        position = positions_of(x, position, self.rope_theta)
        query = self.lin_query(x).view(x.size(0), self.heads, -1)
        key = self.lin_key(x).view(x.size(0), self.kv_heads, -1)
        value = self.lin_value(x).view(x.size(0), self.kv_heads, -1)
        if position is not None:
            assert self.rope_theta is not None  # checked with the position
            query = rotate(query, position, self.rope_theta)
            key = rotate(key, position, self.rope_theta)
        result = self.conv(
            query,
            key,
            value,
            edge_index,
            scale=self.scale,
            edge_bias=log_edge_weight(edge_weight),
            return_attention_weights=return_attention_weights,
        )
        out, attention = result if return_attention_weights else (result, None)
        out = self.lin_out(out.flatten(1))
        return (out, attention) if return_attention_weights else out

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, heads={self.heads})'
        )
