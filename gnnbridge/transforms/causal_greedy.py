"""The best next edge of a causal graph, found without trying all of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gnnbridge.transforms.causal_objective import Objective
from gnnbridge.transforms.causal_walk import CausalWalk
from gnnbridge.transforms.ties import TOLERANCE

# Moves to look at together.
_AT_ONCE = 32
# Sums of many resistances are equal up to it.
_ROUNDING = 1e-13


def best_move(
    walk: CausalWalk,
    move: Tensor,  # shape: [N, N]
    objective: Objective,
) -> tuple[int, int, float] | None:
    r"""The move of one row after which the objective is least.

    Bounds for all moves say in which order to evaluate them exactly, and when
    no other one can be better: lazily, with the same result as trying all.

    Args:
        walk: The graph.
        move: The size :math:`\eta` of the move of row = receiver towards
            column = source; 0 where there is none.
        objective: What is to be least.

    Returns:
        Receiver, source and the objective after it; ``None`` without moves.
        Of moves that are equally good the one with the smallest source.
    """
    if not move.any():
        return None
    resistance, _ = objective.measure(walk.conductance, objective.pairs)
    rest = objective.rest(resistance)
    links = _new_links(walk, move, objective)
    if links is None:
        candidates = move.nonzero()
        bounds = _bounds(walk, move, objective, rest)
        order = bounds.argsort(stable=True)
    else:
        # First of all those that connect the most pairs.
        most = (links == links.amax()) & (move != 0)
        candidates = most.nonzero()
        bounds = candidates.new_zeros(len(candidates))
        order = torch.arange(len(candidates), device=candidates.device)
    found: list[tuple[float, int, int]] = []
    best = math.inf
    # Of the gain, but not finer than the sums are.
    before = float(objective.join(rest[0], resistance[0, 0]))
    for part in order.split(_AT_ONCE):
        slack = max(TOLERANCE * (before - best), _ROUNDING * before)
        if float(bounds[part[0]]) > best + slack:
            break
        found += _values(walk, move, objective, candidates[part], rest)
        best = min(best, min(found)[0])
    slack = max(TOLERANCE * (before - best), _ROUNDING * before)
    tied = (pick for pick in found if pick[0] <= best + slack)
    _, source, a = min(tied, key=lambda pick: pick[1:])
    return a, source, best


def _new_links(
    walk: CausalWalk, move: Tensor, objective: Objective
) -> Tensor | None:
    """How many pairs each move would connect, if there are any to connect."""
    reach = walk.h > 0
    apart = (objective.pairs > 0) & ~reach
    if not apart.any():
        return None
    known = reach.to(walk.h)
    links = known.mT @ apart.to(walk.h) @ known.mT
    links = links.masked_fill(move <= 0, 0.0)
    return links if links.any() else None


def _bounds(
    walk: CausalWalk, move: Tensor, objective: Objective, rest: Tensor
) -> Tensor:
    """What the values of all moves cannot be below, row by row."""
    bounds = []
    for a in move.any(1).nonzero().squeeze(1).tolist():
        sources = move[a].nonzero().squeeze(1)
        least = objective.bound(walk, a, sources, move[a, sources])
        bounds.append(objective.join(least, rest[a]))
    return torch.cat(bounds)


def _values(
    walk: CausalWalk,
    move: Tensor,
    objective: Objective,
    candidates: Tensor,
    rest: Tensor,
) -> list[tuple[float, int, int]]:
    """Value, source and receiver of some moves."""
    found = []
    for a in candidates[:, 0].unique().tolist():
        sources = candidates[candidates[:, 0] == a, 1]
        changed = objective.after(walk, a, sources, move[a, sources])
        values = objective.join(changed, rest[a]).tolist()
        found += [
            (value, source, a)
            for value, source in zip(values, sources.tolist(), strict=True)
        ]
    return found
