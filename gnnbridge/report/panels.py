"""From a figure to a panel of the page: title and legend become text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gnnbridge.report.canvas import house_style, to_svg
from gnnbridge.report.section import Key, Panel
from gnnbridge.report.theme import role_of

# Room that the title and the name of the vertical axis had, in inches.
_TITLE, _UNIT = 0.26, 0.14
_DASHES = {'--': '5 3', ':': '1.5 2.5', '-.': '6 2 1.5 2'}


def panel(
    plot: Callable[..., Axes], profile: Any, caption: str, **options: Any
) -> Panel:
    """Draws a figure for the page.

    Args:
        plot: A function of :mod:`gnnbridge.report.figures`.
        profile: What it draws.
        caption: What is said under it, in numbers; it is read out in place of
            the figure as well.
        options: Further arguments of the function.
    """
    with house_style():
        axes = plot(profile, **options)
        title = axes.get_title(loc='left') or axes.get_title()
        unit = axes.get_ylabel() if axes.get_gid() == 'curves' else ''
        legend = _keys(axes)
        figure = axes.get_figure()
        assert isinstance(figure, Figure)
        _without_text(axes, figure, unit)
        kind = axes.get_gid() or ''
        image = to_svg(figure, f'{title}. {caption}', kind)
    return Panel(title, unit, image, caption, legend)


def _keys(axes: Axes) -> list[Key]:
    """What the legend says, where there is more than one thing to tell."""
    if axes.get_legend() is None:
        return []
    keys = []
    handles, labels = axes.get_legend_handles_labels()
    for handle, label in zip(handles, labels, strict=True):
        if isinstance(handle, Line2D):
            color = to_hex(handle.get_color())
            dash = _DASHES.get(str(handle.get_linestyle()), '')
            keys.append(Key(label, role_of(color) or 'ink', dash))
        else:
            color = to_hex(_first_bar(handle).get_facecolor())
            keys.append(Key(label, role_of(color) or 'ink', filled=True))
    return keys


def _first_bar(bars: Any) -> Any:
    return bars.patches[0]


def _without_text(axes: Axes, figure: Figure, unit: str) -> None:
    """Takes off what the page writes itself, and the room it had."""
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    for place in ('left', 'center'):
        axes.set_title('', loc=place)
    width, height = figure.get_size_inches()
    box, grown = axes.get_position(), height / (height - _TITLE)
    left = box.x0
    if unit:
        axes.set_ylabel('')
        left -= _UNIT / width
    figure.set_size_inches(width, height - _TITLE)
    axes.set_position((left, box.y0 * grown, box.x1 - left, box.height * grown))
