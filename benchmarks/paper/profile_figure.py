"""The figure of resistance profiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from drawing import plt, save
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

Record = dict[str, Any]
# Of a decoder and its nulls, in the colours that other figures use.
STYLES = {
    'trained': ('#0072B2', 'o', '-'),
    'new weights': ('#E69F00', 's', '--'),
    'shuffled': ('#CC79A7', 'D', ':'),
    'uniform': ('#7F7F7F', '^', '-.'),
}
_PROFILES = {
    'unlimited': 'resistance to later tokens,\nunlimited depth',
    'matched': 'the same at matched depth,\ntimes K / (1 + K)',
    'commute': 'commute time with all others,\nwith restarts',
    'jacobian': 'inverse Jacobian norm,\nrelative to receiver',
}
_PANELS = {
    'earliness': 'with early places',
    'received': 'with received attention,\ngiven the place',
    'jacobian': 'with measured Jacobians,\ngiven the place',
}


def variants_of(
    result: Record, model: str
) -> Iterator[tuple[str, Record, str]]:
    """Name, figures and graph of a trained decoder and of its nulls."""
    trained = result['groups']['trained'][model]
    yield 'trained', trained, 'own'
    yield 'new weights', result['groups']['new'][model], 'own'
    yield 'shuffled', trained, 'shuffled'
    yield 'uniform', trained, 'uniform'


def draw(result: Record, path: Path) -> None:
    """Profiles by place for every decoder, and correlations below."""
    models = list(result['groups']['trained'])
    figure = plt.figure(figsize=(11, 14), layout='constrained')
    above, below = figure.subfigures(2, 1, height_ratios=[10, 4])
    axes = above.subplots(
        len(_PROFILES), len(models), sharex='col', sharey='row', squeeze=False
    )
    for column, model in zip(axes.T, models, strict=True):
        for axis, kind in zip(column, _PROFILES, strict=True):
            _profile(axis, result, model, kind)
        column[0].set_title(model, fontsize=11)
        column[-1].set_xlabel('place of the token')
    for row, label in zip(axes, _PROFILES.values(), strict=True):
        row[0].set_ylabel(label, fontsize=9)
    handles, names = axes[0, 0].get_legend_handles_labels()
    above.legend(
        handles, names, loc='outside upper center', ncols=4, frameon=False
    )
    panels = below.subplots(1, len(_PANELS), sharey=True)
    for axis, key in zip(panels, _PANELS, strict=True):
        _correlations(axis, result, models, key)
    below.suptitle(
        'Rank correlations of conductance 1/R to later tokens, without token '
        '0; filled: matched depth, open: unlimited.\nBands and bars are '
        'deviations over seeds',
        fontsize=10,
    )
    save(figure, path)


def _profile(axis: Axes, result: Record, model: str, kind: str) -> None:
    for name, figures, graph in variants_of(result, model):
        color, marker, line = STYLES[name]
        found = figures['profiles']
        if kind != 'jacobian':
            found = found[graph]
        elif graph != 'own':
            continue
        mean = np.array(found[kind]['mean'])
        deviation = np.array(found[kind]['deviation'])
        place = np.arange(len(mean))
        axis.plot(
            place, 10**mean, line, color=color, lw=1.6, label=name,
            marker=marker, ms=4, markevery=(2, max(len(mean) // 6, 1)),
        )  # fmt: skip
        axis.fill_between(
            place, 10 ** (mean - deviation), 10 ** (mean + deviation),
            color=color, alpha=0.18, lw=0,
        )  # fmt: skip
    axis.set_yscale('log')
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter('{x:g}')
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)


def _correlations(
    axis: Axes, result: Record, models: list[str], key: str
) -> None:
    """A mean with its deviation over seeds for every decoder and null."""
    offsets = np.linspace(-0.3, 0.3, len(STYLES))
    for place, model in enumerate(models):
        for offset, (name, figures, graph) in zip(
            offsets, variants_of(result, model), strict=True
        ):
            color, marker, _ = STYLES[name]
            for kind, fill in (('matched', color), ('unlimited', 'none')):
                one = figures['graphs'][graph]['later'][kind][key]
                one = one if key == 'earliness' else one['given_place']
                axis.errorbar(
                    one['mean'], place + offset, xerr=one['deviation'],
                    fmt=marker, color=color, mfc=fill, ms=6, capsize=2,
                )  # fmt: skip
        if key == 'earliness':
            measured = result['groups']['trained'][model]['measured']
            one = measured['later']['earliness']
            axis.errorbar(
                one['mean'], place, xerr=one['deviation'], fmt='*', ms=9,
                color='black', capsize=2, zorder=3,
                label='' if place else 'measured Jacobians',
            )  # fmt: skip
    axis.axvline(0, color='black', lw=0.8)
    axis.set_xlim(-1.05, 1.05)
    axis.set_yticks(range(len(models)), models)
    axis.set_ylim(len(models) - 0.5, -0.5)
    axis.set_xlabel(_PANELS[key])
    axis.grid(axis='x', alpha=0.3)
    if key == 'earliness':
        axis.legend(fontsize=8, loc='lower left')
