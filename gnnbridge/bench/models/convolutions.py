"""PyG's convolutions behind one interface, each for the edges of a relation.

The first relation has what a convolution gives a node by itself: a self-loop,
a root weight, a bias. The others have none of it, so that they count it once,
as R-GCN does (https://arxiv.org/abs/1703.06103), and give zero to a node that
none of their edges enters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch_geometric.nn import (
    DirGNNConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GINEConv,
    SAGEConv,
    TransformerConv,
)

from gnnbridge.bench.models.size import HEADS, Size
from gnnbridge.bench.models.wiring import Edges


class Convolution(nn.Module, ABC):
    """A convolution from states of one width to states of the same.

    Args:
        size: The widths.
        first: Whether this is the first relation.
        edge_features: Whether there are features ``[E, width]`` of edges.
    """

    @abstractmethod
    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """New states ``[N, width]`` of states, edges and their features."""


class GCN(Convolution):
    """PyG's ``GCNConv``; further relations are normalised by themselves."""

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        width = size.width
        self.first = first
        # The weights are those that it would find in each call.
        self.conv = GCNConv(width, width, normalize=False, bias=first)

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        if self.first:
            return self.conv(x, *edges.normalised)
        return self.conv(x, edges.edge_index, edges.balanced)


class GIN(Convolution):
    """PyG's ``GINConv``, or ``GINEConv`` where edges have features."""

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        self.first, self.edge_features = first, edge_features
        mlp = nn.Sequential(
            nn.Linear(size.width, size.hidden, bias=first),
            nn.ReLU(),
            nn.Linear(size.hidden, size.width, bias=first),
        )
        self.conv = GINEConv(mlp) if edge_features else GINConv(mlp)

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        states = x if self.first else (x, None)
        features = (edge_attr,) if self.edge_features else ()
        ends = (x.size(0), x.size(0))
        return self.conv(states, edges.edge_index, *features, size=ends)


class SAGE(Convolution):
    """PyG's ``SAGEConv`` with the mean of the neighbours."""

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        width = size.width
        self.conv = SAGEConv(width, width, root_weight=first, bias=first)

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        return self.conv(x, edges.edge_index)


class GATv2(Convolution):
    """PyG's ``GATv2Conv``."""

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        # Self-loops without features are the same in each call.
        self.ready = first and not edge_features
        self.conv = GATv2Conv(
            size.width, size.width // HEADS, HEADS, bias=first,
            add_self_loops=first and edge_features,
            edge_dim=size.width if edge_features else None,
        )  # fmt: skip

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        edge_index = edges.with_loops if self.ready else edges.edge_index
        return self.conv(x, edge_index, edge_attr)


class Transformer(Convolution):
    """PyG's ``TransformerConv``."""

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        self.conv = TransformerConv(
            size.width, size.width // HEADS, HEADS, bias=first,
            root_weight=first, edge_dim=size.width if edge_features else None,
        )  # fmt: skip
        if not first:
            del self.conv.lin_skip  # PyG makes it, and never uses it

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        return self.conv(x, edges.edge_index, edge_attr)


class DirGCN(Convolution):
    """PyG's ``DirGNNConv`` around ``GCNConv``, normalised as in its paper.

    PyG's own normalisation silences nodes that no edge enters; see
    :attr:`gnnbridge.bench.models.wiring.Edges.balanced`. In undirected graphs
    both are the same.
    """

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        width = size.width
        inner = GCNConv(width, width, normalize=False, bias=first)
        self.conv = _WeightedDirGNNConv(inner, root_weight=first)

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        return self.conv.weighted(x, edges)


class _WeightedDirGNNConv(DirGNNConv):
    """PyG's layer, whose own forward pass takes no weights."""

    def weighted(self, x: Tensor, edges: Edges) -> Tensor:
        weight = edges.balanced
        entering = self.conv_in(x, edges.edge_index, weight)
        leaving = self.conv_out(x, edges.reversed, weight)
        out: Tensor = self.alpha * leaving + (1 - self.alpha) * entering
        return out if self.lin is None else out + self.lin(x)


class DirSAGE(Convolution):
    """PyG's ``DirGNNConv`` around ``SAGEConv``."""

    def __init__(self, size: Size, *, first: bool, edge_features: bool) -> None:
        super().__init__(size, first=first, edge_features=edge_features)
        width = size.width
        # The root weight is that of the layer around it.
        inner = SAGEConv(width, width, root_weight=False, bias=first)
        self.conv = DirGNNConv(inner, root_weight=first)

    def forward(
        self, x: Tensor, edges: Edges, edge_attr: Tensor | None
    ) -> Tensor:
        """See :class:`Convolution`."""
        return self.conv(x, edges.edge_index)
