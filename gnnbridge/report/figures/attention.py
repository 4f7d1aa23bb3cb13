"""The token graph of a layer as arcs over its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from gnnbridge.report.canvas import (
    BLUE,
    EDGE,
    INK,
    VERMILION,
    drawable_text,
)
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.graphs import Edges, edges_of, layer_of
from gnnbridge.report.reading import as_dict

_MAX_ARCS = 400
_MAX_LABELS = 40


@in_house_style
def plot_attention_graph(
    profile: Any,
    layer: int,
    head: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws a layer's token graph as arcs over the positions of its tokens.

    An arc joins key and query; edges that run forward (key before query) are
    drawn above the line, edges that run backward below it. The more attention,
    the darker and wider the arc; edges from the first token have their own
    colour, edges from a token to itself are left out.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        layer: The layer, as the model numbers it.
        head: The head, the mean over all by default.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the profile does not carry this layer or head.
    """
    found = as_dict(profile)
    graph = layer_of(found, layer)
    size = found['graphs']['tokens']
    edges = _strongest(edges_of(graph, size, head))
    axes = axes_or_new(ax, width=7.2, height=2.8, left=0.1)
    if len(edges.weight):
        axes.add_collection(_arcs(edges))
    both = bool((edges.source > edges.target).any())
    # The height of the longest arc there can be: layers compare.
    top = max(size - 1, 1) ** 0.5
    axes.set_ylim(-1.05 * top if both else -0.03 * top, 1.05 * top)
    axes.set_xlim(-0.02 * size - 0.5, 1.02 * size - 0.5)
    axes.axhline(0, color=EDGE, linewidth=0.8, zorder=1)
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    which = 'mean over heads' if head is None else f'head {head}'
    axes.set_title(f'Layer {layer}, {which}')
    _label_tokens(axes, found['text'].get('tokens') or [], size)
    return axes


def _strongest(edges: Edges) -> Edges:
    apart = edges.source != edges.target
    return Edges(*(array[apart][:_MAX_ARCS] for array in edges))


def _arcs(edges: Edges) -> PathCollection:
    # Cubic with both handles at 4/3 of the height: its top is at the height.
    codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    paths, colors, widths = [], [], []
    # Many arcs are drawn finer, so that they stay apart.
    fine = min(1.0, (90 / len(edges.weight)) ** 0.5)
    # Weakest first, so that the strongest lie on top.
    for source, target, weight in zip(
        *(array[::-1].tolist() for array in edges), strict=True
    ):
        way = target - source
        height = 4 / 3 * math.copysign(abs(way) ** 0.5, way)
        points = [(source, 0), (source, height), (target, height), (target, 0)]
        paths.append(Path(points, codes))
        base = VERMILION if source == 0 else BLUE
        colors.append(to_rgba(base, fine * (0.25 + 0.65 * weight)))
        widths.append(fine * (0.6 + 1.5 * weight))
    return PathCollection(
        paths, facecolors='none', edgecolors=colors, linewidths=widths, zorder=2
    )


def _label_tokens(axes: Axes, tokens: Sequence[str], size: int) -> None:
    if size > _MAX_LABELS or len(tokens) < size:
        axes.set_xlabel('token position')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
        axes.tick_params(axis='x', length=3)
        return
    names = [drawable_text(text) for text in tokens[:size]]
    axes.set_xticks(np.arange(size))
    upright = max(map(len, names), default=0) <= 2
    for text in axes.set_xticklabels(names):
        # A dollar sign in a token is not the start of a formula.
        text.set_parse_math(False)
        text.set(rotation=0 if upright else 90, fontsize=8.5, color=INK)
    axes.tick_params(axis='x', length=0)
