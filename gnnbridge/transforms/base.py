"""What every rewiring is: a PyG transform that can say what it did."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from gnnbridge.graph.causal import causal_graph
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import (
    InputGraph,
    read_data,
    read_edges,
)


class Rewiring(BaseTransform):
    r"""Base class of the transforms that add and remove edges.

    The input is never changed. In the output the edges that stay come first,
    in their order, and the added ones last, with ``edge_weight``,
    ``edge_attr`` and all other attributes of edges aligned (zeros, and 1 in
    ``edge_weight``, unless the method says otherwise) and ``edge_type`` to
    tell them apart: 0 for the edges of the input and 1 for the added ones, or
    one more than the largest type that there was. Every graph of a ``Batch``
    is rewired on its own. Self-loops play no part and are left as they are.

    A **causal** graph, whose edges all go from earlier to later nodes, stays
    one: a method may add edges to later nodes only, one for each pair. In
    other graphs a pick adds both directions, unless the method is a directed
    one. A graph without edges counts as causal, unless `causal` says
    otherwise.

    Where several picks are equally good, up to a relative difference of
    :math:`10^{-9}`, the smallest pair of nodes is taken, so that results do
    not depend on rounding.

    Args:
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.
    """

    #: Whether the changes depend on the edges alone, not on their weights or
    #: on anything else in the graph.
    static: ClassVar[bool] = True
    #: Whether the edges into a node depend on nothing after it: a longer
    #: causal graph then keeps the rows of a shorter one.
    prefix: ClassVar[bool] = False
    #: Whether the method can add edges, and so marks them in ``edge_type``.
    adds: ClassVar[bool] = True

    def __init__(self, *, causal: bool | None = None) -> None:
        self.causal = causal

    @property
    def only_weights(self) -> bool:
        """Whether nothing but the weights of edges changes."""
        return False

    @abstractmethod
    def _plan(self, graph: InputGraph) -> Changes:
        """The changes to a checked graph."""

    def forward(self, data: Data) -> Data:
        """The rewired graph; see :meth:`rewire` for what was changed."""
        return self.rewire(data)[0]

    def rewire(self, data: Data) -> tuple[Data, Any]:
        """The rewired graph, and what was added and removed.

        Args:
            data: A graph, or a ``Batch`` of graphs.

        Returns:
            The rewired graph and its :class:`Changes`; for a ``Batch`` a
            batch, and the changes of each of its graphs.

        Raises:
            TypeError: If `data` is not a homogeneous graph.
            ValueError: If the graph has no edges to read, an edge is out of
                range, or a weight is negative or not finite.
        """
        if isinstance(data, Batch):
            done = [self.rewire(graph) for graph in data.to_data_list()]
            batch = Batch.from_data_list([graph for graph, _ in done])
            return batch, tuple(changes for _, changes in done)
        if not isinstance(data, Data):
            raise TypeError(
                f'Expected a torch_geometric.data.Data or a Batch (got '
                f"{type(data).__name__}). Use 'to_homogeneous()' for a "
                f'HeteroData.'
            )
        changes = self._plan(read_data(data, self.causal))
        return self._apply(copy.copy(data), changes), changes

    def plan(
        self,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        num_nodes: int | None = None,
    ) -> Changes:
        """The changes alone, for a graph given as tensors.

        A greedy method makes the same first picks at every budget: plan once
        with the largest, and use ``changes.first(k).apply(data)``.

        Args:
            edge_index: The edges ``[2, E]``, source first.
            edge_weight: Their weights ``[E]``.
            num_nodes: The number of nodes; inferred if not given.
        """
        graph = read_edges(edge_index, edge_weight, num_nodes, self.causal)
        return self._plan(graph)

    def on_causal(self, n: int, device: torch.device | None = None) -> Data:
        """The rewired graph of `n` tokens that see all earlier ones.

        Methods that can write it down override this, since the full graph of
        a long sequence is large.
        """
        return self.rewire(causal_graph(n, device=device))[0]

    def _apply(self, data: Data, changes: Changes) -> Data:
        out = changes.apply(data)
        if self.adds and out.get('edge_type') is None:
            # The graphs of a dataset have to have the same attributes.
            out.edge_type = out.edge_index.new_zeros(out.edge_index.size(1))
        return out

    def __repr__(self) -> str:
        # PyG compares it to tell whether a processed dataset is still good.
        names = inspect.signature(type(self)).parameters
        values = (f'{name}={getattr(self, name)!r}' for name in names)
        return f'{type(self).__name__}({", ".join(values)})'


class Recorder:
    """Collects the steps of a rewiring.

    Args:
        graph: The graph that is rewired.
        objective: What the trace is, if there is one.
        weight: The weight of an added edge.
        directed: Whether each event is one edge, from the first node to the
            second. Otherwise a pair of nodes is meant: in a causal graph the
            edge to the later one, and in others both edges.
    """

    def __init__(
        self,
        graph: InputGraph,
        objective: str = '',
        *,
        weight: float = 1.0,
        directed: bool = False,
    ) -> None:
        self.graph, self.objective = graph, objective
        self.weight, self.directed = weight, directed
        self.trace: list[float] = []
        self.events: list[tuple[int, int, bool, int]] = []
        self.step = 0

    @property
    def one_way(self) -> bool:
        """Whether a pair of nodes may have an edge in one direction."""
        graph = self.graph
        return not (self.directed or graph.causal or graph.symmetric)

    @cached_property
    def present(self) -> set[tuple[int, int]]:
        """The edges that there are by now."""
        edges = set(zip(*self.graph.edge_index.tolist(), strict=True))
        for source, target, adds, _ in self.events:
            (edges.add if adds else edges.discard)((source, target))
        return edges

    def start(self, value: float) -> None:
        """The objective before the first step."""
        self.trace = [float(value)]

    def add(self, u: int, v: int) -> None:
        """Add an edge."""
        self._record(u, v, True)

    def remove(self, u: int, v: int) -> None:
        """Remove an edge, in all the directions that it has."""
        self._record(u, v, False)

    def end_step(self, value: float | None = None) -> None:
        """Close a step, with the objective after it."""
        self.step += 1
        if value is not None:
            self.trace.append(float(value))

    def changes(self, *, exhausted: bool = False) -> Changes:
        """All that was recorded."""
        device = self.graph.device
        table = torch.tensor(self.events, dtype=torch.int64, device=device)
        u, v, adds, step = table.reshape(len(self.events), 4).unbind(1)
        return Changes(
            edge_index=torch.stack([u, v]),
            is_added=adds.bool(),
            step=step,
            weight=torch.full_like(u, self.weight, dtype=torch.float64),
            trace=torch.tensor(self.trace, dtype=torch.float64),
            objective=self.objective,
            exhausted=exhausted,
        )

    def _record(self, u: int, v: int, adds: bool) -> None:
        ends = [(u, v)]
        if not self.directed:
            u, v = min(u, v), max(u, v)
            ends = [(u, v)] if self.graph.causal else [(u, v), (v, u)]
        for source, target in ends:
            if not adds and self.one_way:
                # An edge of a directed graph may lack its reverse.
                if (source, target) not in self.present:
                    continue
                self.present.remove((source, target))
            elif adds and 'present' in self.__dict__:
                self.present.add((source, target))
            self.events.append((source, target, adds, self.step))
