"""Differential attention with its four projections as a PyG layer."""

from __future__ import annotations

from typing import Any, Optional, Union

from torch import Tensor, nn
from torch_geometric.nn.inits import reset
from torch_geometric.typing import OptTensor

from gnnbridge.nn.differential_conv import DifferentialAttentionConv
from gnnbridge.nn.edge_weight import log_edge_weight
from gnnbridge.nn.history import Previous
from gnnbridge.nn.plan import AttentionPlan, Structure
from gnnbridge.nn.rotary import check_width, positions_of, rotate


class DifferentialAttention(nn.Module):
    r"""Differential attention between node states.

    The layer of `"Differential Transformer"
    <https://arxiv.org/abs/2410.05258>`_ on any graph, with as many weights as
    ordinary attention of ``2 * heads`` heads of the same width, four vectors
    of that width and the gain of the norm. History, if any, adds one or two
    numbers for each head. Weights of DiffLlama models come from
    :func:`gnnbridge.models.differential.from_diffllama`.

    Args:
        in_channels: Width of the states.
        heads: Number of differential heads; each has two maps.
        kv_heads: Number of value heads, of half the key heads; ``heads`` by
            default.
        width: Width of queries and keys, half that of values;
            ``in_channels // (2 * heads)`` by default.
        rope_theta: Base of rotary position embeddings; none by default.
        bias: Whether projections have a bias.
        **kwargs: Arguments of
            :class:`gnnbridge.nn.DifferentialAttentionConv`: ``layer``,
            ``history``, ``elementwise_affine`` and so on.

    Shapes:
        - **x:** :math:`(N, F)`
        - **edge_index:** :math:`(2, E)`, row 0 the key, row 1 the query
        - **position:** :math:`(N)`, **edge_weight:** :math:`(E)`
        - **output:** :math:`(N, F)`
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 1,
        *,
        kv_heads: Optional[int] = None,
        width: Optional[int] = None,
        rope_theta: Optional[float] = None,
        bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if width is None:
            width = in_channels // (2 * max(heads, 1))
        if min(heads, kv_heads, width) < 1 or heads % kv_heads:
            raise ValueError(
                f"Expected 'heads' to be a multiple of 'kv_heads', and a "
                f'positive width (got {heads}, {kv_heads} and {width}).'
            )
        check_width(width, rope_theta)
        self.in_channels, self.heads = in_channels, heads
        self.kv_heads, self.rope_theta = kv_heads, rope_theta
        self.conv = DifferentialAttentionConv(width, heads, **kwargs)
        value_width = self.conv.value_width
        self.lin_query = nn.Linear(in_channels, 2 * heads * width, bias)
        self.lin_key = nn.Linear(in_channels, 2 * kv_heads * width, bias)
        self.lin_value = nn.Linear(in_channels, kv_heads * value_width, bias)
        self.lin_out = nn.Linear(heads * value_width, in_channels, bias)

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        for child in self.children():
            reset(child)

    def project(
        self, x: Tensor, position: OptTensor = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, as ``conv`` takes them.

        Decoding projects the new nodes, puts their keys and values behind
        those of earlier ones and calls :meth:`attend`. The layer above takes
        queries and keys as its ``previous``.

        Args:
            x: Node states :obj:`[N, F]`.
            position: Position of each node :obj:`[N]` for the rotary
                embedding; :obj:`0..N-1` by default.

        Raises:
            ValueError: If ``position`` is given without rotary embedding or is
                not :obj:`[N]`.
        """
        position = positions_of(x, position, self.rope_theta)
        query = self.lin_query(x).view(x.size(0), 2 * self.heads, -1)
        key = self.lin_key(x).view(x.size(0), 2 * self.kv_heads, -1)
        value = self.lin_value(x).view(x.size(0), self.kv_heads, -1)
        if position is not None:
            assert self.rope_theta is not None  # checked with the position
            query = rotate(query, position, self.rope_theta)
            key = rotate(key, position, self.rope_theta)
        return query, key, value

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Union[Tensor, AttentionPlan, Structure],
        **kwargs: Any,
    ) -> Any:
        """What follows the projections: attention, and the one of its output.

        Args:
            query: Queries :obj:`[Nq, 2H, D]`.
            key: Keys :obj:`[Nk, 2Hkv, D]`.
            value: Values :obj:`[Nk, Hkv, Dv]`.
            edge_index: The graph.
            **kwargs: Further arguments of ``conv``.

        Returns:
            States :obj:`[Nq, F]`, with ``return_attention_weights`` in a tuple
            with ``(edge_index, weights)``.
        """
        result = self.conv(query, key, value, edge_index, **kwargs)
        if isinstance(result, tuple):
            return self.lin_out(result[0].flatten(1)), result[1]
        return self.lin_out(result.flatten(1))

    def forward(
        self,
        x: Tensor,
        edge_index: Union[Tensor, AttentionPlan, Structure],
        position: OptTensor = None,
        edge_weight: OptTensor = None,
        *,
        previous: Optional[Previous] = None,
        return_attention_weights: bool = False,
    ) -> Any:
        r"""Runs differential attention on a graph.

        Args:
            x: Node states :obj:`[N, F]`.
            edge_index: Edges :obj:`[2, E]`, a mask, ``'causal'`` or a plan.
                They are the whole truth: no causality is added.
            position: Position of each node :obj:`[N]` for the rotary
                embedding; :obj:`0..N-1` by default. Only differences count.
            edge_weight: Prior weight of each edge :obj:`[E]` in both maps,
                non-negative. Weight 1 changes nothing, weight 0 removes the
                edge (and gets no gradient).
            previous: What history ``'layer'`` needs of the layer below.
            return_attention_weights: Also return ``(edge_index, weights)``.

        Raises:
            ValueError: If ``position`` is given without rotary embedding or is
                not :obj:`[N]`, if a weight is negative, or if history misses
                something.
        """
        return self.attend(
            *self.project(x, position),
            edge_index,
            edge_bias=log_edge_weight(edge_weight),
            previous=previous,
            return_attention_weights=return_attention_weights,
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, heads={self.heads})'
        )
