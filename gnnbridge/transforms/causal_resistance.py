"""Rewiring that lowers causal resistance."""

from __future__ import annotations

import copy
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from gnnbridge.graph.checks import check_size
from gnnbridge.spectral.walk import split_hops
from gnnbridge.transforms.base import Recorder, Rewiring
from gnnbridge.transforms.causal_greedy import best_move
from gnnbridge.transforms.causal_objective import (
    Objective,
    TotalResistance,
    WorstResistance,
)
from gnnbridge.transforms.causal_rows import (
    added,
    best_rows,
    keeps_reach,
    removed,
)
from gnnbridge.transforms.causal_walk import CausalWalk
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph

Aim = Literal['total', 'last', 'worst']


class CausalResistanceRewiring(Rewiring):
    r"""Adds the edges that lower the causal resistance of a token graph most.

    The causal resistance :math:`R_{i \to j} = 1 / (\ell_i h_{ij})`
    (:func:`gnnbridge.spectral.effective_resistance`) says how badly receiver
    :math:`i` hears source :math:`j < i` over all paths. An edge :math:`l \to
    a` of share :math:`\eta` takes attention from the other edges of row
    :math:`a` in proportion, as in a softmax, and changes

    .. math::
        h_{ij}' = h_{ij} + \frac{\eta}{\ell_a'} h_{ia} (s h_{lj} - h_{aj}),
        \qquad j < a \le i

    by the formula of Sherman and Morrison: exactly, not to first order. An
    edge may do harm, since attention is shared out.

    - With `num_edges` each step takes, of all causal pairs, the edge after
      which the objective is least. Resistances are convex in the hitting
      probabilities, so tangents bound what an edge can gain, and few edges
      have to be evaluated in full: the result is that of trying all. It stops
      when no edge lowers the objective. :math:`O(N^3)` per edge and a few
      evaluations of :math:`O(N^2)`.
    - With `edges_per_token` tokens are gone through in order, and each gets
      the edges that are best for its own resistances until it has that many,
      its self-loop included. A longer sequence has the rows of a shorter one,
      as decoding with a cache asks for. :math:`O(N^3)` for each edge that a
      token gets.

    Without `edge_weight` the attention of a token is even over its edges. A
    new edge has the mean weight of its row, and the rows that changed are
    scaled so that their sums stay.

    Args:
        num_edges: The number of edges to add, or to remove.
        edges_per_token: The number of edges of each token in the end: tokens
            with fewer gain some, or, with `delete`, those with more lose
            some.
        objective: ``'total'``, the sum of the resistances; ``'worst'``, the
            largest; or ``'last'``, the sum of those from the last token.
        hops: The expected number of attention hops, as for
            :func:`gnnbridge.spectral.hitting_probability`; unlimited if not
            given, and then distance counts for little.
        delete: Remove edges, those that raise the objective least, and none
            without which its token would reach less.
        start: A transform that leaves some of the edges, such as
            :class:`SlidingWindow`. The graph is then built up from what it
            leaves, and the candidates are the other edges of the input with
            their weights: a choice among edges of measured attention.
        pairs: How much each pair counts ``[N, N]``, row = receiver; ones if
            not given.
        weighted: Whether `edge_weight` counts.
        causal: ``True`` or ``None``: there is no form for other graphs.

    Raises:
        ValueError: If not exactly one budget is given, an argument does not
            fit, or the graph is not causal.
    """

    def __init__(
        self,
        num_edges: int | None = None,
        *,
        edges_per_token: int | None = None,
        objective: Aim = 'total',
        hops: float | None = None,
        delete: bool = False,
        start: BaseTransform | None = None,
        pairs: Tensor | None = None,
        weighted: bool = True,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        self.num_edges = num_edges
        self.edges_per_token = edges_per_token
        self.objective: Aim = objective
        self.hops, self.delete, self.start = hops, delete, start
        self.pairs, self.weighted = pairs, weighted
        self._check()

    @property
    def static(self) -> bool:  # type: ignore[override]
        """Whether the weights of the graph do not count."""
        return not self.weighted and getattr(self.start, 'static', True)

    @property
    def prefix(self) -> bool:  # type: ignore[override]
        """Whether tokens are gone through in order."""
        begins = self.start is None or getattr(self.start, 'prefix', False)
        return self.edges_per_token is not None and begins

    def on_causal(self, n: int, device: torch.device | None = None) -> Data:
        """Built up from what `start` leaves; the full graph is not made."""
        if not self.static or not isinstance(self.start, Rewiring):
            return super().on_causal(n, device)
        # All other pairs of tokens are candidates, as they are without it.
        grown = copy.copy(self)
        grown.start = None
        return grown(self.start.on_causal(n, device))

    def _check(self) -> None:
        budgets = {
            'num_edges': self.num_edges,
            'edges_per_token': self.edges_per_token,
        }
        given = {k: v for k, v in budgets.items() if v is not None}
        if len(given) != 1:
            raise ValueError(
                f"Expected one of 'num_edges' and 'edges_per_token' (got "
                f'{budgets}).'
            )
        for name, value in given.items():
            check_size(name, value, minimum=0)
        if self.objective not in get_args(Aim):
            raise ValueError(
                f"Expected 'objective' to be one of {get_args(Aim)} (got "
                f'{self.objective!r}).'
            )
        if self.hops is not None:
            split_hops(self.hops)
        if self.objective == 'last' and self.num_edges is None:
            raise ValueError(
                "Expected 'num_edges' for objective='last' (got "
                "'edges_per_token', where each token is the last in turn). "
                "Use objective='total' instead."
            )
        if self.delete and self.start is not None:
            raise ValueError(
                "Expected no 'start' for delete=True, which begins with the "
                f'whole graph (got {self.start!r}).'
            )
        if self.causal is False:
            raise ValueError(
                "Expected 'causal' to be True or None (got False): causal "
                'resistance has no other form.'
            )

    def _plan(self, graph: InputGraph) -> Changes:
        if not graph.causal:
            raise ValueError(
                'Expected a causal graph, without edges from a later to an '
                "earlier token (got one with some). Use 'ResistanceRewiring' "
                'for other graphs.'
            )
        full = _weights(graph, self.weighted)
        weight = self._begin(graph, full)
        walk = CausalWalk.on(weight, self.hops)
        objective = self._objective(weight)
        log = Recorder(graph, objective.name, directed=True)
        log.start(objective.value(walk)[1])
        for a, source in ((full > 0) & (weight == 0)).nonzero().tolist():
            log.remove(source, a)
        offer = full if self.start is not None else _mean_offer(weight)
        if self.num_edges is None:
            exhausted = self._by_rows(log, walk, weight, offer, objective)
        else:
            exhausted = self._anywhere(log, walk, weight, offer, objective)
        return log.changes(exhausted=exhausted)

    def _begin(self, graph: InputGraph, full: Tensor) -> Tensor:
        """The weights of the graph to begin with."""
        if self.start is None:
            return full.clone()
        data = Data(
            edge_index=graph.edge_index,
            edge_weight=graph.edge_weight,
            num_nodes=graph.num_nodes,
        )
        source, target = self.start(data).edge_index
        left = torch.zeros_like(full)
        left[target, source] = full[target, source]
        if (full[target, source] == 0).any():
            raise ValueError(
                "Expected 'start' to leave some of the edges (got "
                f'{self.start!r}, which has made new ones). Use a Compose of '
                f'it and this transform instead.'
            )
        return left

    def _objective(self, weight: Tensor) -> Objective:
        pairs = torch.ones_like(weight)
        if self.pairs is not None:
            if self.pairs.shape != weight.shape:
                raise ValueError(
                    f"Expected 'pairs' of shape {list(weight.shape)} (got "
                    f'{list(self.pairs.shape)}).'
                )
            pairs = self.pairs.to(weight)
        if self.objective == 'last':
            pairs = pairs.clone()
            pairs[:-1] = 0.0
        kind = WorstResistance if self.objective == 'worst' else TotalResistance
        return kind(pairs)

    def _by_rows(
        self,
        log: Recorder,
        walk: CausalWalk,
        weight: Tensor,
        offer: Tensor,
        objective: Objective,
    ) -> bool:
        wanted = self.edges_per_token or 0

        def budget(has: int) -> int:
            return min(wanted - has, 0) if self.delete else max(wanted - has, 0)

        exhausted, above = False, walk.rate.new_zeros(())
        rows = best_rows(walk, weight, offer, objective, budget)
        for a, sources, adds in rows:
            for source in sources:
                (log.add if adds else log.remove)(source, a)
            # The rows so far are final.
            own = (walk.rate[a] * walk.h[a, :a]).unsqueeze(0)
            above = objective.join(above, objective.of_row(a, own)[1][0])
            if sources:
                later = above.new_tensor(objective.value(walk, a + 1)[1])
                log.end_step(float(objective.join(above, later)))
            # There are no more than a + 1 edges into a token.
            missing = min(wanted, a + 1) - int(weight[a].count_nonzero())
            exhausted |= missing < 0 if self.delete else missing > 0
        return exhausted

    def _anywhere(
        self,
        log: Recorder,
        walk: CausalWalk,
        weight: Tensor,
        offer: Tensor,
        objective: Objective,
    ) -> bool:
        value = objective.value(walk)
        for _ in range(self.num_edges or 0):
            move = self._moves(walk, weight, offer)
            found = best_move(walk, move, objective)
            if found is None:
                return True
            a, source, _ = found
            weight[a, source] = 0.0 if self.delete else offer[a, source]
            walk = CausalWalk.on(weight, self.hops)
            after = objective.value(walk)
            if after > value and not self.delete:
                return True
            value = after
            (log.remove if self.delete else log.add)(source, a)
            log.end_step(value[1])
        return False

    def _moves(self, walk: CausalWalk, weight: Tensor, offer: Tensor) -> Tensor:
        if not self.delete:
            return added(weight, offer).tril(-1)
        move = removed(weight).tril(-1)
        for a in move.any(1).nonzero().squeeze(1).tolist():
            sources = move[a].nonzero().squeeze(1)
            move[a, sources[~keeps_reach(walk, a, sources)]] = 0.0
        return move

    def _apply(self, data: Data, changes: Changes) -> Data:
        out = super()._apply(data, changes)
        if (
            changes.edge_index.numel() > 0
            and data.get('edge_weight') is not None
        ):
            out.edge_weight = _rescaled(data, out, changes)
        return out


def _weights(graph: InputGraph, weighted: bool) -> Tensor:
    """The graph as a matrix ``[N, N]``, row = receiver, in float64."""
    source, target = graph.edge_index
    matrix = torch.zeros(
        graph.num_nodes, graph.num_nodes, dtype=torch.float64,
        device=graph.device,
    )  # fmt: skip
    if weighted and graph.edge_weight is not None:
        weight = graph.edge_weight.detach().to(matrix)
        return matrix.index_put((target, source), weight, accumulate=True)
    matrix[target, source] = 1.0
    return matrix


def _mean_offer(weight: Tensor) -> Tensor:
    """For edges that are not there the mean weight of the row, or 1."""
    count = weight.count_nonzero(dim=1)
    mean = weight.sum(1) / count.clamp(min=1)
    return mean.where(count > 0, 1.0).unsqueeze(1).expand_as(weight).tril(-1)


def _rescaled(data: Data, out: Data, changes: Changes) -> Tensor:
    """Weights of the new graph, with the row sums of the old one."""
    num_nodes = int(data.num_nodes or 0)
    touched = torch.zeros(
        num_nodes, dtype=torch.bool, device=out.edge_index.device
    )
    touched[changes.edge_index[1]] = True

    def sums(graph: Data, weight: Tensor) -> Tensor:
        zero = weight.new_zeros(num_nodes)
        return zero.index_add(0, graph.edge_index[1], weight)

    old = data.edge_weight
    target = out.edge_index[1]
    count = torch.bincount(data.edge_index[1], minlength=num_nodes)
    mean = sums(data, old) / count.clamp(min=1)
    weight = out.edge_weight.clone()
    is_new = torch.arange(weight.numel(), device=weight.device) >= (
        weight.numel() - changes.added.size(1)
    )
    weight[is_new] = mean.where(count > 0, 1.0)[target[is_new]]
    new = sums(out, weight)
    wanted = sums(data, old).where(count > 0, 1.0)
    factor = (wanted / new.masked_fill(new == 0, 1.0)).where(touched, 1.0)
    return weight * factor[target]
