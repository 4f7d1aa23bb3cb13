"""What layers read of a graph, found once as long as the graph lives."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import (
    add_remaining_self_loops,
    add_self_loops,
    coalesce,
    remove_self_loops,
    scatter,
)

from gnnbridge.nn.formats import lazy
from gnnbridge.nn.plan import AttentionPlan, plan_attention


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of one relation, and what some layers make of them.

    Weights are constants here: they get no gradient.

    Attributes:
        edge_index: Source and target of each edge ``[2, E]``.
        num_nodes: The number of nodes.
        edge_weight: Weights ``[E]``, or None where all are 1.
        chosen: Which edges of the graph these are ``[E]``; None for all.
    """

    edge_index: Tensor
    num_nodes: int
    edge_weight: Tensor | None = None
    chosen: Tensor | None = None

    def of(self, edge_attr: Tensor | None) -> Tensor | None:
        """These edges' rows of something that the graph has for each edge."""
        if edge_attr is None or self.chosen is None:
            return edge_attr
        return edge_attr[self.chosen]

    @lazy
    def normalised(self) -> tuple[Tensor, Tensor]:
        """Edges with self-loops and the weights of GCN, by PyG's function."""
        edges, weight = gcn_norm(
            self.edge_index, self.edge_weight, self.num_nodes
        )
        return edges, weight

    @lazy
    def balanced(self) -> Tensor:
        r"""Weights :math:`w_{ji} / \sqrt{o_j \, d_i}` without self-loops.

        :math:`o_j` is what leaves the source and :math:`d_i` what enters the
        target, as in `"Edge Directionality Improves Learning on Heterophilic
        Graphs" <https://arxiv.org/abs/2305.10498>`_. In undirected graphs
        this is the normalisation of GCN. PyG's function takes :math:`d_j` for
        :math:`o_j`, which is zero for a node that no edge enters, and drops
        all that such a node sends.
        """
        source, target = self.edge_index
        weight = self.edge_weight
        if weight is None:
            weight = torch.ones(source.numel(), device=source.device)
        leaving, entering = (
            scatter(weight, ends, 0, self.num_nodes, reduce='sum')
            for ends in (source, target)
        )
        scale = (leaving[source] * entering[target]).rsqrt()
        return weight * scale.masked_fill(scale.isinf(), 0.0)

    @lazy
    def reversed(self) -> Tensor:
        """The edges the other way round ``[2, E]``."""
        return self.edge_index.flip(0)

    @lazy
    def with_loops(self) -> Tensor:
        """The edges with one self-loop at each node, as PyG's GAT has them."""
        edges, _ = remove_self_loops(self.edge_index)
        return add_self_loops(edges, num_nodes=self.num_nodes)[0]

    @lazy
    def planned(self) -> tuple[AttentionPlan, Tensor | None]:
        """A plan of attention over the edges, and their weights."""
        return self._planned(self.edge_index, self.edge_weight)

    @lazy
    def planned_with_loops(self) -> tuple[AttentionPlan, Tensor | None]:
        """The same with a self-loop of weight 1 at nodes that have none."""
        edges, weight = add_remaining_self_loops(
            self.edge_index, self.edge_weight, 1.0, self.num_nodes
        )
        return self._planned(edges, weight)

    def _planned(
        self, edges: Tensor, weight: Tensor | None
    ) -> tuple[AttentionPlan, Tensor | None]:
        # A repeated edge is attended to twice, as in PyG's layers: that is an
        # edge of weight 2.
        merged = coalesce(edges, num_nodes=self.num_nodes)
        if merged.size(1) < edges.size(1):
            if weight is None:
                weight = torch.ones(edges.size(1), device=edges.device)
            edges, weight = coalesce(
                edges, weight, num_nodes=self.num_nodes, reduce='sum'
            )
        size = (self.num_nodes, self.num_nodes)
        return plan_attention(edges, size), weight


@dataclass(frozen=True, eq=False)
class Graph:
    """What a layer is given beside the states.

    Attributes:
        relations: The edges of each relation.
        edge_attr: Encoded features ``[E, width]`` of all edges, or None.
        position: Position of each node ``[N]``, or None.
        batch: The graph of each node ``[N]``, or None where there is one.
    """

    relations: tuple[Edges, ...]
    edge_attr: Tensor | None = None
    position: Tensor | None = None
    batch: Tensor | None = None


def edges_of(data: Data, relations: int) -> tuple[Edges, ...]:
    """The edges of a graph by relation.

    They are kept as long as ``data.edge_index`` lives, and are found anew if
    it, the weights or the types of edges are others or were changed.

    Args:
        data: A graph, or a batch of graphs.
        relations: The number of relations. With one, all edges are alike and
            ``edge_type`` is not read.

    Raises:
        ValueError: If there are several relations and ``edge_type`` is
            missing or out of range, or if ``edge_weight`` is not ``[E]``.
    """
    edge_index = data.edge_index
    kind = data.get('edge_type') if relations > 1 else None
    given = (data.get('edge_weight'), kind)
    if any(x is not None and x.is_inference() for x in (edge_index, *given)):
        return _by_relation(data, relations)
    versions = tuple(
        None if x is None else x._version for x in (edge_index, *given)
    )
    known = _known.setdefault(edge_index, {}).get(relations)
    if (
        known is not None
        and known.versions == (data.num_nodes, *versions)
        and all(x is y for x, y in zip(known.given, given, strict=True))
    ):
        return known.edges
    edges = _by_relation(data, relations)
    _known[edge_index][relations] = _Known(
        edges, given, (data.num_nodes, *versions)
    )
    return edges


@dataclass(frozen=True, eq=False)
class _Known:
    edges: tuple[Edges, ...]
    given: tuple[Tensor | None, ...]
    versions: tuple[Any, ...]


_known: MutableMapping[Tensor, dict[int, _Known]] = WeakIdKeyDictionary()


def _by_relation(data: Data, relations: int) -> tuple[Edges, ...]:
    # What is kept must not keep alive the tensor under which it is kept.
    edge_index, num_nodes = data.edge_index.detach(), int(data.num_nodes or 0)
    weight = _checked_weight(data)
    if relations == 1:
        return (Edges(edge_index, num_nodes, weight),)
    kind = _checked_type(data, relations)
    found = []
    for relation in range(relations):
        chosen = (kind == relation).nonzero().squeeze(1)
        own = None if weight is None else weight[chosen]
        found.append(Edges(edge_index[:, chosen], num_nodes, own, chosen))
    return tuple(found)


def _checked_weight(data: Data) -> Tensor | None:
    weight = data.get('edge_weight')
    if weight is None:
        return None
    if weight.shape != data.edge_index.shape[1:]:
        raise ValueError(
            f"Expected 'edge_weight' of shape [{data.edge_index.size(1)}] (got "
            f'{list(weight.shape)}).'
        )
    detached: Tensor = weight.detach().to(torch.get_default_dtype())
    return detached


def _checked_type(data: Data, relations: int) -> Tensor:
    kind = data.get('edge_type')
    size = data.edge_index.size(1)
    if kind is None or kind.shape != (size,):
        raise ValueError(
            f"Expected 'edge_type' of shape [{size}] for a model of "
            f'{relations} relations (got '
            f'{"none" if kind is None else list(kind.shape)}). Build the model '
            f"with 'relations=1', or give the edges types."
        )
    if kind.numel() and not 0 <= int(kind.min()) <= int(kind.max()) < relations:
        raise ValueError(
            f"Expected 'edge_type' to be in [0, {relations}) (got "
            f'{int(kind.min())} to {int(kind.max())}).'
        )
    found: Tensor = kind
    return found
