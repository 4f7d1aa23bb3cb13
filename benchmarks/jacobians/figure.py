"""One figure of all parts: tables in colour, and one scatter plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .agreement import COLUMNS
from .collapse import RESISTANCE
from .measure import JACOBIAN, PROBES
from .models import RECIPES, SIZES
from .scores import FULL, KINDS

_NAMES = ('embedded', *RECIPES)
_KNOCKOUTS = ('knock-out energy', 'knock-out energy, coherent')
_FEW = (
    '-source index',
    'direct attention',
    'T, measured mixing',
    'depth-matched conductance',
    'rms rollout, gains',
    '+ token gains',
    FULL,
    'full on uniform attention',
)
_TITLES = {
    'pairs': 'all pairs',
    'per_receiver': 'per receiver, mean',
    'partial': 'all pairs, given positions',
}
_PLACES = {
    'with_place': 'R of last token with place',
    'with_received': 'R with received attention',
    'with_received_given_place': '... given place',
    'ratio_to_uniform_with_place': 'R / uniform R with place',
    'uniform_graph_with_place': 'uniform R with place',
}
Result = dict[str, Any]
Value = Callable[[str, str], float | None]


def draw(result: Result, folder: Path, path: Path) -> None:
    """Draws what has been measured so far.

    Args:
        result: The summary.
        folder: Where the norms of each model are.
        path: The image to write.
    """
    matplotlib.use('Agg')
    figure = plt.figure(figsize=(19, 19.5), layout='constrained')
    parts = figure.subfigures(3, 1, height_ratios=[25, 22, 14], hspace=0.03)
    _agreements(parts[0], result)
    _middle(parts[1], result, folder)
    _last(parts[2], result)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _agreements(figure: Figure, result: Result) -> None:
    """Every score on every kind of model, in three columns."""
    groups = _present(
        result,
        [f'{name}{state}' for state in ('', ' new', ' peaky')
         for name in _NAMES],
    )  # fmt: skip
    rows = [*KINDS, *(f'{count} random probes' for count in PROBES)]
    axes = figure.subplots(1, len(COLUMNS), sharey=True)
    for ax, column in zip(axes, COLUMNS, strict=True):
        value = _score(result, 'jacobian', column)
        _table(ax, rows, groups, value, _TITLES[column])
    figure.suptitle(
        'Spearman correlation of scores with measured Jacobian norms '
        '(random probes are measured derivatives and no proxy)',
        fontsize=13,
    )


def _middle(figure: Figure, result: Result, folder: Path) -> None:
    """One text point by point, knock-outs, and new models of other sizes."""
    axes = figure.subplots(1, 3, width_ratios=[8, 9, 10])
    _scatter(axes[0], result, folder)
    groups = [f'{name}{state}' for state in ('', ' new') for name in _NAMES]
    _table(
        axes[1],
        [JACOBIAN, *_KNOCKOUTS, *(x for x in KINDS if x != _FEW[-1])],
        _present(result, groups),
        _score(result, 'knockout', 'pairs'),
        'Hiding a token from later ones:\nscores with the change, all pairs',
    )
    _table(
        axes[2],
        _FEW,
        _present(result, [f'{name} new' for name in SIZES]),
        _score(result, 'jacobian', 'per_receiver'),
        'New models, layers x width:\nscores with Jacobians, per receiver',
    )


def _last(figure: Figure, result: Result) -> None:
    """Collapse, and early tokens."""
    names = [f'{name}{state}' for state in ('', ' new') for name in _NAMES]
    axes = figure.subplots(1, 3, width_ratios=[9, 6, 6])

    def alike(row: str, group: str) -> float | None:
        name, _, column = row.rpartition(', ')
        part = result['groups'][group].get('collapse')
        return part and part[name]['layers_summed'][column]

    compared = (RESISTANCE, 'distance of rows of A', '|i - j|')
    compared += ('uniform-graph resistance',)
    _table(
        axes[0],
        [f'{x}, {column}' for column in COLUMNS for x in compared],
        _present(result, names),
        alike,
        'Distance of attention outputs, summed over layers,\n'
        'means over texts: scores with it',
    )
    groups = _present(result, _NAMES)
    for ax, depth in zip(axes[1:], ('unlimited', 'matched'), strict=True):

        def early(row: str, group: str, depth: str = depth) -> float | None:
            part = result['groups'][group].get('sources')
            if part is None:
                return None
            if row.startswith(('full', 'measured')):
                source, key = row.split(': ')
                found = part.get(source)
                return found and found[_key(key)]
            return part['layers']['mean'][depth][_key(row)]

        rows = list(_PLACES.values())
        if depth == 'matched':
            rows += [
                f'{source}: {_PLACES[key]}'
                for source in ('full rollout', 'measured')
                for key in ('with_place', 'with_received')
            ]
        title = f'Early tokens: R at {depth} depth,\nmean matrix'
        _table(ax, rows, groups, early, title)


def _key(title: str) -> str:
    return next(key for key, text in _PLACES.items() if text == title)


def _score(result: Result, part: str, column: str) -> Value:
    def value(row: str, group: str) -> float | None:
        found = result['groups'][group].get(part, {}).get(row)
        return found and found['without_token_0'][column]['mean']

    return value


def _present(result: Result, groups: Sequence[str]) -> list[str]:
    return [group for group in groups if group in result['groups']]


def _table(
    ax: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    value: Value,
    title: str,
) -> None:
    """Figures from -1 to 1 in colour, empty where there is none."""
    ax.set_title(title, fontsize=11)
    found = np.array(
        [[value(row, column) for column in columns] for row in rows],
        dtype=float,
    )
    found = found.reshape(len(rows), len(columns))
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    ax.set_xticks(range(len(columns)), columns, fontsize=9, rotation=90)
    ax.tick_params(length=0)
    if not columns:
        ax.set_axis_off()
        return
    ax.imshow(found, vmin=-1, vmax=1, cmap='RdYlGn', aspect='auto')
    for (i, j), number in np.ndenumerate(found):
        if np.isfinite(number):
            # Adding zero takes the sign off a zero.
            text = f'{round(number, 2) + 0:.2f}'.replace('0.', '.', 1)
            dark = abs(number) > 0.75
            ax.text(
                j, i, text, ha='center', va='center', fontsize=8,
                color='white' if dark else 'black',
                weight='bold' if rows[i] == FULL else 'normal',
            )  # fmt: skip


def _scatter(ax: Axes, result: Result, folder: Path) -> None:
    """The full rollout beside the norms, of one text."""
    ax.set_title(
        'Embedded model, first text:\nevery pair from token 1', size=11
    )
    norms, full = folder / 'embedded-0-0.pt', folder / 'embedded-0-full.pt'
    if not norms.is_file() or not full.is_file():
        return
    measured = torch.load(norms, weights_only=True)['norm']
    measured = measured / result['groups']['embedded']['width'] ** 0.5
    estimated = torch.load(full, weights_only=True)[0]
    i, j = torch.tril_indices(*measured.shape, -1)
    i, j = i[j > 0], j[j > 0]
    points = ax.scatter(
        estimated[i, j], measured[i, j], c=i - j, s=5, cmap='viridis'
    )
    ax.set_xscale('log')
    ax.set_yscale('log')
    ax.set_xlabel('full rollout')
    ax.set_ylabel('measured norm / sqrt(d)')
    ax.axline((1, 1), (2, 2), color='grey', linewidth=1, zorder=0)
    ax.figure.colorbar(points, ax=ax, label='distance', location='bottom')
