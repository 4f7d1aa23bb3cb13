"""What the tables of a benchmark are made of: plain data, ready to print."""

from __future__ import annotations

from typing import Literal, TypedDict

Kind = Literal[
    'plain', 'best', 'better', 'worse', 'same', 'untested', 'failed', 'missing'
]


class Cell(TypedDict):
    """One entry of a table.

    Attributes:
        text: What is printed.
        detail: What its interval reaches to either side, or nothing.
        ends: The ends of the interval of a difference, or nothing.
        value: What it is sorted by; None stands last.
        kind: ``'best'``: the best of its task, or not significantly worse;
            ``'better'``, ``'worse'``, ``'same'``: how a difference was
            judged, ``'untested'`` where there is no test; ``'failed'``:
            every trial failed; ``'missing'``: there are none.
        note: The number of its line among the failures, 0 for none.
    """

    text: str
    detail: str
    ends: str
    value: float | None
    kind: Kind
    note: int


class Row(TypedDict):
    """A line of a table: its name and its entries."""

    name: str
    cells: list[Cell]


class Table(TypedDict):
    """Models by tasks, or the models of one task by rewirings.

    Attributes:
        title: What it is about.
        head: What the names of its rows are.
        columns: The names of its other columns.
        rows: Its rows.
        foot: Rows of what is not compared, such as guessing.
        caption: How to read it.
        higher_is_better: Whether a positive difference is a gain.
    """

    title: str
    head: str
    columns: list[str]
    rows: list[Row]
    foot: list[Row]
    caption: str
    higher_is_better: bool


class Standing(TypedDict):
    """One model of one task without rewiring, in the unit of the task."""

    model: str
    mean: float
    half_width: float | None
    values: list[float]
    is_best: bool


class Standings(TypedDict):
    """One task and how its models stand.

    Attributes:
        task: Its name.
        about: What it asks.
        facts: What else is to be known of it, in a sentence.
        unit: What is measured.
        chance: What guessing reaches, if that is known.
        rows: The models that have a result.
        absent: For each other model a word on why.
    """

    task: str
    about: str
    facts: str
    unit: str
    chance: float | None
    rows: list[Standing]
    absent: dict[str, str]


class Board(TypedDict):
    """All that is shown of a summary.

    Attributes:
        models: Models by tasks, without rewiring.
        rewirings: A table for each task that has rewirings.
        standings: Every task with its models.
        details: Every cell with its settings and what it took.
        verdict: How many differences were tested, and what came of it.
        failed: A line for each cell with failed trials; notes number them.
        skipped: A line for each task that was skipped.
    """

    models: Table
    rewirings: list[Table]
    standings: list[Standings]
    details: Table
    verdict: str
    failed: list[str]
    skipped: list[str]


def entry(
    text: str,
    value: float | None = None,
    *,
    detail: str = '',
    ends: str = '',
    kind: Kind = 'plain',
    note: int = 0,
) -> Cell:
    """One entry of a table.

    Args:
        text: What is printed.
        value: What it is sorted by.
        detail: What its interval reaches to either side.
        ends: The ends of that interval.
        kind: What it is, see :class:`Cell`.
        note: The number of its line among the failures.
    """
    return Cell(
        text=text,
        detail=detail,
        ends=ends,
        value=value,
        kind=kind,
        note=note,
    )
