"""Every cell of a benchmark with its settings and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnnbridge.bench.numerals import number
from gnnbridge.bench.tables import Cell, Row, Table, entry
from gnnbridge.bench.verdict import is_lost

_COLUMNS = [
    'model', 'rewiring', 'test', 'validation', 'training', 'learning rate',
    'dropout', 'strength', 'parameters', 'trained', 'relations', 'CPU s',
]  # fmt: skip
_CAPTION = (
    'Means over seeds, with the settings that the search chose; CPU seconds '
    'are of one trial, loading and rewiring aside.'
)


def details(summary: Mapping[str, Any]) -> Table:
    """A row for each cell of a summary.

    Args:
        summary: What a run writes to ``summary.json``.
    """
    metrics = {name: t['metric'] for name, t in summary['tasks'].items()}
    return {
        'title': 'Every cell',
        'head': 'task',
        'columns': list(_COLUMNS),
        'rows': [
            Row(name=cell['task'], cells=_entries(cell, metrics[cell['task']]))
            for cell in summary['cells']
        ],
        'foot': [],
        'caption': _CAPTION,
        'higher_is_better': True,
    }


def _entries(cell: Mapping[str, Any], metric: str) -> list[Cell]:
    names = [entry(cell['model']), entry(cell['rewiring'])]
    settings = cell['settings']
    chosen = [
        _short(settings['learning_rate']),
        _short(settings['dropout']),
        # Without rewiring there is nothing to be strong.
        entry('–')
        if cell['rewiring'] == 'none'
        else _short(settings['strength']),
    ]
    if is_lost(cell):
        # Values and sizes of a cell that failed are of nothing.
        lost = entry('failed', kind='failed')
        return [*names, *[lost] * 3, *chosen, *[entry('–')] * 4]
    values = [
        entry(number(cell[name], metric), cell[name])
        for name in ('mean', 'val_mean', 'train_mean')
    ]
    sizes = [
        entry(f'{cell[name]:,}', cell[name])
        for name in ('parameters', 'trained', 'relations')
    ]
    seconds = entry(f'{cell["seconds"]:.1f}', cell['seconds'])
    return [*names, *values, *chosen, *sizes, seconds]


def _short(value: float) -> Cell:
    return entry(f'{value:.3g}', value)
