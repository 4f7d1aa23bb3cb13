"""Rules on retrieval, copying and counting."""

from __future__ import annotations

from typing import Any

from gnnbridge.report.extracts import chance_of, total_accuracy
from gnnbridge.report.figures.retrieval import TASKS
from gnnbridge.report.reading import Part, dig, values
from gnnbridge.report.rules.finding import Finding, beside
from gnnbridge.report.section import (
    largest,
    mean,
    numeral,
    percent,
    smallest,
    whole,
)

# Accuracy above chance below which a task is not done at all.
ABOVE_CHANCE = 0.1
# Depths of a U, ends less middle, with what is named for an absent key taken
# off: that of published models on twenty documents is 0.1 to 0.2 (Liu et al.
# 2024).
SHALLOW = 0.1
DEEP = 0.3
# A value named for absent keys half as often as when its key is asked for is
# a habit of the place and no retrieval.
HABIT = 0.5
# Copying and counting: right in nine of ten, and in every second case.
RIGHT = 0.9
HALF = 0.5


def retrieval(part: Part) -> list[Finding]:
    """What is found by place, with its control, and what is copied."""
    return [
        *_by_place(part, 'key_value'),
        *_by_place(part, 'needle'),
        *_copying(part),
        *_counting(part),
    ]


def _by_place(part: Part, task: str) -> list[Finding]:
    found = dig(part.model, task)
    accuracy = values(found, 'accuracy')
    total = (
        total_accuracy(part.model) if task == 'key_value' else mean(accuracy)
    )
    if total is None:
        return []
    name = TASKS[task][0]
    chance = chance_of(task, part.model, part.null)
    again = mean(values(part.baseline, task, 'accuracy'))
    numbers = beside(
        None if again is None else percent(again),
        None if chance is None else f'a guess: {percent(chance)}',
    )
    if total < max(chance or 0, again or 0) + ABOVE_CHANCE:
        text = f'{percent(total)} of the questions are answered. {numbers}'
        title = f'{name}: no better than a guess'
        return [Finding('medium', part.name, title, text, 'all places')]
    return [
        *_habit(part, task, accuracy),
        _shape(
            part, task, f'{percent(total)} right over all places. {numbers}'
        ),
    ]


def _habit(
    part: Part, task: str, accuracy: list[float | None]
) -> list[Finding]:
    absent = values(part.model, task, 'absent')
    top = largest(absent)
    if top is None or top >= len(accuracy) or not accuracy[top]:
        return []
    if absent[top] < HABIT * (accuracy[top] or 0):
        return []
    text = (
        f'The value of place {top} is named for a key that is not there in '
        f'{percent(absent[top])} of the cases, and when it is asked for in '
        f'{percent(accuracy[top])}: part of the curve is a habit.'
    )
    title = f'{TASKS[task][0]}: a habit of place'
    return [Finding('medium', part.name, title, text, f'place {top}')]


def _shape(part: Part, task: str, numbers: str) -> Finding:
    found = part.model[task]
    name = TASKS[task][0]
    depth = found.get('u_depth')
    again = dig(part.baseline, task, 'u_depth')
    text = (
        'The ends are found better than the middle by '
        f'{numeral(depth, 2)}, with what is named for an absent key taken off '
        f'(re-initialised: {numeral(again, 2)}); '
    )
    worst, where = _worst(found, TASKS[task][1])
    text += f'{worst}. {numbers}'
    deeper = (depth or 0) - max(again or 0, 0)
    # Less than twice its error is no depth at all.
    if deeper >= max(SHALLOW, 2 * (found.get('u_depth_error') or 0)):
        severity = 'high' if deeper >= DEEP else 'medium'
        title = f'{name}: lost in the middle'
        return Finding(severity, part.name, title, text, where)
    gap = _gap(found) - _gap(dig(part.baseline, task))
    if abs(gap) >= SHALLOW:
        severity = 'high' if abs(gap) >= DEEP else 'medium'
        favoured = 'early' if gap > 0 else 'late'
        title = f'{name}: {favoured} places are found better'
        text = f'By {numeral(abs(gap), 2)} from end to end. {text}'
        return Finding(severity, part.name, title, text, where)
    return Finding('info', part.name, f'{name}: alike at all places', text)


def _worst(found: Any, places: str) -> tuple[str, str]:
    """The worst place, in a sentence and in short."""
    curve = values(found, 'corrected') or values(found, 'accuracy')
    low = smallest(curve) or 0
    labels = values(found, places)
    place = f'{labels[low]:g}' if low < len(labels) else str(low)
    worst = f'so counted, the worst place is {place} with {percent(curve[low])}'
    return worst, f'worst at {place}'


def _gap(found: Any) -> float:
    """The first quarter of the corrected curve less the last one."""
    curve = values(found, 'corrected')
    quarter = max(len(curve) // 4, 1)
    first, end = mean(curve[:quarter]), mean(curve[-quarter:])
    return 0.0 if first is None or end is None else first - end


def _copying(part: Part) -> list[Finding]:
    found = dig(part.model, 'copying') or {}
    lengths, end = values(found, 'lengths'), values(found, 'last')
    start = values(found, 'first')
    there = [
        (n, y) for n, y in zip(lengths, end, strict=False) if y is not None
    ]
    if not there:
        return []
    (shortest, best), (longest, worst) = there[0], there[-1]
    text = (
        f'At {whole(longest)} items the last is copied in {percent(worst)} of '
        f'the cases, at {whole(shortest)} in {percent(best)}; the first in '
        f'{percent(start[-1] if start else None)} and '
        f'{percent(start[0] if start else None)}. '
        + _beside_guess(part, 'copying', 'last')
    )
    fails = [length for length, right in there if right < RIGHT]
    if not fails:
        return [Finding('info', part.name, 'Copies at every length', text)]
    if not _above_chance(part, 'copying', best):
        title = 'Copying: no better than a guess'
        return [Finding('medium', part.name, title, text, 'all lengths')]
    title = 'Copying the last item fails in long lists'
    where = f'from {whole(fails[0])} items on'
    return [Finding('medium', part.name, title, text, where)]


def _counting(part: Part) -> list[Finding]:
    found = dig(part.model, 'counting') or {}
    lengths, right = values(found, 'lengths'), values(found, 'accuracy')
    there = [
        (n, y) for n, y in zip(lengths, right, strict=False) if y is not None
    ]
    fails = [length for length, share in there if share < HALF]
    if not there:
        return []
    (shortest, best), (longest, worst) = there[0], there[-1]
    errors = values(found, 'mean_error')
    text = (
        f'At {whole(longest)} items {percent(worst)} of the counts are right, '
        f'off by {numeral(errors[-1] if errors else None, 2)} on average; at '
        f'{whole(shortest)} items it is {percent(best)}. '
        + _beside_guess(part, 'counting', 'accuracy')
    )
    if not fails:
        return [Finding('info', part.name, 'Counts at every length', text)]
    if not _above_chance(part, 'counting', best):
        title = 'Counting: no better than a guess'
        return [Finding('medium', part.name, title, text, 'all lengths')]
    where = f'from {whole(fails[0])} items on'
    title = 'Counting fails in long lists'
    return [Finding('medium', part.name, title, text, where)]


def _above_chance(part: Part, task: str, best: float) -> bool:
    chance = chance_of(task, part.model, part.null)
    return best > (chance or 0) + ABOVE_CHANCE


def _beside_guess(part: Part, task: str, curve: str) -> str:
    again = values(part.baseline, task, curve)
    chance = chance_of(task, part.model, part.null)
    return beside(
        percent(again[-1]) if again else None,
        None if chance is None else f'a guess: {percent(chance)}',
    )
