"""Layers around PyG's convolutions: with a residual, or inside of GPS."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GPSConv

from gnnbridge.bench.models.convolutions import GIN, Convolution
from gnnbridge.bench.models.relations import Relations
from gnnbridge.bench.models.size import HEADS, Form, Size
from gnnbridge.bench.models.wiring import Graph


class ResidualLayer(nn.Module):
    r"""A convolution with what is usual around it.

    .. math::
        \mathbf{x} + \mathrm{dropout}(\mathrm{ReLU}(\mathrm{norm}(
        \mathrm{conv}(\mathbf{x}))))

    The norm is that of a layer, for each node alone. Batch norm would mix the
    graphs of a batch, and a norm over the nodes of a graph would carry
    information between nodes that no edges join, which tasks of long range
    are there to measure.

    Args:
        kind: The convolution.
        size: The widths.
        form: What is asked of all layers.
    """

    def __init__(self, kind: type[Convolution], size: Size, form: Form) -> None:
        super().__init__()
        self.conv = Relations(kind, size, form)
        self.norm = nn.LayerNorm(size.width) if form.norm else nn.Identity()
        self.dropout, self.residual = nn.Dropout(form.dropout), form.residual

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """New states ``[N, width]``."""
        out: Tensor = self.dropout(F.relu(self.norm(self.conv(x, graph))))
        return x + out if self.residual else out


class GPSLayer(nn.Module):
    """PyG's ``GPSConv``: GIN or GINE, beside attention between all nodes.

    Its norms are those of a layer, for each node alone, as those of
    :class:`ResidualLayer` are.

    Args:
        size: The widths.
        form: What is asked of all layers.
    """

    def __init__(self, size: Size, form: Form) -> None:
        super().__init__()
        self.conv = GPSConv(
            size.width,
            Relations(GIN, size, form),
            heads=HEADS,
            dropout=form.dropout,
            norm='layer_norm' if form.norm else None,
            norm_kwargs={'mode': 'node'},
        )

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """New states ``[N, width]``."""
        # What it takes for edges goes to the convolution as it is.
        out: Tensor = self.conv(x, graph, graph.batch)
        return out
