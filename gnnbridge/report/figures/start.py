"""Where a figure begins: on given axes, or on a new figure."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from matplotlib.axes import Axes

from gnnbridge.report.canvas import house_style, new_axes

Arguments = ParamSpec('Arguments')


def in_house_style(
    plot: Callable[Arguments, Axes],
) -> Callable[Arguments, Axes]:
    """Draws in the house style, unless the reader brings axes of their own."""

    @wraps(plot)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Axes:
        own = [*args, *kwargs.values()]
        if any(isinstance(value, Axes) for value in own):
            return plot(*args, **kwargs)
        with house_style():
            return plot(*args, **kwargs)

    return styled


def axes_or_new(ax: Axes | None, **sizes: Any) -> Axes:
    """The axes, or new ones on a figure of their own.

    Args:
        ax: Where to draw.
        sizes: Those of :func:`~gnnbridge.report.canvas.new_axes`.
    """
    return new_axes(**sizes)[1] if ax is None else ax
