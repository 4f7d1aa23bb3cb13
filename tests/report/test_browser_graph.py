"""The attention graph in a real browser: its controls change it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import ATTACK, SIZES, Watched

from gnnbridge.report.graphs import edges_of, layer_of

MakeProfile = Callable[..., dict[str, Any]]


def test_drawing_begins_with_the_strongest_edges(
    opened: Watched, make_profile: MakeProfile
) -> None:
    edges = edges_of(layer_of(make_profile(**SIZES), 1), 40)
    assert opened.page.locator('#layer').input_value() == '1'
    assert opened.page.locator('#head').input_value() == '-1'
    least = float(opened.page.locator('#threshold-value').inner_text())
    assert opened.drawn() == pytest.approx((edges.weight >= least).sum(), abs=2)
    assert 0 < opened.drawn() <= 120


@pytest.mark.parametrize('head', [-1, 2])
def test_all_edges_and_their_mass_are_those_of_the_data(
    opened: Watched, make_profile: MakeProfile, head: int
) -> None:
    layer = layer_of(make_profile(**SIZES), 2)
    edges = edges_of(layer, 40, None if head < 0 else head)
    opened.page.select_option('#layer', '2')
    opened.page.select_option('#head', str(head))
    opened.slide('threshold', 0)
    assert opened.drawn() == len(edges.weight)
    mass = float(opened.page.locator('.count').get_attribute('data-mass'))
    assert mass == pytest.approx(edges.weight.sum() / 40, rel=1e-9)
    assert opened.arcs() == len(edges.weight)


def test_selectors_and_steps_change_the_drawing(opened: Watched) -> None:
    page = opened.page
    seen = {opened.shapes()}
    for layer in ('0', '2'):
        page.select_option('#layer', layer)
        opened.settled()
        seen.add(opened.shapes())
    for head in ('0', '3'):
        page.select_option('#head', head)
        opened.settled()
        seen.add(opened.shapes())
    assert len(seen) == 5
    page.get_by_role('button', name='previous layer').click()
    page.get_by_role('button', name='previous head').click()
    opened.settled()
    assert page.locator('#layer').input_value() == '1'
    assert page.locator('#head').input_value() == '2'
    assert opened.shapes() not in seen
    # There is nothing beyond the ends.
    for _ in range(5):
        page.get_by_role('button', name='previous layer').click()
    assert page.locator('#layer').input_value() == '0'
    assert 'sink 0.' in page.locator('#head option').nth(1).inner_text()


def test_slider_changes_the_number_of_edges(opened: Watched) -> None:
    counts = []
    for value in (0, 20, 40, 60, 100):
        opened.slide('threshold', value)
        counts.append(opened.drawn())
        shown = opened.page.locator('.count').inner_text()
        assert shown.startswith(f'{counts[-1]:,}')
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 3
    assert opened.page.locator('#threshold-value').inner_text() == '1.000'


def test_fewer_tokens_are_shown_with_their_names(opened: Watched) -> None:
    page = opened.page
    assert not page.locator('#start-control').is_visible()
    page.select_option('#span', '16')
    opened.settled()
    names = page.locator('.stage text').all_text_contents()
    assert names[:3] == ['<s>', '␣the', '␣quick']
    assert len(names) == 16
    opened.slide('start', 24)
    tokens = page.locator('.stage text[data-token]')
    assert tokens.first.get_attribute('data-token') == '24'
    page.select_option('#span', '0')
    opened.settled()
    assert not page.locator('#start-control').is_visible()


def test_keys_move_a_token_and_its_edges_are_listed(
    opened: Watched, make_profile: MakeProfile
) -> None:
    edges = edges_of(layer_of(make_profile(**SIZES), 1), 40)
    page = opened.page
    page.locator('.stage').focus()
    for key in ('End', 'ArrowLeft', 'PageUp', 'ArrowRight'):
        page.keyboard.press(key)
    readout = page.locator('.readout')
    assert readout.inner_text().startswith('Token 29')
    reads = edges.source[edges.target == 29][:5]
    listed = page.locator('.readout .reads li span:first-child')
    assert listed.all_inner_texts() == [str(source) for source in reads]
    readers = edges.target[(edges.source == 29) & (edges.target != 29)]
    assert f'is read by {len(readers)}' in readout.inner_text()
    assert page.locator('.stage .cold').count() == 1
    page.keyboard.press('Escape')
    assert readout.inner_text().startswith('Point at a token')
    assert 'Read the most' in readout.inner_text()
    assert page.locator('.stage .cold').count() == 0


def test_pointing_shows_a_token_and_a_click_keeps_it(opened: Watched) -> None:
    page, readout = opened.page, opened.page.locator('.readout')
    stage = page.locator('.stage')
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    middle = box['y'] + box['height'] / 2
    page.mouse.move(box['x'] + box['width'] / 2, middle)
    assert re.match('Token (19|20) ', readout.inner_text())
    page.mouse.move(box['x'] + box['width'] / 2, 1)
    assert readout.inner_text().startswith('Point at a token')
    page.mouse.click(box['x'] + 12, middle)
    assert readout.inner_text().startswith('Token 0 ')
    page.mouse.move(box['x'] + box['width'] - 12, middle)
    assert readout.inner_text().startswith('Token 0 ')
    page.mouse.click(box['x'] + 12, middle)
    assert readout.inner_text().startswith('Point at a token')


def test_tapping_shows_a_token(browser: Any, page_file: Path) -> None:
    context = browser.new_context(
        has_touch=True, viewport={'width': 360, 'height': 800}
    )
    page = context.new_page()
    page.goto(page_file.as_uri())
    stage = page.locator('.stage')
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.touchscreen.tap(
        box['x'] + box['width'] - 12, box['y'] + box['height'] / 2
    )
    assert page.locator('.readout').inner_text().startswith('Token 39 ')
    context.close()


def test_every_control_is_reached_by_the_keyboard(opened: Watched) -> None:
    page = opened.page
    reached = set()
    for _ in range(400):
        page.keyboard.press('Tab')
        name = page.evaluate(
            'document.activeElement.id || document.activeElement.className'
            ' || document.activeElement.getAttribute("aria-label")'
        )
        if name == 'stage':
            reached.add(name)
            break
        reached.add(name)
    wanted = {'theme', 'layer', 'head', 'threshold', 'span', 'stage'}
    assert wanted <= reached
    assert {'next layer', 'previous head'} <= reached
    page.locator('#layer').focus()
    before = opened.shapes()
    page.keyboard.press('ArrowDown')
    opened.settled()
    assert opened.shapes() != before


def test_comparison_has_one_set_of_controls_for_all(
    browser: Any, both_file: Path
) -> None:
    watched = Watched(browser, both_file)
    page = watched.page
    assert page.locator('.stage').count() == 2
    before = [watched.drawn(graph) for graph in (0, 1)]
    watched.slide('threshold', 0)
    after = [watched.drawn(graph) for graph in (0, 1)]
    assert all(b > a for a, b in zip(before, after, strict=True))
    page.locator('.stage').first.focus()
    page.keyboard.press('End')
    page.keyboard.press('Home')
    readouts = page.locator('.readout').all_inner_texts()
    assert readouts[0].startswith('before: token 0')
    assert readouts[1].startswith(f'{ATTACK[:20]}')
    # The second has no third layer and no third head.
    page.select_option('#layer', '2')
    watched.settled()
    assert page.locator('.count').nth(1).inner_text() == (
        'This model has no such layer or head.'
    )
    assert watched.drawn(0) > 0
    page.select_option('#layer', '1')
    page.select_option('#head', '3')
    watched.settled()
    assert 'no such layer' in page.locator('.count').nth(1).inner_text()
    assert watched.said == watched.fetched == []
    page.close()
