"""A transformer block as a PyG layer: norm, attention, residual, MLP."""

from __future__ import annotations

from typing import Any, Optional, Union

from torch import Tensor, nn
from torch_geometric.nn.resolver import activation_resolver
from torch_geometric.typing import OptTensor

from gnnbridge.nn.plan import AttentionPlan
from gnnbridge.nn.projected_attention import ProjectedAttention

_NORMS = {'layer_norm': nn.LayerNorm, 'rms_norm': nn.RMSNorm}


class GraphTransformerLayer(ProjectedAttention):
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
        if norm not in _NORMS:
            raise ValueError(
                f"Expected 'norm' to be one of {sorted(_NORMS)} (got '{norm}')."
            )
        kv_heads = heads if kv_heads is None else kv_heads
        if min(heads, kv_heads) < 1 or channels % heads or heads % kv_heads:
            raise ValueError(
                f"Expected 'channels' to be a multiple of 'heads' and 'heads' "
                f"of 'kv_heads' (got {channels}, {heads} and {kv_heads})."
            )
        super().__init__(
            channels,
            heads,
            kv_heads=kv_heads,
            rope_theta=rope_theta,
            dropout=dropout,
        )
        hidden = 4 * channels if hidden_channels is None else hidden_channels
        self.channels = channels
        self.norm1, self.norm2 = (_NORMS[norm](channels) for _ in range(2))
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden),
            activation_resolver(act),
            nn.Linear(hidden, channels),
        )
        self.dropout = nn.Dropout(dropout)

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
        result = super().forward(
            self.norm1(x),
            edge_index,
            position,
            edge_weight,
            return_attention_weights=return_attention_weights,
        )
        out, attention = result if return_attention_weights else (result, None)
        x = x + self.dropout(out)
        x = x + self.dropout(self.mlp(self.norm2(x)))
        return (x, attention) if return_attention_weights else x
