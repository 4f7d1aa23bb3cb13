"""The figure of what is left at equal compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from drawing import palette, plt, save
from experiments import EQUAL_OPERATIONS, RATES, at_rate, with_steps
from matched import compute, figure, operations_over, plain
from matplotlib.axes import Axes

_MARKERS = 'osD^vPX<>*hdp8'
# Group and figure of a panel, what it is called, and where the legend goes.
_PANELS = (
    (
        'retrieval', 'under_noise/31', 'right under noise, 31 bindings',
        'lower right',
    ),
    ('retrieval', 'accuracy/31', 'right, 31 bindings', 'lower right'),
    ('pauses', 'under_noise/31', 'right under noise, 31 bindings', 'best'),
    ('scratch', 'under_noise/31', 'right under noise, 31 bindings', 'best'),
    ('prose', 'loss', 'nats per byte', 'lower left'),
    ('backcopy', 'spread', 'spread of a change', 'best'),
    ('sinks', 'spread', 'spread of a change', 'best'),
)  # fmt: skip


def draw(result: dict[str, Any], path: Path) -> None:
    """Figures over compute: plain decoders as a curve, remedies as points."""
    drawn, axes = plt.subplots(2, 5, figsize=(27, 9.5), layout='constrained')
    panels = axes.flatten()
    for axis, (group, key, label, where) in zip(panels, _PANELS, strict=False):
        _over_compute(axis, result['groups'][group], key)
        axis.set_title(group, loc='left')
        axis.set_ylabel(label)
        axis.legend(fontsize=7, framealpha=0.8, loc=where)
    shapes, usual, equal = panels[len(_PANELS) :]
    _shapes(shapes, result['groups']['shapes'])
    _widths(usual, result['groups']['rates'], equal=False)
    _widths(equal, result['groups']['rates'], equal=True)
    save(drawn, path)


def _over_compute(axis: Axes, found: dict[str, Any], key: str) -> None:
    curve = sorted(plain(found), key=lambda name: compute(found, name))
    x = [compute(found, name) for name in curve]
    shown = [figure(found[name], key) for name in curve]
    mean = np.array([one['mean'] for one in shown])
    deviation = np.array([one['deviation'] for one in shown])
    axis.plot(x, mean, 'o-', color='black', ms=4, label=curve[0])
    axis.fill_between(
        x, mean - deviation, mean + deviation, color='black', alpha=0.12, lw=0
    )
    others = [name for name in found if name not in curve]
    colors = palette(len(others) + 1)[1:]
    for name, color, marker in zip(others, colors, _MARKERS, strict=False):
        one = figure(found[name], key)
        axis.errorbar(
            compute(found, name), one['mean'], yerr=one['deviation'],
            fmt=marker, color=color, ms=6, lw=1.2, label=name,
        )  # fmt: skip
    axis.set_xlabel('CPU time of training, plain decoder and usual steps = 1')
    axis.grid(alpha=0.3)


def _shapes(axis: Axes, found: dict[str, Any]) -> None:
    """From the usual steps to as many operations as the largest of a row."""
    base = list(EQUAL_OPERATIONS['narrow'])[-1]
    names = dict.fromkeys(
        name for row in EQUAL_OPERATIONS.values() for name in row
    )
    for name, color, marker in zip(
        names, palette(len(names)), _MARKERS, strict=False
    ):
        runs = {
            with_steps(name, factor)
            for row in EQUAL_OPERATIONS.values()
            for factor in (1.0, row.get(name, 1.0))
        }
        points = sorted(
            (
                (operations_over(found[run], found[base]), found[run])
                for run in runs
            ),
            key=lambda point: point[0],
        )
        axis.errorbar(
            [x for x, _ in points],
            [one['under_noise']['16']['mean'] for _, one in points],
            yerr=[one['under_noise']['16']['deviation'] for _, one in points],
            fmt=f'{marker}-', color=color, ms=5, lw=1.2, label=name,
        )  # fmt: skip
        for x, one in points:
            values = one['under_noise']['16']['values']
            axis.plot([x] * len(values), values, '.', color=color, alpha=0.4)
    axis.set_xscale('log')
    axis.set_title('shapes', loc='left')
    axis.set_xlabel(f'operations of training, {base} and usual steps = 1')
    axis.set_ylabel('right under noise, 16 bindings')
    axis.legend(fontsize=7, framealpha=0.8)
    axis.grid(alpha=0.3)


def _widths(axis: Axes, found: dict[str, Any], equal: bool) -> None:
    """Widths at each learning rate, in usual steps or equal operations."""
    rows = [EQUAL_OPERATIONS[key] for key in ('narrow', 'wide')]
    if not equal:
        rows = [dict.fromkeys([*rows[0], *rows[1]], 1.0)]
    for row, style in zip(rows, ('o-', 's--'), strict=False):
        widths = [int(name.split('x')[1]) for name in row]
        for rate, color in zip(RATES, palette(len(RATES)), strict=True):
            values = np.array([
                found[at_rate(with_steps(name, factor), rate)]['under_noise'][
                    '8'
                ]['values']
                for name, factor in row.items()
            ])  # fmt: skip
            label = f'rate {rate:g}'
            if equal:
                label += f', operations of {list(row)[-1]}'
            axis.plot(
                widths, np.median(values, axis=1), style, color=color, ms=5,
                label=label,
            )  # fmt: skip
            axis.plot(widths, values, '.', color=color, alpha=0.5)
    axis.set_xscale('log', base=2)
    axis.set_xticks([16, 32, 64, 128], ['16', '32', '64', '128'])
    axis.set_ylim(0, 1.03)
    axis.set_title('equal operations' if equal else 'usual steps', loc='left')
    axis.set_xlabel('width of three layers (median and all seeds)')
    axis.set_ylabel('right under noise, 8 bindings')
    axis.legend(
        fontsize=7, framealpha=0.8, loc='lower left' if equal else 'best'
    )
    axis.grid(alpha=0.3)
