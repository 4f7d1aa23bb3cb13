"""The pages in a real browser: whole, themed, printed, nothing fetched."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Watched

from gnnbridge.report.html import write
from gnnbridge.report.theme import ROLES

MakeProfile = Callable[..., dict[str, Any]]


@pytest.mark.parametrize('width', [360, 400, 1000, 1400])
@pytest.mark.parametrize('name', ['hostile_file', 'both_file'])
def test_pages_are_whole_at_every_width(
    browser: Any, name: str, width: int, request: pytest.FixtureRequest
) -> None:
    watched = Watched(
        browser,
        request.getfixturevalue(name),
        viewport={'width': width, 'height': 900},
    )
    page = watched.page
    for item in page.locator('summary').all():
        item.click()
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    # No figure, label or control reaches beyond the page.
    beyond = page.evaluate(
        """width => [...document.querySelectorAll(
            'main figure, main .control, main .graph, .plot text, .tile'
        )].filter(item => {
            const box = item.getBoundingClientRect();
            return box.width && (box.left < -1 || box.right > width + 1);
        }).length""",
        width,
    )
    assert beyond == 0
    assert watched.said == []
    assert watched.fetched == []
    assert page.title() != 'owned'
    assert page.locator('img').count() == 0
    page.close()


def test_neighbouring_labels_of_figures_do_not_overlap(
    opened: Watched,
) -> None:
    for item in opened.page.locator('summary').all():
        item.click()
    overlaps = opened.page.evaluate(
        """() => [...document.querySelectorAll('figure .plot')].map(plot => {
            const boxes = [...plot.querySelectorAll('text')]
                .map(text => text.getBoundingClientRect());
            let count = 0;
            for (let i = 0; i < boxes.length; i++)
                for (let j = 0; j < i; j++) {
                    const [a, b] = [boxes[i], boxes[j]];
                    const x = Math.min(a.right, b.right)
                        - Math.max(a.left, b.left);
                    const y = Math.min(a.bottom, b.bottom)
                        - Math.max(a.top, b.top);
                    // Boxes of lines of text reach over their glyphs.
                    if (x > 2 && y > 5) count += 1;
                }
            return count;
        })"""
    )
    assert len(overlaps) > 40
    assert sum(overlaps) == 0


@pytest.mark.parametrize('system', ['light', 'dark'])
def test_theme_follows_the_system_and_the_button(
    browser: Any, page_file: Path, system: str
) -> None:
    watched = Watched(browser, page_file, color_scheme=system)
    other = {'light': 'dark', 'dark': 'light'}[system]
    button = watched.page.locator('#theme')
    for theme in (system, other, system):
        assert watched.color('paper') == getattr(ROLES['paper'], theme)
        assert (
            button.get_attribute('aria-pressed') == str(theme == 'dark').lower()
        )
        background = watched.page.evaluate(
            'getComputedStyle(document.body).backgroundColor'
        )
        bright = sum(map(int, re.findall(r'\d+', background)[:3])) > 380
        assert bright == (theme == 'light')
        # A line of a figure has the colour of the theme.
        stroke = watched.page.evaluate(
            "getComputedStyle(document.querySelector('.curves path"
            '[style*="--blue"]\')).stroke'
        )
        wanted = getattr(ROLES['blue'], theme)
        parts = [int(wanted[k : k + 2], 16) for k in (1, 3, 5)]
        assert [int(n) for n in re.findall(r'\d+', stroke)[:3]] == parts
        button.click()
    assert watched.said == []
    watched.page.close()


@pytest.mark.parametrize('chosen', [None, 'dark'])
def test_print_is_light_and_has_the_chosen_view(
    browser: Any, page_file: Path, chosen: str | None
) -> None:
    watched = Watched(browser, page_file, color_scheme='dark')
    page = watched.page
    if chosen:
        page.evaluate(
            'theme => document.documentElement.dataset.theme = theme', chosen
        )
    page.select_option('#layer', '2')
    watched.slide('threshold', 30)
    view = watched.arcs()
    page.emulate_media(media='print', color_scheme='dark')
    assert watched.color('paper') == ROLES['paper'].light
    assert watched.color('blue') == ROLES['blue'].light
    assert not page.locator('.controls').is_visible()
    assert not page.locator('.rail').is_visible()
    assert page.locator('.stage svg').is_visible()
    # The paper is wider than the screen's column: drawn again, unchanged.
    watched.settled()
    assert watched.arcs() == view
    assert page.locator('.count').is_visible()
    page.close()


def test_what_is_folded_up_is_printed(opened: Watched) -> None:
    page = opened.page
    folded = page.locator('details:not([open])').count()
    assert folded > 4
    page.evaluate('dispatchEvent(new Event("beforeprint"))')
    assert page.locator('details:not([open])').count() == 0
    page.evaluate('dispatchEvent(new Event("afterprint"))')
    assert page.locator('details:not([open])').count() == folded
    assert page.pdf(format='A4').startswith(b'%PDF')


def test_without_scripts_there_is_a_picture_and_no_control(
    browser: Any, page_file: Path
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator('#graphs .plot').is_visible()
    assert not page.locator('.controls').is_visible()
    assert not page.locator('#theme').is_visible()
    context.close()


def test_links_of_findings_lead_to_their_section(opened: Watched) -> None:
    link = opened.page.locator('.findings a').first
    target = link.get_attribute('href')
    link.click()
    assert opened.page.locator(target).is_visible()
    assert opened.page.evaluate('location.hash') == target


def test_hostile_tokens_are_shown_as_they_are(
    browser: Any, hostile_file: Path
) -> None:
    watched = Watched(browser, hostile_file)
    page = watched.page
    page.locator('.stage').focus()
    page.keyboard.press('Home')
    token = page.locator('.readout p .token').inner_text()
    assert token.startswith('</script><script>')
    assert page.locator('script').count() == 2
    assert watched.said == watched.fetched == []
    page.close()


@pytest.mark.slow
def test_a_big_profile_opens_and_draws(
    browser: Any, make_profile: MakeProfile, folder: Path
) -> None:
    profile = make_profile(layers=12, heads=12, tokens=1024)
    watched = Watched(browser, write(profile, folder / 'big.html'))
    assert watched.page.evaluate('document.readyState') == 'complete'
    assert watched.drawn() > 0
    watched.slide('threshold', 0)
    assert watched.drawn() == 6000
    assert 'the strongest of' in watched.page.locator('.count').inner_text()
    assert watched.said == watched.fetched == []
    watched.page.close()
