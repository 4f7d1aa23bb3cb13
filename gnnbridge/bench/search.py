"""The same search for every cell: few draws from one space."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from gnnbridge.bench.cells import Cell, Effort, Job, Settings
from gnnbridge.bench.trial import Trial

#: The seed of the data and the weights of a search; those of the trials that
#: are reported count from 0.
SEARCH_SEED = 10_000
LEARNING_RATES = (1e-3, 1e-2)
DROPOUTS = (0.0, 0.1, 0.2)
_FIRST = (3e-3, 0.0)


def draw(index: int, strengths: Sequence[float]) -> Settings:
    """The settings that the search tries in one of its draws.

    The learning rate (log-uniform) and the dropout depend on the number of
    the draw alone: a cell without rewiring and one with it try the same ones.
    The first draw is 0.003 without dropout. Strengths are taken in turn from
    the middle one on.

    Args:
        index: The number of the draw, from 0.
        strengths: Those of the rewiring, at least one.

    Raises:
        ValueError: If there is no strength.
    """
    if not strengths:
        raise ValueError(
            "Expected 'strengths' to hold a number (got none). Give (0.0,) "
            'for a rewiring that has none.'
        )
    strength = strengths[(len(strengths) // 2 + index) % len(strengths)]
    rate, dropout = _FIRST
    if index:
        chance = random.Random(f'{SEARCH_SEED}/{index}')
        low, high = map(math.log, LEARNING_RATES)
        rate = math.exp(low + (high - low) * chance.random())
        # Four digits say it all, and are the same on every machine.
        rate = float(f'{rate:.4g}')
        dropout = DROPOUTS[int(len(DROPOUTS) * chance.random())]
    return Settings(rate, dropout, float(strength))


def search_jobs(
    cell: Cell, effort: Effort, strengths: Sequence[float]
) -> list[Job]:
    """The trials of the search of a cell; none if there is one draw.

    Args:
        cell: What is searched for.
        effort: How many draws.
        strengths: Those of the rewiring.
    """
    if effort.draws == 1:
        return []
    return [
        Job(cell, draw(index, strengths), SEARCH_SEED, effort, 'search')
        for index in range(effort.draws)
    ]


def choose(
    trials: Sequence[Trial], *, higher_is_better: bool
) -> Settings | None:
    """The settings of the best trial of a search on the validation split.

    Of equals, those that were as good after fewer steps, and then the first.
    Trials that failed are chosen only if all did.

    Args:
        trials: Those of the search of a cell, by draws.
        higher_is_better: Whether more is better.

    Returns:
        The settings; None without trials.
    """
    sign = 1 if higher_is_better else -1
    best = max(
        trials,
        key=lambda t: (t.failed is None, sign * t.val, -t.best_step),
        default=None,
    )
    return None if best is None else best.job.settings


def final_jobs(cell: Cell, settings: Settings, effort: Effort) -> list[Job]:
    """The trials that are reported.

    Args:
        cell: What is reported.
        settings: Those that were chosen.
        effort: How many seeds.
    """
    return [
        Job(cell, settings, seed, effort, 'final')
        for seed in range(effort.seeds)
    ]
