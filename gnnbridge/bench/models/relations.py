"""One module for each relation of the edges, and the sum of what they give."""

from __future__ import annotations

from torch import Tensor, nn

from gnnbridge.bench.models.convolutions import Convolution
from gnnbridge.bench.models.size import Form, Size
from gnnbridge.bench.models.wiring import Graph


class Relations(nn.Module):
    r"""A convolution for each relation, summed.

    .. math::
        \mathbf{x}'_i = \sum_r \mathrm{conv}_r(\mathbf{x}, E_r)_i

    The form of R-GCN (`"Modeling Relational Data with Graph Convolutional
    Networks" <https://arxiv.org/abs/1703.06103>`_), in which rewiring methods
    keep the edges that they add apart. What a node gets from itself counts
    once: it is part of the first relation.

    Args:
        kind: The convolution.
        size: The widths.
        form: What is asked of all layers.
    """

    def __init__(self, kind: type[Convolution], size: Size, form: Form) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            kind(size, first=relation == 0, edge_features=form.edge_features)
            for relation in range(form.relations)
        )

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """New states ``[N, width]``."""
        outs = [
            conv(x, edges, edges.of(graph.edge_attr))
            for conv, edges in zip(self.convs, graph.relations, strict=True)
        ]
        out: Tensor = sum(outs[1:], start=outs[0])
        return out
