"""What the differences that rewirings make come to, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnnbridge.bench.tables import Kind

Summary = Mapping[str, Any]
SummaryCell = Mapping[str, Any]


def judged(control: Mapping[str, Any] | None, higher_is_better: bool) -> Kind:
    """How a difference from no rewiring counts, as the kind of an entry.

    Args:
        control: The ``'control'`` of a cell of a summary.
        higher_is_better: Whether more is better.
    """
    if control is None or control['p'] is None:
        return 'untested'
    if not control['significant']:
        return 'same'
    is_gain = (control['difference'] > 0) == higher_is_better
    return 'better' if is_gain else 'worse'


def verdict(summary: Summary) -> str:
    """How many differences were tested, and what came of it, in words.

    Args:
        summary: What a run writes to ``summary.json``.
    """
    kinds = [
        judged(
            cell['control'],
            summary['tasks'][cell['task']]['higher_is_better'],
        )
        for cell in summary['cells']
        if cell['rewiring'] != 'none'
    ]
    untested = kinds.count('untested')
    tested = len(kinds) - untested
    aside = f' {untested} could not be tested.' if untested else ''
    if not tested:
        return f'No difference from no rewiring was tested.{aside}'
    return (
        f'Differences from no rewiring that were tested: {tested}. '
        f'Significantly better: {kinds.count("better")}; significantly worse: '
        f'{kinds.count("worse")}; neither: {kinds.count("same")} (paired '
        "t-tests at 5 % after Holm's correction within each task)."
        f'{aside} No claim is made beyond these intervals.'
    )


def reasons(cell: SummaryCell) -> list[str]:
    """Why trials of a cell failed, one for each that did."""
    return [reason for reason in cell['failed'] or () if reason]


def is_lost(cell: SummaryCell) -> bool:
    """Whether every trial of a cell failed, so that it measures nothing."""
    return len(reasons(cell)) == len(cell['values'])


def failure(cell: SummaryCell) -> str:
    """The line of a cell with failed trials; empty for others."""
    found = reasons(cell)
    if not found:
        return ''
    where = f'{cell["task"]}, {cell["model"]}'
    if cell['rewiring'] != 'none':
        where += f' with {cell["rewiring"]}'
    many = f'{len(found)} of {len(cell["values"])} trials failed'
    if not is_lost(cell):
        many += ' and count as guesses'
    why = '; '.join(dict.fromkeys(' '.join(line.split()) for line in found))
    return f'{where}: {many}: {why}'
