from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from gnnbridge.report.canvas import BLUE, VERMILION
from gnnbridge.report.figures.attention import plot_attention_graph
from gnnbridge.report.graphs import edges_of, layer_of


def arcs(axes: Axes) -> list[tuple[int, int, float]]:
    """Source, target and height of each arc."""
    found = []
    for path in axes.collections[0].get_paths():
        (start, _), (_, top), _, (end, _) = path.vertices
        found.append((round(start), round(end), float(top)))
    return found


def test_every_edge_but_self_loops_is_drawn_once(
    profile: dict[str, Any],
) -> None:
    edges = edges_of(layer_of(profile, 1), 40, 2)
    expected = {
        (source, target)
        for source, target in zip(edges.source, edges.target, strict=True)
        if source != target
    }
    found = arcs(plot_attention_graph(profile, 1, 2))
    assert {(source, target) for source, target, _ in found} == expected
    assert len(found) == len(expected)
    # Forward edges lie above the line.
    assert all(height > 0 for *_, height in found)


def test_edges_from_the_first_token_stand_out(profile: dict[str, Any]) -> None:
    axes = plot_attention_graph(profile, 1)
    colors = axes.collections[0].get_edgecolors()
    for (source, *_), color in zip(arcs(axes), colors, strict=True):
        assert to_hex(color) == (VERMILION if source == 0 else BLUE)
    widths = axes.collections[0].get_linewidths()
    assert (np.diff(widths) >= -1e-9).all()


def test_backward_edges_lie_below(profile: dict[str, Any]) -> None:
    layer = profile['graphs']['layers'][0]
    # Query 0 reads key 4, with a quarter of its attention.
    layer.update(heads=1, keep=1, source='BAAAAAAAAAAAAA==', weight='QAAAAAA=')
    profile['graphs'].update(tokens=5, layers=[layer])
    profile['text']['tokens'] = list('abcde')
    axes = plot_attention_graph(profile, 0)
    [(source, target, height)] = arcs(axes)
    assert (source, target) == (4, 0)
    assert height < 0
    assert axes.get_ylim()[0] < -1


def test_only_the_strongest_of_many_are_drawn(make_profile: Any) -> None:
    profile = make_profile(layers=1, heads=3, tokens=300)
    assert len(arcs(plot_attention_graph(profile, 0))) == 400


def test_tokens_are_written_where_they_fit(
    profile: dict[str, Any], make_profile: Any
) -> None:
    axes = plot_attention_graph(profile, 0)
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels[:3] == ['<s>', '␣the', '␣quick']
    assert len(labels) == 40
    long = make_profile(layers=1, heads=1, tokens=41)
    assert plot_attention_graph(long, 0).get_xlabel() == 'token position'


def test_tokens_are_no_formulas(profile: dict[str, Any]) -> None:
    profile['text']['tokens'] = ['$\\frac{$', '漢', '\x00', '$'] * 10
    axes = plot_attention_graph(profile, 0)
    axes.figure.canvas.draw()
    assert axes.get_xticklabels()[0].get_text() == '$\\frac{$'


def test_a_layer_that_is_not_there(profile: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected 'layer'"):
        plot_attention_graph(profile, 9)
