"""Our own layers: transformer blocks that run on any graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gnnbridge.bench.models.size import HEADS, Form, Size
from gnnbridge.bench.models.wiring import Graph
from gnnbridge.nn.differential import DifferentialAttention
from gnnbridge.nn.projected_attention import ProjectedAttention
from gnnbridge.nn.transformer_layer import GraphTransformerLayer

ROPE_THETA = 10000.0


class TransformerLayer(nn.Module):
    """:class:`gnnbridge.nn.GraphTransformerLayer` with what a graph has.

    Where nodes have a ``position`` their heads are rotated by it (RoPE), and
    where they have none they are not: the order of nodes says nothing then.

    Args:
        size: The widths.
        form: What is asked of all layers.
    """

    def __init__(self, size: Size, form: Form) -> None:
        super().__init__()
        self.block = GraphTransformerLayer(
            size.width,
            HEADS,
            hidden_channels=size.hidden,
            act='relu',
            rope_theta=ROPE_THETA,
            dropout=form.dropout,
        )

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """New states ``[N, width]``."""
        _rotate_where_positions_are(self.block, graph)
        plan, weight = graph.relations[0].planned
        out: Tensor = self.block(x, plan, graph.position, weight)
        return out


class RelationalBlock(nn.Module):
    r"""The same block with an attention for each relation, summed.

    .. math::
        \mathbf{u} &= \mathbf{x} + \sum_r
        \mathrm{attention}_r(n(\mathbf{x}), E_r) \\
        \mathbf{x}' &= \mathbf{u} + \mathrm{MLP}(n'(\mathbf{u}))

    Args:
        attentions: The attention of each relation.
        size: The widths.
        form: What is asked of all layers.
    """

    def __init__(
        self, attentions: Sequence[nn.Module], size: Size, form: Form
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(attentions)
        self.norm1, self.norm2 = (nn.LayerNorm(size.width) for _ in range(2))
        self.mlp = nn.Sequential(
            nn.Linear(size.width, size.hidden),
            nn.ReLU(),
            nn.Linear(size.hidden, size.width),
        )
        self.dropout = nn.Dropout(form.dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """New states ``[N, width]``."""
        normed, outs = self.norm1(x), []
        for attention, edges in zip(
            self.attentions, graph.relations, strict=True
        ):
            _rotate_where_positions_are(attention, graph)
            plan, weight = edges.planned
            outs.append(attention(normed, plan, graph.position, weight))
        x = x + self.dropout(sum(outs[1:], start=outs[0]))
        out: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return out


def transformer_layer(size: Size, form: Form) -> nn.Module:
    """A transformer block, with an attention for each relation."""
    if form.relations == 1:
        return TransformerLayer(size, form)
    attentions = []
    for relation in range(form.relations):
        attention = ProjectedAttention(
            size.width, HEADS, rope_theta=ROPE_THETA, dropout=form.dropout
        )
        if relation > 0:
            # A bias would be given to nodes that no edge enters.
            attention.lin_out = nn.Linear(size.width, size.width, bias=False)
        attentions.append(attention)
    return RelationalBlock(attentions, size, form)


def differential_layer(size: Size, form: Form, number: int) -> nn.Module:
    """A transformer block of differential attention.

    Half as many heads, each of two maps, have as many weights.

    Args:
        size: The widths.
        form: What is asked of all layers.
        number: Which layer it is, from zero.
    """
    attentions = [
        DifferentialAttention(
            size.width, HEADS // 2, rope_theta=ROPE_THETA, layer=number
        )
        for _ in range(form.relations)
    ]
    return RelationalBlock(attentions, size, form)


def _rotate_where_positions_are(attention: Any, graph: Graph) -> None:
    attention.rope_theta = None if graph.position is None else ROPE_THETA
