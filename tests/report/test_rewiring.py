from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from gnnbridge.report.rewiring import draw, write_figure

Maker = Callable[..., dict[str, Any]]


def panels(figure: Figure, title: str) -> list[Axes]:
    return [
        axes
        for axes in figure.axes
        if axes.get_title(loc='left').startswith(title)
    ]


def texts(figure: Figure) -> list[str]:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return [*inside, *(text.get_text() for text in figure.texts)]


@pytest.mark.parametrize('names', [['a'], ['a', 'b'], list('abcdefghi')])
def test_every_graph_has_its_panel(
    make_comparison: Maker, names: list[str]
) -> None:
    figure = draw(make_comparison(*names))
    colors = set()
    for place, name in enumerate(['before', *names]):
        [axes] = [
            axes
            for axes in panels(figure, name)
            if axes.get_title(loc='left') == name
        ]
        [image] = axes.images
        dots = image.get_array()
        window = max(12 // (place + 1), 1)
        expected = np.tril(np.ones((12, 12))) - np.tril(
            np.ones((12, 12)), -window
        )
        np.testing.assert_array_equal(dots, expected)
        # Receivers go down, each cell around its numbers.
        assert image.get_extent() == [-0.5, 11.5, 11.5, -0.5]
        assert axes.get_xlabel() == 'source (layer 0, head 1)'
        colors.add(to_hex(image.get_cmap()(1)))
    assert len(colors) == len(names) + 1


def test_panels_do_not_overlap_and_stay_on_the_page(
    make_comparison: Maker,
) -> None:
    for names in (['a'], ['a', 'b'], list('abcdefghi')):
        boxes = [axes.get_position() for axes in draw(
            make_comparison(*names)
        ).axes]  # fmt: skip
        for place, box in enumerate(boxes):
            assert min(box.x0, box.y0) >= 0
            assert max(box.x1, box.y1) <= 1
            for other in boxes[:place]:
                assert not box.overlaps(other)


def test_curves_are_medians_by_distance(make_comparison: Maker) -> None:
    report = make_comparison('a', 'b')
    report['columns'][1]['by_distance']['median'][3] = None
    [axes] = panels(draw(report), 'Resistance by distance (median)')
    assert axes.get_yscale() == 'log'
    for line, column in zip(axes.lines, report['columns'], strict=True):
        assert line.get_label() == column['name']
        assert list(line.get_xdata()) == list(range(1, 12))
        expected = [
            np.nan if v is None else v for v in column['by_distance']['median']
        ]
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert len(axes.collections) == 0


def test_two_graphs_have_their_spread(make_comparison: Maker) -> None:
    report = make_comparison('a')
    [axes] = panels(draw(report), 'Resistance by distance (median and')
    for band, column in zip(axes.collections, report['columns'], strict=True):
        y = band.get_paths()[0].vertices[:, 1]
        assert y.min() == min(column['by_distance']['low'])
        assert y.max() == max(column['by_distance']['high'])


def test_nothing_to_reach_has_no_logarithm(make_comparison: Maker) -> None:
    report = make_comparison('a')
    for column in report['columns']:
        column['by_distance'] = {
            k: [None] * 11 for k in ('low', 'median', 'high')
        }
    [axes] = panels(draw(report), 'Resistance by distance')
    assert axes.get_yscale() == 'linear'


@pytest.mark.parametrize('names', [['a'], ['a', 'b']])
def test_bars_are_as_long_as_their_values(
    make_comparison: Maker, names: list[str]
) -> None:
    figure = draw(make_comparison(*names))
    count = len(names) + 1
    [loss], [retrieval] = (
        panels(figure, title) for title in ('nats', 'retrieval')
    )
    lengths = [bar.get_width() for bar in loss.patches]
    assert lengths == [2.0 + place for place in range(count)]
    lengths = [bar.get_width() for bar in retrieval.patches]
    assert lengths == [1 / (place + 1) for place in range(count)]
    [guess] = retrieval.lines
    assert list(guess.get_xdata()) == [1 / 8, 1 / 8]
    assert [t.get_text() for t in loss.get_yticklabels()] == ['before', *names]
    # The first is on top.
    assert loss.yaxis.get_inverted()


def test_the_table_and_the_notes_are_written_out(
    make_comparison: Maker,
) -> None:
    shown = texts(draw(make_comparison('window-and-sinks')))
    for text in (
        'synthetic-decoder on a synthetic text',
        'total resistance',
        '2,000',
        'ratio',
        'window-and-\nsinks',
        'Something to know.',
        'Resistances at a depth of 1.50 hops (measured mixing).',
    ):
        assert text in shown


def test_without_a_task_there_is_no_panel_for_it(
    make_comparison: Maker,
) -> None:
    for names in (['a'], ['a', 'b']):
        report = {**make_comparison(*names), 'task': None}
        for column in report['columns']:
            column['retrieval'] = None
        figure = draw(report)
        assert panels(figure, 'retrieval') == []
        assert 'No retrieval.' in texts(figure)


def test_names_are_text_and_no_formulas(
    make_comparison: Maker, tmp_path: Path
) -> None:
    report = make_comparison('$\\frac{$', 'a_b$c$ and a long name of it')
    report['model']['name'] = '$\\nope$'
    assert write_figure(report, tmp_path / 'a.png').stat().st_size > 0


def test_many_tokens_share_dots(make_comparison: Maker) -> None:
    report = make_comparison('a', tokens=1000)
    rows = report['columns'][1]['shown']['rows']
    rows[:] = [[] for _ in rows]
    rows[900] = [[0, 1], [10, 13]]
    _, axes = draw(report).axes[1:3]
    [image] = axes.images
    dots = np.argwhere(image.get_array())
    # Three tokens to a dot: 0 is in the first, 10 to 12 in two of them.
    assert dots.tolist() == [[300, 0], [300, 3], [300, 4]]
    assert image.get_extent() == [-0.5, 1001.5, 1001.5, -0.5]


def test_one_token(make_comparison: Maker, tmp_path: Path) -> None:
    report = make_comparison('a', tokens=1)
    assert write_figure(report, tmp_path / 'a.svg').stat().st_size > 0


def test_files_are_pictures_and_the_same_every_time(
    make_comparison: Maker, tmp_path: Path
) -> None:
    report = make_comparison('a')
    for ending in ('png', 'svg'):
        first, second = (
            write_figure(report, tmp_path / folder / f'a.{ending}')
            for folder in ('one', 'two')
        )
        assert first.read_bytes() == second.read_bytes()
    picture = imread(tmp_path / 'one' / 'a.png')
    assert picture.shape[1] == 1800
    assert picture[..., :3].std() > 0.05
    root = ElementTree.parse(tmp_path / 'one' / 'a.svg').getroot()
    assert root.tag.endswith('svg')


@pytest.mark.parametrize('name', ['a.pdf', 'a', 'a.png.gz'])
def test_other_endings_are_refused(
    make_comparison: Maker, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match=r"'\.png' or '\.svg'"):
        write_figure(make_comparison('a'), tmp_path / name)
    assert not (tmp_path / name).exists()
