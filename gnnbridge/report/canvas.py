"""Figures without pyplot: one style, one palette, one way out as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

# Okabe and Ito's palette: told apart under the common colour-vision
# deficiencies and in grey print.
BLUE = '#0072B2'
VERMILION = '#D55E00'
GREEN = '#009E73'
INK = '#1b2733'
QUIET = '#6b7785'
RULE = '#d8dde3'

_STYLE: dict[str, Any] = {
    'axes.edgecolor': '#9aa4af',
    'axes.grid': False,
    'axes.labelcolor': INK,
    'axes.labelsize': 10,
    'axes.linewidth': 0.8,
    'axes.prop_cycle': cycler(color=[BLUE, VERMILION, GREEN, QUIET]),
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlecolor': INK,
    'axes.titlelocation': 'left',
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.unicode_minus': True,
    'figure.facecolor': 'white',
    'font.family': ['DejaVu Sans'],
    'font.size': 10,
    'grid.color': RULE,
    'grid.linewidth': 0.6,
    'legend.fontsize': 9,
    'legend.frameon': False,
    'lines.linewidth': 1.8,
    # The page must look the same from one run to the next, byte for byte.
    'svg.fonttype': 'path',
    'svg.hashsalt': 'gnnbridge',
    'xtick.color': QUIET,
    'xtick.labelsize': 9,
    'ytick.color': QUIET,
    'ytick.labelsize': 9,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The style of every figure, for the length of a ``with`` block."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_axes(
    width: float = 5.4,
    height: float = 3.2,
    *,
    left: float = 0.68,
    bottom: float = 0.52,
    right: float = 0.08,
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; all lengths in inches.

    The margins are given because a layout engine draws each figure twice
    over, which is most of the time that a report takes.
    """
    figure = Figure(figsize=(width, height))
    top = 0.34
    box = (
        left / width,
        bottom / height,
        1 - (left + right) / width,
        1 - (bottom + top) / height,
    )
    return figure, figure.add_axes(box)


def to_data_uri(figure: Figure) -> str:
    """The figure as an SVG inside a ``data:`` address."""
    buffer = io.BytesIO()
    metadata = {'Date': None, 'Creator': None}
    figure.savefig(buffer, format='svg', dpi=200, metadata=metadata)
    encoded = base64.b64encode(buffer.getvalue()).decode('ascii')
    return f'data:image/svg+xml;base64,{encoded}'


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    path = findfont(FontProperties(family='DejaVu Sans'))
    return frozenset(get_font(path).get_charmap())


def drawable_text(text: str, limit: int = 12) -> str:
    """A token as a label: spaces shown, what the font lacks as a box.

    Args:
        text: Any text; tokens hold control characters and every script.
        limit: The longest label, in characters.

    Returns:
        At most ``limit`` characters, each of which the figures' font has.
    """
    shown = {' ': '␣', '\n': '↵', '\r': '↵', '\t': '→'}
    chars = [shown.get(char, char) for char in text]
    chars = [c if _is_drawable(c) else '□' for c in chars]
    if len(chars) > limit:
        chars = [*chars[: limit - 1], '…']
    return ''.join(chars)


def _is_drawable(char: str) -> bool:
    return char.isprintable() and ord(char) in _drawable()
