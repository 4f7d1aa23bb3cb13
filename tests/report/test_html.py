import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.report.html import SECTIONS, render, write

MakeProfile = Callable[..., dict[str, Any]]
ATTACK = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&${{7*7}}'


class Page(HTMLParser):
    """What a browser would see: tags with attributes, headings."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def test_page_has_every_section_and_every_figure_its_text(
    plain_page: str,
) -> None:
    page = Page(plain_page)
    anchors = [attrs['id'] for attrs in page.named('section')]
    assert anchors == ['graphs', 'sinks', 'spread', 'smoothing', 'squashing']
    images = page.named('img')
    assert len(images) == 2 + 2 + 2 + 4 + 2
    assert all(len(image['alt'] or '') > 20 for image in images)
    links = [a['href'] for a in page.named('a')]
    assert [f'#{name}' for name in [*anchors, 'settings']] == links


def test_page_needs_nothing_beside_it(plain_page: str) -> None:
    page = Page(plain_page)
    for name in ('script', 'iframe', 'object', 'embed', 'base'):
        assert not page.named(name)
    addresses = [
        value
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ('src', 'href', 'srcset', 'data', 'action')
    ]
    assert addresses
    assert all(re.match('#|data:', address or '') for address in addresses)
    assert 'url(' not in plain_page.split('</style>')[0]


def test_text_of_the_model_cannot_become_markup(
    make_profile: MakeProfile, plain_page: str
) -> None:
    profile = make_profile(layers=2, tokens=20)
    profile['text'].update(tokens=[ATTACK] * 20, excerpt=ATTACK, source=ATTACK)
    profile['model'].update(name=ATTACK, architecture=ATTACK)
    profile['notes'] = [ATTACK]
    profile['settings'] = {**profile['settings'], ATTACK: ATTACK}
    html = render(profile)
    tags = [tag for tag, _ in Page(html).tags]
    assert sorted(set(tags)) == sorted(
        {tag for tag, _ in Page(plain_page).tags}
    )
    assert not Page(html).named('script')
    assert not any('onerror' in attrs for _, attrs in Page(html).tags)
    assert '${{7*7}}' in html


def test_page_is_the_same_from_the_profiles_json(
    make_profile: MakeProfile, plain_page: str
) -> None:
    profile = make_profile(layers=2, tokens=20)
    again = json.loads(json.dumps(profile, allow_nan=False))
    assert render(again) == plain_page


def test_page_without_baseline_says_nothing_of_it(
    make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile(layers=2, tokens=20)
    profile['baseline'] = None
    # A lone surrogate has no UTF-8 form; the page is written all the same.
    profile['text']['excerpt'] = 'a\ud800b'
    html = write(profile, tmp_path / 'r.html').read_text(encoding='utf-8')
    assert len(Page(html).named('img')) == 2 + 1 + 2 + 4 + 2
    assert 're-initialised' not in html
    assert 'a?b' in html


@pytest.mark.parametrize('builder', SECTIONS)
def test_section_without_its_data_is_left_out(
    builder: Callable, make_profile: MakeProfile
) -> None:
    profile = make_profile(layers=2, tokens=20)
    profile.update(graphs=[], measures={}, resistance=None)
    assert builder(profile) is None


def test_real_sizes_make_a_sane_file(
    make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile(layers=32, heads=32, tokens=1024)
    path = write(profile, tmp_path / 'new' / 'report.html')
    assert path.stat().st_size < 5e6
    assert len(Page(path.read_text()).named('img')) == 12 + 2 + 2 + 4 + 2
