"""The tables of a benchmark, ready to print: plain data for all its faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from gnnbridge.bench.details import details
from gnnbridge.bench.numerals import (
    difference,
    interval,
    number,
    reach,
    scale,
    unit,
)
from gnnbridge.bench.statistics import best_group
from gnnbridge.bench.tables import (
    Board,
    Cell,
    Row,
    Standing,
    Standings,
    Table,
    entry,
)
from gnnbridge.bench.verdict import Summary, failure, is_lost, judged, verdict

_Key: TypeAlias = tuple[str, str, str]
#: What stands for trials that were not asked for.
MISSING = 'not run'
_BEST = (
    'In bold: the best of a task and all that are not significantly worse '
    "(Welch's t-tests at 5 % after Holm's correction)."
)
_BEST_OF_ONE = 'In bold: the best of a task; one seed allows no test.'
_REST = 'Chance is what guessing reaches. Parameters include frozen ones.'
_REWIRINGS_CAPTION = (
    'Differences{points} from the same model without rewiring, over the same '
    'seeds and after as many draws, with 95 % t-intervals. ▲ significantly '
    "better, ▼ significantly worse (paired t-tests at 5 % after Holm's "
    'correction over the {tests} differences that were tested here).'
)


def board(summary: Summary) -> Board:
    """Puts a summary into tables.

    Args:
        summary: What a run writes to ``summary.json``.

    Returns:
        Plain data; numbers are written alike for all who show it.
    """
    shared = _Shared(summary)
    tasks = list(shared.tasks)
    tables = [_rewirings(shared, name) for name in tasks]
    skipped = summary['skipped']
    return {
        'models': _models(shared),
        'rewirings': [table for table in tables if table is not None],
        'standings': [_standings(shared, name) for name in tasks],
        'details': details(summary),
        'verdict': verdict(summary),
        'failed': shared.failed,
        'skipped': [f'{name}: {line}' for name, line in skipped.items()],
    }


class _Shared:
    """What the tables of one summary have in common."""

    def __init__(self, summary: Summary) -> None:
        self.seeds = len(summary['seeds'])
        self.tasks: Mapping[str, Any] = summary['tasks']
        self.cells: dict[_Key, Mapping[str, Any]] = {
            (cell['task'], cell['model'], cell['rewiring']): cell
            for cell in summary['cells']
        }
        self.models = list(dict.fromkeys(model for _, model, _ in self.cells))
        self.best = {name: self._best(name) for name in self.tasks}
        lines = {key: failure(cell) for key, cell in self.cells.items()}
        self.failed = [line for line in lines.values() if line]
        noted = [key for key, line in lines.items() if line]
        self.notes = {key: place for place, key in enumerate(noted, 1)}

    def _best(self, task: str) -> list[str]:
        found = {
            model: cell['values']
            for (name, model, rewiring), cell in self.cells.items()
            if (name, rewiring) == (task, 'none') and not is_lost(cell)
        }
        return best_group(
            found,
            higher_is_better=self.tasks[task]['higher_is_better'],
            resolution=self.tasks[task].get('resolution', 0.0),
        )

    def metric(self, task: str) -> str:
        """The metric of a task."""
        return str(self.tasks[task]['metric'])

    def title(self, task: str) -> str:
        """The name of a task, with an arrow where less is better."""
        return task if self.tasks[task]['higher_is_better'] else f'{task} ↓'

    def level(self, key: _Key) -> Cell:
        """A mean with its interval."""
        cell, note = self.cells.get(key), self.notes.get(key, 0)
        if cell is None:
            return entry(MISSING, kind='missing')
        if is_lost(cell):
            return entry('failed', kind='failed', note=note)
        mean, metric = cell['mean'], self.metric(key[0])
        around = reach(cell['half_width'], metric)
        return entry(number(mean, metric), mean, detail=around, note=note)

    def change(self, key: _Key) -> Cell:
        """A difference from no rewiring, or why there is none."""
        made, cell = self.level(key), self.cells.get(key)
        if cell is None or is_lost(cell):
            return made
        control, metric = cell['control'], self.metric(key[0])
        if control is None:
            # Its own value, as nothing can be said of a difference.
            text = f'no control: {made["text"]}'
            return entry(text, kind='untested', detail=made['detail'],
                         note=made['note'])  # fmt: skip
        ends, around = (control['low'], control['high']), None
        if None not in ends:
            around = (ends[1] - ends[0]) / 2
        return entry(
            difference(control['difference'], metric),
            control['difference'],
            detail=reach(around, metric),
            ends=interval(*ends, metric),
            kind=judged(control, self.tasks[key[0]]['higher_is_better']),
            note=made['note'],
        )


def _models(shared: _Shared) -> Table:
    """Models by tasks."""
    rows = []
    for model in shared.models:
        cells, sizes = [], []
        for task in shared.tasks:
            key = (task, model, 'none')
            made = shared.level(key)
            if model in shared.best[task]:
                made['kind'] = 'best'
            if made['kind'] not in ('failed', 'missing'):
                sizes.append(shared.cells[key]['parameters'])
            cells.append(made)
        rows.append(Row(name=model, cells=[*cells, _sizes(sizes)]))
    guesses = [
        entry(number(about['chance'], about['metric']), about['chance'])
        for about in shared.tasks.values()
    ]
    return {
        'title': 'Models without rewiring',
        'head': 'model',
        'columns': [*map(shared.title, shared.tasks), 'parameters'],
        'rows': rows,
        'foot': [Row(name='chance', cells=[*guesses, entry('–')])],
        'caption': _models_caption(shared),
        'higher_is_better': True,
    }


def _sizes(found: list[int]) -> Cell:
    """Numbers of parameters, from the least to the most."""
    if not found:
        return entry('–')
    least, most = min(found), max(found)
    up = '' if least == most else f'to {most:,}'
    return entry(f'{least:,}', most, detail=up)


def _rewirings(shared: _Shared, task: str) -> Table | None:
    """The models of a task by rewirings, if it has any."""
    keys = [key for key in shared.cells if key[0] == task]
    names = list(dict.fromkeys(key[2] for key in keys if key[2] != 'none'))
    if not names:
        return None
    models = dict.fromkeys(key[1] for key in keys if key[2] != 'none')
    rows = []
    for model in models:
        changes = [shared.change((task, model, name)) for name in names]
        control = shared.level((task, model, 'none'))
        rows.append(Row(name=model, cells=[control, *changes]))
    tested = [
        cell
        for row in rows
        for cell in row['cells']
        if cell['kind'] in ('better', 'worse', 'same')
    ]
    points = ' in points' if scale(shared.metric(task)) > 1 else ''
    return {
        'title': shared.title(task),
        'head': 'model',
        'columns': ['without', *names],
        'rows': rows,
        'foot': [],
        'caption': _REWIRINGS_CAPTION.format(points=points, tests=len(tested)),
        'higher_is_better': shared.tasks[task]['higher_is_better'],
    }


def _standings(shared: _Shared, task: str) -> Standings:
    about = shared.tasks[task]
    factor = scale(about['metric'])
    rows, absent = [], {}
    for model in shared.models:
        key = (task, model, 'none')
        made = shared.level(key)
        if made['kind'] in ('failed', 'missing'):
            absent[model] = made['text']
            continue
        cell = shared.cells[key]
        rows.append(
            Standing(
                model=model,
                mean=factor * cell['mean'],
                half_width=_scaled(cell['half_width'], factor),
                values=[factor * value for value in cell['values']],
                is_best=model in shared.best[task],
            )
        )
    return {
        'task': task,
        'about': _sentence(about['about']),
        'facts': _facts(about),
        'unit': unit(about['metric']),
        'chance': _scaled(about['chance'], factor),
        'rows': rows,
        'absent': absent,
    }


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _models_caption(shared: _Shared) -> str:
    """What the numbers are, by the metrics and the seeds that there are."""
    tasks = shared.tasks.values()
    units = ', '.join(dict.fromkeys(unit(about['metric']) for about in tasks))
    if not all(about['higher_is_better'] for about in tasks):
        units += '; ↓ marks where less is better'
    if shared.seeds == 1:
        return f'One seed, on the test split: {units}. {_BEST_OF_ONE} {_REST}'
    return (
        f'Means over {shared.seeds} seeds ± half of the 95 % t-interval, on '
        f'the test split: {units}. {_BEST} {_REST}'
    )


def _sentence(text: str) -> str:
    """Text that others can follow."""
    return text if text.endswith(('.', '?', '!')) else f'{text}.'


def _facts(about: Mapping[str, Any]) -> str:
    """What is to be known of a task beside what it asks."""
    asked = 'nodes' if about['level'] == 'node' else 'whole graphs'
    edges = 'directed' if about['directed'] else 'undirected'
    layers = about['layers']
    depth = f'{layers} layer{"" if layers == 1 else "s"}'
    steps = f', {about["steps"]:,} steps' if 'steps' in about else ''
    return f'Asks {asked}; {edges} edges; {depth}{steps}.'
