"""The largest size whose parameters are within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable

from gnnbridge.bench.models.size import Size


def largest(
    count: Callable[[int], int], budget: int, start: int, step: int = 1
) -> int:
    """The largest ``start + k * step`` whose count is within a budget.

    Args:
        count: What a number costs; it must not fall as the number grows.
        budget: What it may cost at most.
        start: The smallest number.
        step: The distance between numbers.

    Raises:
        ValueError: If the smallest one costs more.
    """
    if (needed := count(start)) > budget:
        raise ValueError(
            f"Expected 'budget' to be at least {needed}, what the smallest "
            f'model needs (got {budget}).'
        )
    guess = _guess(count, budget, start, step)
    fits = count(start + guess * step) <= budget
    low, high = (guess, guess + 1) if fits else (0, guess)
    while fits and count(start + high * step) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if count(start + middle * step) <= budget:
            low = middle
        else:
            high = middle
    return start + low * step


def _guess(
    count: Callable[[int], int], budget: int, start: int, step: int
) -> int:
    """How many steps a parabola through the first counts stays below.

    Parameters are those of matrices, so that this is the answer as a rule; it
    takes five models to find and to confirm it.
    """
    first, second, third = (count(start + k * step) for k in range(3))
    bend = (third - 2 * second + first) / 2
    slope, left = second - first - bend, budget - first
    if bend > 0:
        steps = (math.sqrt(slope**2 + 4 * bend * left) - slope) / (2 * bend)
    else:
        steps = left / max(slope, 1)
    return int(steps)


def fitting(
    count: Callable[[Size], int],
    budget: int,
    *,
    step: int = 1,
    mlp: int | None = None,
    width: int | None = None,
) -> Size:
    """The largest size whose number of parameters is within a budget.

    Args:
        count: The number of parameters of a size.
        budget: How many there may be.
        step: What widths are multiples of.
        mlp: For layers whose width comes in coarse steps: how many times the
            width their MLP is at least. The widest model with such an MLP is
            taken, and the MLP then gets what is left. By default the MLP is
            as wide as the states.
        width: The width, if it is not free. Then the features are encoded
            through as many channels as fit, if they do not fit otherwise.

    Raises:
        ValueError: If not even the smallest is within the budget.
    """
    if width is not None:
        whole = Size(width, width)
        if count(whole) <= budget:
            return whole
        rank = largest(lambda rank: count(Size(width, width, rank)), budget, 1)
        return Size(width, width, rank)
    times = 1 if mlp is None else mlp
    found = largest(lambda w: count(Size(w, times * w)), budget, step, step)
    if mlp is None:
        return Size(found, found)
    hidden = largest(lambda h: count(Size(found, h)), budget, times * found)
    return Size(found, hidden)
