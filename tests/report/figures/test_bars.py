from gnnbridge.report.canvas import house_style, new_axes
from gnnbridge.report.figures.bars import draw_bars
from gnnbridge.report.figures.lines import Frame, Line


def test_bars_are_as_long_as_their_values_and_run_from_the_top() -> None:
    groups = [Line('a', [1.0, -2.0]), Line('b', [3.0, None], 'reinitialised')]
    with house_style():
        axes = draw_bars(
            new_axes()[1], ['p', 'q'], groups, Frame('t', 'x', 'y')
        )
    first, second = axes.containers
    assert [bar.get_width() for bar in first] == [1.0, -2.0]
    assert second[0].get_width() == 3.0
    assert axes.yaxis.get_inverted()
    assert [text.get_text() for text in axes.get_yticklabels()] == ['p', 'q']
    # The groups of one name do not overlap.
    assert first[0].get_y() + first[0].get_height() <= second[0].get_y()
