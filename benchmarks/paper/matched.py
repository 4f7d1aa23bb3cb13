"""Figures of decoders held against the plain ones at the same compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from running import over_seeds

Groups = dict[str, dict[str, Any]]


def plain(found: Groups) -> list[str]:
    """The first arm and those that are the same for more steps."""
    base = next(iter(found))
    return [
        name for name in found if name == base or name.startswith(f'{base}, ')
    ]


def compute(found: Groups, name: str) -> float:
    """The CPU time of a run over that of the first arm.

    Of plain decoders the steps say it exactly.
    """
    steps: float = found[name]['steps_over_usual']['mean']
    if name in plain(found):
        return steps
    return steps * float(found[name]['step_over_plain']['mean'])


def beyond_plain(found: Groups, name: str, key: str) -> dict[str, Any]:
    """How much an arm exceeds plain decoders at the compute that it took.

    Between the steps that plain decoders were trained for they are
    interpolated, past the most of them they are those of the most. The mean of
    the differences, seed by seed, and their deviation.

    Args:
        found: The figures of all arms, by name.
        name: The arm.
        key: The figure, with strokes between the keys of mappings.
    """
    known = sorted(plain(found), key=lambda one: compute(found, one))
    steps = [compute(found, one) for one in known]
    curves = zip(
        *(figure(found[one], key)['values'] for one in known), strict=True
    )
    at = compute(found, name)
    own = figure(found[name], key)['values']
    both = zip(own, curves, strict=True)
    summary: dict[str, Any] = over_seeds(
        [value - float(np.interp(at, steps, curve)) for value, curve in both]
    )
    return summary


def figure(figures: dict[str, Any], key: str) -> dict[str, Any]:
    """A figure by its key, with strokes between the keys of mappings."""
    for part in key.split('/'):
        figures = figures[part]
    return figures


def operations_over(figures: dict[str, Any], base: dict[str, Any]) -> float:
    """Operations of the training of one arm over those of another."""
    own, other = (
        one['steps_over_usual']['mean'] * one['operations_of_a_step']['mean']
        for one in (figures, base)
    )
    return float(own / other)
