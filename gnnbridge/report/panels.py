"""The panel that most sections share: one measure over the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gnnbridge.report.figures import Curve, curves
from gnnbridge.report.section import Numbers, Panel, ProfileDict, mean, number


def baseline_measures(profile: ProfileDict) -> dict[str, Any] | None:
    """The measures with re-initialised weights, if they were taken."""
    baseline = profile.get('baseline')
    return None if baseline is None else baseline['measures']


def layer_values(rows: Sequence[Any]) -> list[float | None]:
    """One value per layer: the mean over heads where there are heads."""
    return [mean(row) if isinstance(row, Sequence) else row for row in rows]


def layer_panel(
    profile: ProfileDict,
    measure: str,
    title: str,
    unit: str,
    *,
    null: tuple[str, float] | None = None,
    log: bool = False,
) -> Panel:
    """A measure per layer, beside its baseline and its null.

    Args:
        profile: What ``Profile.to_dict()`` returns.
        measure: The name of the measure in ``profile['measures']``.
        title: The title above the axes.
        unit: What the vertical axis counts.
        null: The name and the value of the null, drawn as a level line.
        log: Whether the vertical axis is logarithmic.

    Returns:
        The panel; its caption gives the mean of every curve.
    """
    lines = [Curve('this model', layer_values(profile['measures'][measure]))]
    base = baseline_measures(profile)
    if base and measure in base:
        values = layer_values(base[measure])
        lines.append(Curve('re-initialised', values, 'reinitialised'))
    means = _means(lines)
    if null is not None:
        level: Numbers = [null[1]] * len(lines[0].values)
        lines.append(Curve(null[0], level, 'null'))
        means += f'; {null[0]}: {number(null[1])}'
    return Panel(
        image=curves(
            lines, title=title, x_label='layer', y_label=unit, log=log
        ),
        alt=f'{title} ({unit}) per layer. Means over layers: {means}.',
        caption=f'{title} per layer ({unit}). Means: {means}.',
    )


def _means(lines: Sequence[Curve]) -> str:
    return ', '.join(
        f'{line.label} {number(mean(line.values))}' for line in lines
    )
