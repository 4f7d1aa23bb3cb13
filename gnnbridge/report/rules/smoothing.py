"""Rules on over-smoothing."""

from __future__ import annotations

from itertools import pairwise

from gnnbridge.report.figures.smoothing import ABLATIONS
from gnnbridge.report.reading import Part, after_state, values
from gnnbridge.report.rules.finding import Finding, beside
from gnnbridge.report.section import Numbers, last, numeral

# What is left of the effective rank: rank follows accuracy in graph networks
# better than energies do ("Are We Measuring Oversmoothing ... Correctly?",
# 2025). The halves and quarters are ours.
RANK_HALVED = 0.5
RANK_QUARTERED = 0.25
# Of two tokens; at 1 they point the same way. Ours as well.
ALIKE = 0.8
SAME = 0.95
# A fall counts as learned if it is so much deeper than the baseline's.
DEEPER = 0.8
# By how much the cosine falls with the mean of the sequence, for that mean to
# be most of it.
COMMON = 0.3


_HOLDING = {
    'attention alone': 'Residual connections and MLPs',
    'no residual': 'Residual connections',
    'no MLP': 'MLPs',
}


def smoothing(part: Part) -> list[Finding]:
    """Tokens that become alike with depth, and what keeps them apart."""
    return [*_depth(part), *_ablations(part)]


def _depth(part: Part) -> list[Finding]:
    rank = values(part.model, 'effective_rank')
    left, again = _left(rank), _left(values(part.baseline, 'effective_rank'))
    cosine = last(values(part.model, 'mean_cosine'))
    if left is None:
        return []
    base = last(values(part.baseline, 'mean_cosine'))
    text = (
        f'The effective rank goes from {numeral(rank[0])} to '
        f'{numeral(last(rank))} and the mean cosine between tokens ends at '
        f'{numeral(cosine)}. {_common(part, cosine)}'
        + beside(
            _baseline(part, base), 'collapsed tokens have rank 1 and cosine 1'
        )
    )
    worst = left < RANK_QUARTERED or (cosine or 0) > SAME
    some = left < RANK_HALVED or (cosine or 0) > ALIKE
    if not some:
        return [Finding('info', part.name, 'No over-smoothing', text)]
    where = _steepest(part, rank)
    deeper = again is None or left < DEEPER * again
    more_alike = base is None or (cosine or 0) > base + COMMON / 2
    if not deeper and not more_alike:
        title = 'Tokens become alike, but no faster than without training'
        return [Finding('info', part.name, title, text, where)]
    severity = 'high' if worst else 'medium'
    title = 'Tokens become alike with depth'
    return [Finding(severity, part.name, title, text, where)]


def _left(rank: Numbers) -> float | None:
    """The share of the first state's rank that the last still has."""
    end = last(rank)
    return end / rank[0] if rank and rank[0] and end is not None else None


def _baseline(part: Part, cosine: float | None) -> str | None:
    rank = values(part.baseline, 'effective_rank')
    if not rank:
        return None
    return (
        f'rank {numeral(rank[0])} to {numeral(last(rank))}, cosine '
        f'{numeral(cosine)}'
    )


def _common(part: Part, cosine: float | None) -> str:
    centered = last(values(part.model, 'mean_cosine_centered'))
    if cosine is None or centered is None or cosine - centered < COMMON:
        return ''
    return (
        'Most of that is one common direction: without the mean of the '
        f'sequence the cosine is {numeral(centered)}. '
    )


def _steepest(part: Part, rank: Numbers) -> str:
    """The layer in which the rank falls the most."""
    falls = [
        (after / before, place)
        for place, (before, after) in enumerate(pairwise(rank))
        if before and after is not None
    ]
    if not falls:
        return ''
    place = min(falls)[1]
    states = values(part.model, 'state')
    return f'steepest {after_state(states, place)}'


def _ablations(part: Part) -> list[Finding]:
    end = last(values(part.model, 'effective_rank'))
    ends = {
        label: last(values(part.model, 'ablations', name, 'effective_rank'))
        for name, label in ABLATIONS.items()
    }
    there = {label: rank for label, rank in ends.items() if rank is not None}
    if not there or not end:
        return []
    lowest = min(there, key=lambda label: there[label])
    if there[lowest] > RANK_HALVED * end:
        return []
    listed = ', '.join(
        f'{label} {numeral(rank)}' for label, rank in there.items()
    )
    text = (
        f'Effective rank at the end with parts taken out: {listed}; as it is, '
        f'{numeral(end)}. Parts without which it falls hold tokens apart.'
    )
    title = f'{_HOLDING[lowest]} hold tokens apart'
    return [Finding('info', part.name, title, text)]
