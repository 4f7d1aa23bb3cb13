"""Filling or thinning the rows of a causal graph, one token after the other.

The resistances from a token depend on its own edges and on those of earlier
tokens. Going from the first token to the last, each takes the edges that are
best for itself, given what the earlier ones have; so a longer sequence has
the rows of a shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gnnbridge.transforms.causal_objective import Objective
from gnnbridge.transforms.causal_walk import CausalWalk
from gnnbridge.transforms.ties import TOLERANCE

# A number of edges that a row of so many may gain, or lose if negative.
Budget = Callable[[int], int]


def best_rows(
    walk: CausalWalk,
    weight: Tensor,  # shape: [N, N]
    offer: Tensor,  # shape: [N, N]
    objective: Objective,
    budget: Budget,
) -> Iterator[tuple[int, list[int], bool]]:
    """The edges that each token gains or loses, best first.

    Args:
        walk: The walk on the graph; changed to that on the new one.
        weight: The graph, row = receiver; changed to the new one.
        offer: The weights that further edges would have; 0 for none.
        objective: What the resistances of a token are to be by.
        budget: How many edges a token gains, from how many it has.

    Yields:
        Receiver, sources, and whether the edges are added; after each the
        walk is up to date.
    """
    for a in range(len(weight)):
        before = walk.h[a, :a].clone()
        _settle(walk, a, weight[a])
        count = budget(int(weight[a].count_nonzero()))
        sources: list[int] = []
        for _ in range(abs(count)):
            rows = a, weight[a], offer[a]
            source = _best_of_row(walk, *rows, objective, count > 0)
            if source is None:
                break
            weight[a, source] = offer[a, source] if count > 0 else 0.0
            _settle(walk, a, weight[a])
            sources.append(source)
        if sources:
            change = walk.h[a, :a] - before
            walk.h[a + 1 :, :a] += walk.h[a + 1 :, a, None] * change
        yield a, sources, count > 0


def _settle(walk: CausalWalk, a: int, weight: Tensor) -> None:
    """Write the row of a token into the walk, without any subtraction."""
    total = weight.sum()
    walk.share[a] = 0.0
    if total > 0:
        walk.share[a] = weight / total
    else:
        walk.share[a, a] = 1.0
    leaving = walk.share[a, :a]
    kill = (1 - walk.follow) * walk.share[a].sum()
    walk.rate[a] = kill + walk.follow * leaving.sum()
    walk.h[a, :a] = 0.0
    if walk.rate[a] > 0:
        walk.h[a, :a] = walk.follow * leaving @ walk.h[:a, :a] / walk.rate[a]


def _best_of_row(
    walk: CausalWalk,
    a: int,
    weight: Tensor,
    offer: Tensor,
    objective: Objective,
    adds: bool,
) -> int | None:
    move = added(weight, offer) if adds else removed(weight)
    sources = move[:a].nonzero().squeeze(1)
    if sources.numel() == 0:
        return None
    eta = move[sources]
    if adds and bool((eta == eta[0]).all()):
        values = objective.even_additions(walk, a, float(eta[0]))
        if values is not None:
            return _first_least(values[sources], sources)
    rows = walk.own_row_after(a, sources, eta)
    if not adds:
        kept = keeps_reach(walk, a, sources)
        sources, rows = sources[kept], rows[kept]
        if sources.numel() == 0:
            return None
        # What is left is positive, though rounding may say otherwise.
        floor = torch.finfo(rows.dtype).tiny
        rows = rows.clamp(min=floor).where(walk.h[a, :a] > 0, rows)
    apart, value = objective.of_row(a, rows)
    fewest = apart == apart.min()
    return _first_least(value[fewest], sources[fewest])


def _first_least(value: Tensor, sources: Tensor) -> int:
    """The first of the sources of least value."""
    least = value.min()
    return int(sources[value <= least + TOLERANCE * least.abs()][0])


def added(weight: Tensor, offer: Tensor) -> Tensor:
    """The moves of the rows that would add an edge ``[..., N]``."""
    total = weight.sum(-1, keepdim=True)
    share = offer / (total + offer).clamp(min=torch.finfo(offer.dtype).tiny)
    return share.where((offer > 0) & (weight == 0), 0.0)


def removed(weight: Tensor) -> Tensor:
    """The moves of the rows that would remove an edge ``[..., N]``."""
    total = weight.sum(-1, keepdim=True)
    return (-weight / (total - weight)).where(
        (weight > 0) & (weight < total), 0.0
    )


def keeps_reach(walk: CausalWalk, a: int, sources: Tensor) -> Tensor:
    """Whether row `a` reaches as much without its edge to each source."""
    reach = (walk.h[:a, :a] > 0) & (walk.share[a, :a] > 0).unsqueeze(1)
    ways = reach.sum(0)
    return ((ways - reach[sources].long() > 0) | (ways == 0)).all(1)
