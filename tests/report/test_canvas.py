import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from gnnbridge.report.canvas import (
    BLUE,
    drawable_text,
    house_style,
    new_axes,
    to_svg,
)


def draw(text: str = 'plain', alt: str = 'a line') -> str:
    with house_style():
        figure, axes = new_axes(3, 2)
        axes.plot([1.0, 2.0, 4.123456], color=BLUE, marker='o')
        axes.text(0, 1, text, parse_math=False)
        return str(to_svg(figure, alt, 'curves'))


def test_figures_leave_the_global_style_as_it_was() -> None:
    before = dict(mpl.rcParams)
    with house_style():
        assert mpl.rcParams['svg.hashsalt'] == 'gnnbridge'
    draw()
    assert dict(mpl.rcParams) == before


def test_style_does_not_depend_on_the_users() -> None:
    with mpl.rc_context({'lines.linewidth': 77, 'text.usetex': True}):
        with house_style():
            inside = (
                mpl.rcParams['lines.linewidth'],
                mpl.rcParams['text.usetex'],
            )
        assert mpl.rcParams['lines.linewidth'] == 77
    assert inside == (1.8, False)


def test_an_svg_is_well_formed_and_the_same_every_time() -> None:
    first, second = draw(), draw()
    assert first == second
    # In a page the prefix needs no declaration.
    parsed = ElementTree.fromstring(
        first.replace('<svg ', '<svg xmlns:xlink="x" ', 1)
    )
    assert parsed.tag == 'svg'
    assert parsed.get('role') == 'img'
    assert parsed.get('class') == 'plot curves'


def test_colours_become_variables_and_none_is_left() -> None:
    svg = draw()
    assert 'stroke: var(--blue)' in svg
    assert re.findall('#[0-9a-f]{6}(?![0-9a-f])', svg) == []


def test_text_stays_text_in_the_font_of_the_page() -> None:
    svg = draw('find me')
    assert '>find me</text>' in svg
    assert 'font-family' not in svg
    assert '<style' not in svg
    assert '<!--' not in svg


def test_ids_are_those_that_are_used_and_differ_between_figures() -> None:
    def ids(svg: str) -> set[str]:
        return set(re.findall(r' id="([^"]+)"', svg))

    first, second = draw(), draw(alt='another')
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', first))
    assert ids(first) == used
    assert used
    assert not ids(first) & ids(second)


@pytest.mark.parametrize(
    'text',
    [
        '<script>alert(1)</script>',
        '</text></svg><img src=x onerror=alert(2)>',
        '--> <!--',
        'id="x" style="#0072b2" d="1.23456" url(#y) ]]>',
    ],
)
def test_hostile_text_is_shown_and_nothing_else(text: str) -> None:
    svg = draw(text, alt=text)
    parsed = ElementTree.fromstring(
        svg.replace('<svg ', '<svg xmlns:xlink="x" ', 1)
    )
    assert [e.text for e in parsed.iter('text') if e.text == text] == [text]
    assert parsed.get('aria-label', '').startswith(text)
    plain = ElementTree.fromstring(
        draw().replace('<svg ', '<svg xmlns:xlink="x" ', 1)
    )
    assert {e.tag for e in parsed.iter()} == {e.tag for e in plain.iter()}


def test_numbers_have_at_most_two_decimals() -> None:
    paths = re.findall(r' d="([^"]*)"', draw())
    assert paths
    assert not any(re.search(r'\.\d{3}', path) for path in paths)


@pytest.mark.parametrize(
    ('token', 'shown'),
    [
        (' the', '␣the'),
        ('\n', '↵'),
        ('\t\x00\x1b', '→□□'),
        ('漢', '□'),
        ('\ud800', '□'),
        ('é', 'é'),
        # Writing direction and no width at all.
        ('\u202ea\u200b', '□a□'),
        ('abcdefghijklmnop', 'abcdefghijk…'),
        ('', ''),
    ],
)
def test_drawable_text(token: str, shown: str) -> None:
    assert drawable_text(token) == shown
