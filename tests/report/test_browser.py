"""The page in a real browser: nothing broken, nothing fetched, nothing cut."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.report.html import write

CHROMIUM = shutil.which('chromium') or '/usr/bin/chromium'
ABSENT = not Path(CHROMIUM).exists()
REASON = 'chromium is not installed: the browser tests did not run'
ATTACK = '<script>document.title = "owned"</script><img src="http://x.test/y">'

# Where these tests have to run, a missing browser is an error of the fixture.
REQUIRED = 'GNNBRIDGE_REQUIRE_BROWSER' in os.environ

pytestmark = pytest.mark.skipif(ABSENT and not REQUIRED, reason=REASON)


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip('playwright.sync_api', reason=REASON)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=['--no-sandbox', '--disable-background-networking'],
        )
        yield opened
        opened.close()


@pytest.fixture(scope='module')
def page_file(
    make_profile: Callable[..., dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    profile = make_profile(layers=3, heads=5, tokens=33)
    profile['text'].update(excerpt=ATTACK, tokens=[ATTACK] * 33)
    profile['notes'] = [ATTACK]
    profile['model']['name'] = 'noplacetobreak' * 9
    return write(profile, tmp_path_factory.mktemp('page') / 'report.html')


def test_page_is_whole_at_every_width(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    said: list[str] = []
    fetched: list[str] = []
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(str(error)))
    page.on(
        'request',
        lambda request: (
            None
            if request.url.startswith(('file:', 'data:'))
            else fetched.append(request.url)
        ),
    )
    for width in (400, 1000, 1400):
        page.set_viewport_size({'width': width, 'height': 900})
        page.goto(page_file.as_uri())
        images = page.eval_on_selector_all(
            'img', 'all => all.map(i => [i.complete, i.naturalWidth])'
        )
        assert len(images) == 3 + 2 + 2 + 4 + 2
        assert all(complete and size > 0 for complete, size in images)
        needed = page.evaluate('document.documentElement.scrollWidth')
        assert needed <= width
    assert said == []
    assert fetched == []
    assert page.title().endswith('gnnbridge profile')
    page.close()


def test_figures_are_read_at_their_own_shape(
    browser: Any, page_file: Path
) -> None:
    page = browser.new_page(viewport={'width': 400, 'height': 900})
    page.goto(page_file.as_uri())
    shapes = page.eval_on_selector_all(
        'img',
        'all => all.map(i => [i.naturalWidth / i.naturalHeight,'
        ' i.clientWidth / i.clientHeight])',
    )
    # Sizes on the screen are whole pixels of about 350.
    assert all(own == pytest.approx(seen, rel=0.02) for own, seen in shapes)
    page.close()
