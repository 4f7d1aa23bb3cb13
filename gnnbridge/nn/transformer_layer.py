"""A transformer block as a PyG layer: norm, attention, residual, MLP."""

from __future__ import annotations

from typing import Any, Optional, Union

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import reset
from torch_geometric.nn.resolver import activation_resolver
from torch_geometric.typing import OptTensor

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.plan import AttentionPlan
from gnnbridge.nn.rotary import check_width, positions_of, rotate

_NORMS = {'layer_norm': nn.LayerNorm, 'rms_norm': nn.RMSNorm}


class GraphTransformerLayer(nn.Module):
    r"""A pre-norm transformer block that runs on any directed graph.

    .. math::
        \mathbf{u}_i &= \mathbf{x}_i + \mathbf{W}_O \sum_{j \to i}
        \alpha_{ij} \mathbf{W}_V n(\mathbf{x}_j) \\
        \mathbf{x}'_i &= \mathbf{u}_i + \mathrm{MLP}(n'(\mathbf{u}_i))

    On the full causal graph this is a decoder block. Blocks of trained models
    come in the same form from :func:`gnnbridge.convert_layer`.

    Args:
        channels: Width of the residual stream.
        heads: Number of attention heads.
        kv_heads: Number of key and value heads; ``heads`` by default.
        hidden_channels: Width of the MLP; ``4 * channels`` by default.
        norm: ``'layer_norm'`` or ``'rms_norm'``.
        act: Activation of the MLP, by PyG's name.
        rope_theta: Base of rotary position embeddings; none by default.
        dropout: Dropout of attention weights and of both residual branches.

    Shapes:
        - **x:** :math:`(N, F)`
        - **edge_index:** :math:`(2, E)`, row 0 the key, row 1 the query
        - **position:** :math:`(N)`, **edge_weight:** :math:`(E)`
        - **output:** :math:`(N, F)`
    """

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        *,
        kv_heads: Optional[int] = None,
        hidden_channels: Optional[int] = None,
        norm: str = 'layer_norm',
        act: str = 'gelu',
        rope_theta: Optional[float] = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if min(heads, kv_heads) < 1 or channels % heads or heads % kv_heads:
            raise ValueError(
                f"Expected 'channels' to be a multiple of 'heads' and 'heads' "
                f"of 'kv_heads' (got {channels}, {heads} and {kv_heads})."
            )
        width = channels // heads
        check_width(width, rope_theta)
        if norm not in _NORMS:
            raise ValueError(
                f"Expected 'norm' to be one of {sorted(_NORMS)} (got '{norm}')."
            )
        hidden = 4 * channels if hidden_channels is None else hidden_channels
        self.channels, self.heads, self.kv_heads = channels, heads, kv_heads
        self.rope_theta = rope_theta
        self.norm1 = _NORMS[norm](channels)
        self.lin_query = nn.Linear(channels, heads * width)
        self.lin_key = nn.Linear(channels, kv_heads * width)
        self.lin_value = nn.Linear(channels, kv_heads * width)
        self.lin_out = nn.Linear(heads * width, channels)
        self.conv = AttentionConv(dropout)
        self.norm2 = _NORMS[norm](channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden),
            activation_resolver(act),
            nn.Linear(hidden, channels),
        )
        self.dropout = nn.Dropout(dropout)

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
        r"""Runs the block.

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
            ValueError: If ``position`` is given to a layer without rotary
                embedding or is not :obj:`[N]`, or if a weight is negative.
        """
        position = positions_of(x, position, self.rope_theta)
        hidden = self.norm1(x)
        query = self.lin_query(hidden).view(x.size(0), self.heads, -1)
        key = self.lin_key(hidden).view(x.size(0), self.kv_heads, -1)
        value = self.lin_value(hidden).view(x.size(0), self.kv_heads, -1)
        if position is not None:
            assert self.rope_theta is not None  # checked with the position
            query = rotate(query, position, self.rope_theta)
            key = rotate(key, position, self.rope_theta)
        result = self.conv(
            query,
            key,
            value,
            edge_index,
            edge_bias=log_edge_weight(edge_weight),
            return_attention_weights=return_attention_weights,
        )
        out, attention = result if return_attention_weights else (result, None)
        x = x + self.dropout(self.lin_out(out.flatten(1)))
        x = x + self.dropout(self.mlp(self.norm2(x)))
        return (x, attention) if return_attention_weights else x

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.channels}, heads={self.heads})'


def log_edge_weight(edge_weight: OptTensor) -> OptTensor:
    """Turns prior edge weights into the bias that multiplies attention by them.

    Raises:
        ValueError: If a weight is negative, infinite or not a number.
    """
    if edge_weight is None:
        return None
    bad = ~((edge_weight >= 0) & edge_weight.isfinite())
    if bad.any():
        edge = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"Expected 'edge_weight' to be finite and non-negative (got "
            f'{float(edge_weight[edge])} at edge {edge}).'
        )
    # The logarithm has no gradient at zero: it would be NaN, not absent.
    dtype = torch.promote_types(edge_weight.dtype, torch.float32)
    absent = edge_weight == 0
    logarithm = edge_weight.to(dtype).masked_fill(absent, 1.0).log()
    return logarithm.masked_fill(absent, float('-inf'))
