"""Rules on position bias."""

from __future__ import annotations

import math

from gnnbridge.report.extracts import asymmetry, null_asymmetry
from gnnbridge.report.reading import Part, dig, values
from gnnbridge.report.rules.finding import Finding, beside
from gnnbridge.report.section import numeral, percent, smallest

# Logarithms of the ratio of first to last tenth: twice and ten times.
TWICE = math.log(2)
TEN_TIMES = math.log(10)
# What differs from null and baseline by less than a factor 1.5 is theirs.
LEARNED = math.log(1.5)
# Gaps of accuracy between the places of two bindings of one key: those of
# Wu et al. 2025 are 0.08 to 0.44 for unbiased training.
SOME_GAP = 0.2
LARGE_GAP = 0.5
# Half of the questions, for a preference to say anything.
ANSWERED = 0.5
# A rank correlation of accuracy and place, and a spread that goes with it.
ORDERED = 0.7
SPREAD = 0.1


def runway(part: Part) -> list[Finding]:
    """Influence that depends on the position, in graph and in behaviour."""
    return [*_asymmetry(part), *_duplicates(part), *_noise(part)]


def _asymmetry(part: Part) -> list[Finding]:
    found = asymmetry(part.model)
    if found is None:
        return []
    again, null = asymmetry(part.baseline), null_asymmetry(part.null)
    which = (
        'Jacobian'
        if dig(part.model, 'asymmetry', 'jacobian') is not None
        else 'rollout'
    )
    weak = dig(part.model, 'weakest_position', which.lower())
    text = (
        f'By the {which}, the first tenth of the positions has '
        f'{_times(found)} the influence of the last tenth'
        + ('' if weak is None else f'; the weakest position is {weak}')
        + '. '
        + beside(
            None if again is None else _times(again),
            None if null is None else f'uniform attention: {_times(null)}',
        )
    )
    where = 'early positions' if found < 0 else 'late positions'
    where = f'weakest: {where}'
    if abs(found) < TWICE:
        title = 'Early and late positions count alike'
        return [Finding('info', part.name, title, text)]
    # What null and baseline have of it, in the same direction.
    others = [
        math.copysign(value, value * found)
        for value in (again, null)
        if value is not None
    ]
    if others and max(others) > abs(found) - LEARNED:
        less = min(others) > abs(found) + LEARNED
        title = 'Position bias, ' + (
            'less than at birth'
            if less
            else 'as the causal graph has it at birth'
        )
        return [Finding('info', part.name, title, text, where)]
    severity = 'high' if abs(found) >= TEN_TIMES else 'medium'
    title = 'Position bias beyond what the graph brings'
    return [Finding(severity, part.name, title, text, where)]


def _times(log_ratio: float) -> str:
    return f'{numeral(math.exp(log_ratio), 2)} times'


def _duplicates(part: Part) -> list[Finding]:
    found = dig(part.model, 'duplicate_key') or {}
    gap = dig(found, 'preferred', 'first_last')
    answered = found.get('answered_share')
    if gap is None or (answered is not None and answered < ANSWERED):
        return []
    again = dig(part.baseline, 'duplicate_key', 'preferred', 'first_last')
    text = (
        'Asked for a key with two values, the model names the first more '
        f'often than the last by {numeral(gap, 2)}, and the middle by '
        f'{numeral(dig(found, "preferred", "middle_last"), 2)}. '
        + beside(None if again is None else numeral(again, 2), 'no bias: 0')
    )
    size = abs(gap) - abs(again or 0)
    if size < SOME_GAP:
        title = 'No preference between two bindings of a key'
        return [Finding('info', part.name, title, text)]
    which = 'first' if gap > 0 else 'last'
    return [
        Finding(
            'high' if size >= LARGE_GAP else 'medium',
            part.name,
            f'Of two bindings the {which} wins',
            text,
            f'{"late" if gap > 0 else "early"} bindings lose',
        )
    ]


def _noise(part: Part) -> list[Finding]:
    rows = values(part.model, 'noise', 'accuracy')
    ranks = values(part.model, 'noise', 'spearman')
    sigmas = values(part.model, 'noise', 'sigmas')
    found = []
    for sigma, row, rank in zip(sigmas, rows, ranks, strict=False):
        there = [value for value in row or () if value is not None]
        if rank is None or abs(rank) < ORDERED or not there:
            continue
        spread = max(there) - min(there)
        if spread >= SPREAD:
            found.append((spread, sigma, rank, row))
    if not found:
        return []
    spread, sigma, rank, row = max(found, key=lambda item: item[0])
    again = values(part.baseline, 'noise', 'accuracy')
    worst = smallest(row) or 0
    best = max(value for value in row if value is not None)
    flat = again[sigmas.index(sigma)] if len(again) == len(sigmas) else None
    text = (
        f'With noise of {sigma:g} standard deviations on the embeddings, '
        f'accuracy falls from {percent(best)} to {percent(row[worst])} with '
        f'the place of the binding (Spearman {numeral(rank, 2)}). '
        + beside(_range(flat), 'without bias it is the same at every place')
    )
    return [
        Finding(
            'medium',
            part.name,
            'Noise hits some places harder',
            text,
            f'place {worst}',
        )
    ]


def _range(row: list[float | None] | None) -> str | None:
    there = [value for value in row or () if value is not None]
    if not there:
        return None
    return f'{percent(max(there))} to {percent(min(there))}'
