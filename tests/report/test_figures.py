import base64
import re
from xml.etree import ElementTree

import pytest

from gnnbridge.report.figures import Curve, arc_diagram, curves, heatmap

BLUE, VERMILION = '#0072b2', '#d55e00'
SVG = '{http://www.w3.org/2000/svg}'


def svg_of(uri: str) -> ElementTree.Element:
    return ElementTree.fromstring(base64.b64decode(uri.partition(',')[2]))


def group(root: ElementTree.Element, prefix: str) -> list[ElementTree.Element]:
    return [
        element
        for element in root.iter(f'{SVG}g')
        if element.get('id', '').startswith(prefix)
    ]


def arcs(uri: str) -> list[ElementTree.Element]:
    found = group(svg_of(uri), 'PathCollection')
    return list(found[0]) if found else []


def _opacity(arc: ElementTree.Element) -> float:
    return float(re.search(r'stroke-opacity: ([\d.]+)', arc.get('style'))[1])


def test_arc_diagram_draws_every_edge_but_self_loops_once() -> None:
    edges = [(0, 1, 0.5), (0, 2, 0.9), (1, 2, 0.3), (2, 2, 0.8)]
    drawn = arcs(arc_diagram(edges, 3, title='t'))
    colors = [re.search('#[0-9a-f]{6}', a.get('style'))[0] for a in drawn]
    # Weakest first, so that the strongest lie on top.
    assert colors == [BLUE, VERMILION, VERMILION]
    widths = [
        float(re.search(r'stroke-width: ([\d.]+)', a.get('style'))[1])
        for a in drawn
    ]
    assert widths == sorted(widths)


def test_arc_diagram_runs_from_key_to_query() -> None:
    forward, back = [(1, 5, 0.5)], [(5, 1, 0.5)]
    first = re.findall(
        r'[\d.-]+', arcs(arc_diagram(forward, 7, title='t'))[0].get('d')
    )
    second = re.findall(
        r'[\d.-]+', arcs(arc_diagram(back, 7, title='t'))[0].get('d')
    )
    assert float(first[0]) < float(first[-2])
    assert float(second[0]) > float(second[-2])
    # SVG counts downwards: the forward arc is above its ends.
    assert float(first[3]) < float(first[1])
    assert float(second[3]) > float(second[1])


def test_arc_diagram_of_many_edges_keeps_the_strongest() -> None:
    weights = [i / 1000 for i in range(1000)]
    edges = [(i + 1, i + 2, weight) for i, weight in enumerate(weights)]
    drawn = arcs(arc_diagram(edges[::-1], 1002, title='t'))
    assert len(drawn) == 400
    # Opacity rises linearly with weight: 0.25 at 0, 0.9 at 1.
    ratio = (0.25 + 0.65 * weights[-400]) / (0.25 + 0.65 * weights[-1])
    assert _opacity(drawn[0]) / _opacity(drawn[-1]) == pytest.approx(
        ratio, abs=1e-4
    )


@pytest.mark.parametrize('edges', [[], [(0, 0, 1.0)]])
def test_arc_diagram_without_edges(edges: list) -> None:
    assert arcs(arc_diagram(edges, 1, title='t', labels=['x'])) == []


def test_tokens_in_a_figure_are_text_and_nothing_else() -> None:
    # A formula, a comment's end, markup, what the font lacks.
    labels = ['$\\frac{$', '-->', '<script>', '&amp;', '漢', '\x00', '$']
    uri = arc_diagram([(0, 6, 0.5)], len(labels), title='t', labels=labels)
    names = {element.tag for element in svg_of(uri).iter()}
    assert f'{SVG}script' not in names


def test_labels_are_left_out_where_they_do_not_fit() -> None:
    def texts(n: int) -> int:
        uri = arc_diagram([(0, 1, 0.5)], n, title='t', labels=['ab'] * n)
        return len(group(svg_of(uri), 'xtick_'))

    assert texts(40) == 40
    assert texts(41) < 12


def test_curves_leave_gaps_for_what_is_not_defined() -> None:
    values = [1.0, 2.0, None, 4.0, 5.0]
    root = svg_of(
        curves([Curve('a', values)], title='t', x_label='x', y_label='y')
    )
    lines = [
        path.get('d')
        for path in root.iter(f'{SVG}path')
        if BLUE in (path.get('style') or '') and path.get('clip-path')
    ]
    assert [line.count('M') for line in lines] == [2]


def test_log_curves_leave_out_what_is_not_positive() -> None:
    uri = curves(
        [Curve('a', [0.0, -1.0, 10.0, 100.0])],
        title='t',
        x_label='x',
        y_label='y',
        log=True,
    )
    assert group(svg_of(uri), 'line2d_')


@pytest.mark.parametrize('values', [[], [None], [None, None], [1.0]])
def test_curves_with_next_to_no_values(values: list) -> None:
    for log in (False, True):
        uri = curves(
            [Curve('a', values)], title='t', x_label='x', y_label='y', log=log
        )
        assert svg_of(uri).tag == f'{SVG}svg'


def test_heatmap_writes_numbers_only_into_few_cells() -> None:
    def cells(layers: int, heads: int) -> int:
        rows = [[0.25] * heads] * layers
        uri = heatmap(rows, title='t', label='l', mark=0.1)
        svg = base64.b64decode(uri.partition(',')[2]).decode()
        return svg.count('<!-- 0.25 -->')

    assert cells(3, 5) == 15
    assert cells(32, 32) == 0


def test_heatmap_takes_ragged_and_undefined_values() -> None:
    uri = heatmap([[0.1, None, 0.3], [0.9]], title='t', label='l')
    svg = base64.b64decode(uri.partition(',')[2]).decode()
    assert svg.count('<!-- nan -->') == 0
    assert svg.count('<!-- 0.90 -->') == 1
