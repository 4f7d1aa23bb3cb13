"""Attention that takes the indirect paths between tokens into account."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse

from gnnbridge.graph.checks import check_size
from gnnbridge.spectral.green import hitting_probability
from gnnbridge.transforms.at_once import AtOnce, keys_of, make_at_once
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.ranking import rank_within


class RunwayRewiring(Rewiring):
    r"""Mixes the influence of indirect paths into the weights of edges.

    **Our reading** of `"On the Runway Cascade of Transformers for Language
    Modeling" <https://arxiv.org/abs/2601.14522>`_, from its abstract alone.
    There the runways of a pair of tokens are its indirect paths through
    tokens in between, and a summary of them is folded into the direct
    attention without new parameters; how, we could not read, and this is no
    reproduction. The paper trains with it; this is a change of weights after
    training.

    The summary here is the probability that the walk from receiver :math:`i`
    gets to source :math:`j`, but not at once: with :math:`\bar A` the
    attention to others, rows made to sum to one, and :math:`h` the
    :func:`~gnnbridge.spectral.hitting_probability`,

    .. math::
        r_{ij} = \sum_{k \ne i, j} \bar A_{ik} h_{kj}
        = h_{ij} - \bar A_{ij} \quad (i \ne j)

    and the weights become, with :math:`\hat r` the rows of :math:`r` over the
    edges that there are in the end, made to sum to one,

    .. math::
        A'_{ij} = (1 - \gamma) A_{ij}
        + \gamma \, \hat r_{ij} \sum_{k \ne i} A_{ik}

    So rows keep their sums, and self-loops their weights. A row without
    indirect paths over its edges stays as it is. Edges that are added are
    those of the largest :math:`r_{ij} \sum_k A_{ik} / \sum_k r_{ik}`, in this
    order.

    The method is a directed one: it adds single edges :math:`j \to i`, and
    `num_edges` counts them. A causal graph stays causal. Where no path leads,
    :math:`r` is zero and no edge is added. Without ``edge_weight`` all edges
    weigh 1. Not differentiable. Takes :math:`O(N^2)` memory and the time of a
    (triangular) inverse.

    Args:
        num_edges: How many edges to add; ``None`` for all pairs with an
            indirect path. 0 changes weights only.
        strength: The share :math:`\gamma` of indirect paths, 0 to 1.
        hops: The expected number of steps of the walk, as in
            :func:`~gnnbridge.spectral.hitting_probability`, and then
            :math:`r` is the first of the two forms; unlimited if not given.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If an argument is out of range.
    """

    static: ClassVar[bool] = False

    def __init__(
        self,
        num_edges: int | None = 0,
        *,
        strength: float = 0.5,
        hops: float | None = None,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        if not 0 <= strength <= 1:
            raise ValueError(
                f"Expected 'strength' to be between 0 and 1 (got {strength})."
            )
        if hops is not None and not 0 <= hops < math.inf:
            raise ValueError(
                f"Expected 'hops' to be finite and not negative (got {hops})."
            )
        if num_edges is not None:
            num_edges = check_size('num_edges', num_edges, minimum=0)
        self.num_edges, self.strength, self.hops = num_edges, strength, hops

    @property
    def only_weights(self) -> bool:
        """Whether no edge is added."""
        return self.num_edges == 0

    def _plan(self, graph: InputGraph) -> AtOnce:
        given = graph.edge_index.cpu().numpy()
        if given.shape[1] == 0:
            wanted = self.num_edges or 0
            return make_at_once(graph, exhausted=wanted > 0)
        weight = _weights(graph)
        walk, leaving = _walk(given, weight, graph.num_nodes)
        runway = self._runway(graph, weight, walk)
        new = self._new_edges(graph, runway, leaving)
        # What the edges of each row get, in equal parts if repeated.
        ends = np.concatenate([given, new], axis=1)
        key = keys_of(ends, graph.num_nodes)
        _, place, count = np.unique(
            key, return_inverse=True, return_counts=True
        )
        share = runway[ends[1], ends[0]] / count[place]
        total = np.bincount(ends[1], share, graph.num_nodes)
        used = (total[ends[1]] > 0) & (ends[0] != ends[1])
        mixed = np.concatenate([weight, np.zeros(new.shape[1])])
        row = ends[1, used]
        mixed[used] *= 1 - self.strength
        mixed[used] += self.strength * leaving[row] * share[used] / total[row]
        return make_at_once(
            graph,
            added=new,
            weight=mixed[weight.size :],
            kept_weight=mixed[: weight.size],
            exhausted=new.shape[1] < (self.num_edges or 0),
        )

    def _runway(
        self, graph: InputGraph, weight: np.ndarray, walk: sparse.csr_array
    ) -> np.ndarray:  # shape: [N, N], row = receiver
        hitting = hitting_probability(
            graph.edge_index.cpu(),
            torch.from_numpy(weight),
            graph.num_nodes,
            hops=self.hops,
        ).numpy()
        # A sum of what is not negative: exactly zero where no path leads.
        runway: np.ndarray = walk @ (hitting - np.eye(len(hitting)))
        np.fill_diagonal(runway, 0)
        return runway

    def _new_edges(
        self, graph: InputGraph, runway: np.ndarray, leaving: np.ndarray
    ) -> np.ndarray:  # shape: [2, A]
        if self.num_edges == 0:
            return np.empty((2, 0), dtype=np.int64)
        source, target = graph.edge_index.cpu().numpy()
        total = runway.sum(1)
        scale = leaving / np.where(total > 0, total, 1)
        score = (runway * scale[:, None]).T
        score[source, target] = 0
        # By source, then target: the order of ties.
        pairs = np.stack(score.nonzero())
        value = score[pairs[0], pairs[1]]
        return pairs[:, rank_within(-value).argsort()[: self.num_edges]]


def _weights(graph: InputGraph) -> np.ndarray:
    if graph.edge_weight is None:
        return np.ones(graph.edge_index.size(1))
    weight: np.ndarray = graph.edge_weight.detach().double().cpu().numpy()
    return weight


def _walk(
    edges: np.ndarray, weight: np.ndarray, num_nodes: int
) -> tuple[sparse.csr_array, np.ndarray]:
    """The steps to other nodes, row = receiver, and the weight on them."""
    source, target = edges
    proper = source != target
    source, target, weight = source[proper], target[proper], weight[proper]
    leaving = np.bincount(target, weight, num_nodes)
    # A row of weights zero has no walk.
    step = weight / np.where(leaving > 0, leaving, 1)[target]
    walk = sparse.coo_array((step, (target, source)), (num_nodes, num_nodes))
    return walk.tocsr(), leaving
