"""Figures without pyplot: one style, one palette, one way onto the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from gnnbridge.report.theme import ROLES, role_of

BLUE = ROLES['blue'].light
VERMILION = ROLES['vermilion'].light
GREEN = ROLES['green'].light
PURPLE = ROLES['purple'].light
AMBER = ROLES['amber'].light
SKY = ROLES['sky'].light
INK = ROLES['ink'].light
QUIET = ROLES['quiet'].light
EDGE = ROLES['edge'].light
RULE = ROLES['rule'].light

_STYLE: dict[str, Any] = {
    'axes.edgecolor': EDGE,
    'axes.grid': False,
    'axes.labelcolor': INK,
    'axes.labelsize': 9.5,
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
    'font.size': 9.5,
    'grid.color': RULE,
    'grid.linewidth': 0.7,
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
    width: float = 4.6,
    height: float = 2.8,
    *,
    left: float = 0.62,
    bottom: float = 0.5,
    right: float = 0.12,
    top: float = 0.34,
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; all lengths in inches.

    The margins are given because a layout engine draws each figure twice
    over, which is most of the time that a report takes.
    """
    figure = Figure(figsize=(width, height))
    box = (
        left / width,
        bottom / height,
        1 - (left + right) / width,
        1 - (bottom + top) / height,
    )
    return figure, figure.add_axes(box)


def to_svg(figure: Figure, alt: str, kind: str = '') -> Markup:
    """The figure as an SVG element for the page, in the theme's colours.

    Text stays text, so that it is found, read out and written in the page's
    font.

    Args:
        figure: Drawn in :func:`house_style`.
        alt: What is read in its place.
        kind: A further class of the element.
    """
    buffer = io.StringIO()
    with mpl.rc_context({'svg.fonttype': 'none'}):
        figure.savefig(
            buffer,
            format='svg',
            transparent=True,
            metadata={'Date': None, 'Creator': None},
        )
    text = buffer.getvalue()
    width, height = re.findall(r'viewBox="0 0 (\S+) (\S+)"', text)[0]
    return Markup(
        f'<svg class="plot {kind}" role="img" aria-label="{escape(alt)}" '
        f'viewBox="0 0 {width} {height}">{_for_page(text, alt)}</svg>'
    )


def _for_page(text: str, alt: str) -> str:
    """What is inside the SVG element, as a page needs it."""
    text = text[text.index('>', text.index('<svg')) + 1 : text.rindex('</svg>')]
    for gone in (r'<metadata>.*?</metadata>', r'<style.*?</style>'):
        text = re.sub(gone, '', text, flags=re.DOTALL)
    # Ids that are referred to are kept, under names of this figure.
    used = set(re.findall(r'<[^>]*(?:url\(#|href="#)([^)"]+)', text))
    salt = hashlib.blake2b((alt + text).encode(), digest_size=4).hexdigest()
    names = {old: f's{salt}-{place}' for place, old in enumerate(sorted(used))}
    # Tags only: a token may read like an attribute.
    text = re.sub(r'<[^>]*>', lambda tag: _tag(tag.group(), names), text)
    # Groups without anything in them, from the inside out.
    while (less := re.sub(r'<(g|defs)[^<>]*>\s*</\1>', '', text)) != text:
        text = less
    return re.sub(r'\s*\n\s*', '', text)


def _tag(tag: str, names: dict[str, str]) -> str:
    """One tag with short numbers, in variables for colours, its own ids."""

    def own_id(found: re.Match[str]) -> str:
        name = names.get(found.group(1))
        return '' if name is None else f' id="{name}"'

    tag = re.sub(r'font-family: [^;"]*;? ?', '', tag)
    tag = re.sub(r' transform="rotate\(-0 [^)]*\)"', '', tag)
    tag = re.sub(r' (?:d|x|y|transform)="[^"]*"', _rounded, tag)
    tag = re.sub(r'#[0-9a-f]{6}', _variable, tag)
    tag = re.sub(r' id="([^"]+)"', own_id, tag)
    return re.sub(
        r'(url\(#|href="#)([^)"]+)',
        lambda found: found.group(1) + names[found.group(2)],
        tag,
    )


def _rounded(attribute: re.Match[str]) -> str:
    """Numbers to a hundredth of a point, on one line."""
    short = re.sub(
        r'-?\d+\.\d{3,}',
        lambda found: f'{float(found.group()):.2f}',
        attribute.group(),
    )
    return re.sub(r'\s+', ' ', short).replace(' "', '"')


def _variable(color: re.Match[str]) -> str:
    role = role_of(color.group())
    return color.group() if role is None else f'var(--{role})'


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
