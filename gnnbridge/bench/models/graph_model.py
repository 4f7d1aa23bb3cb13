"""The one interface of all models of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch_geometric.data import Data

from gnnbridge.bench.models.encoder import Encoder
from gnnbridge.bench.models.readout import Readout
from gnnbridge.bench.models.wiring import Graph, edges_of


class GraphModel(nn.Module):
    """Features to states, layers of message passing, and answers.

    Build one with :func:`gnnbridge.bench.models.registry.build_model`.

    Args:
        encoder: From features to states.
        blocks: The layers, each from states and a graph to states; the same
            one may occur several times, and has its weights once.
        readout: From states to answers.
        edge_encoder: From features of edges to what the layers read; None if
            they read none.
        relations: The number of relations of the edges.

    Attributes:
        width: The width of the states.
        layers: The number of layers.
    """

    def __init__(
        self,
        encoder: Encoder,
        blocks: Sequence[nn.Module],
        readout: Readout,
        *,
        edge_encoder: Encoder | None = None,
        relations: int = 1,
    ) -> None:
        super().__init__()
        self.encoder, self.edge_encoder = encoder, edge_encoder
        self.blocks, self.readout = nn.ModuleList(blocks), readout
        self.relations = relations
        self.width, self.layers = encoder.width, len(blocks)

    @property
    def trainable(self) -> int:
        """The number of parameters that are trained."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def total(self) -> int:
        """The number of parameters, with those that are frozen."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, data: Data) -> Tensor:
        """The answers of a graph, or of a batch of graphs.

        Args:
            data: The graphs, with what :class:`gnnbridge.bench.task.Splits`
                describes; ``edge_type`` if the model has relations. They are
                not changed.

        Returns:
            ``[answers, outputs]``: a row for each node of ``target_mask``, or
            for each graph.

        Raises:
            ValueError: If the data is not that of the model's task, or has no
                types of edges for its relations.
        """
        x = self.from_states(self.encoder(data.x), data)
        answers: Tensor = self.readout(x, data)
        return answers

    def states(self, data: Data) -> list[Tensor]:
        """The states ``[N, width]`` that enter the layers and leave each."""
        graph, states = self._graph(data), [self.encoder(data.x)]
        for block in self.blocks:
            states.append(block(states[-1], graph))
        return states

    def from_states(self, x: Tensor, data: Data) -> Tensor:
        """The last states ``[N, width]`` from those that enter the layers."""
        graph = self._graph(data)
        for block in self.blocks:
            x = block(x, graph)
        return x

    def _graph(self, data: Data) -> Graph:
        features = None
        if self.edge_encoder is not None:
            features = self.edge_encoder(data.edge_attr)
        return Graph(
            edges_of(data, self.relations),
            features,
            data.get('position'),
            data.get('batch'),
        )
