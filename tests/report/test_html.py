import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.report.html import render, write
from gnnbridge.report.reading import TITLES
from gnnbridge.report.theme import ROLES

MakeProfile = Callable[..., dict[str, Any]]
ATTACK = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'&'


class Page(HTMLParser):
    """What a browser would see: tags with attributes, scripts, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == 'script'
        if self._in_script:
            self.scripts.append('')

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != 'script'

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def hostile(make_profile: MakeProfile) -> dict[str, Any]:
    """A profile with an attack in every text that is not ours."""
    profile = make_profile(layers=2, heads=2, tokens=20)
    profile['text'].update(tokens=[ATTACK] * 20, excerpt=ATTACK, source=ATTACK)
    profile['model'].update(name=ATTACK, architecture=ATTACK, dtype=ATTACK)
    profile['notes'] = [ATTACK]
    profile['settings'] = {ATTACK: ATTACK, 'list': [ATTACK]}
    profile['versions'][ATTACK] = ATTACK
    profile['timings'][ATTACK] = 1.0
    profile['findings'] = [
        {
            'severity': severity,
            'diagnostic': 'sinks',
            'title': ATTACK,
            'text': ATTACK,
            'where': ATTACK,
        }
        for severity in ('high', 'info')
    ]
    for section in profile['diagnostics'].values():
        section.update(status='partly', meaning=ATTACK, reasons=[ATTACK])
    smoothing = profile['diagnostics']['smoothing']['model']
    smoothing['state'] = [ATTACK] * 3
    profile['diagnostics']['retrieval']['model']['key_value']['task'] = ATTACK
    return profile


@pytest.fixture(scope='module')
def attacked(make_profile: MakeProfile) -> str:
    return render(hostile(make_profile))


def test_page_has_every_section_and_every_figure_its_text(
    plain_page: str,
) -> None:
    page = Page(plain_page)
    anchors = [attrs['id'] for attrs in page.named('section')]
    assert anchors == ['overview', 'graphs', *TITLES]
    images = [a for a in page.named('svg') if a.get('role') == 'img']
    assert len(images) > 40
    assert all(len(image['aria-label'] or '') > 20 for image in images)
    links = [a['href'] for a in page.named('a')]
    for name in [*anchors, 'settings']:
        assert f'#{name}' in links


def test_ids_are_unique_and_all_links_lead_somewhere(plain_page: str) -> None:
    page = Page(plain_page)
    ids = Counter(attrs['id'] for _, attrs in page.tags if attrs.get('id'))
    assert {name for name, count in ids.items() if count > 1} == set()
    for attrs in page.named('a'):
        assert (attrs['href'] or '').removeprefix('#') in ids
    used = set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', plain_page))
    assert {first or second for first, second in used} <= set(ids)


def test_page_needs_nothing_beside_it(plain_page: str) -> None:
    page = Page(plain_page)
    for name in ('iframe', 'object', 'embed', 'base', 'form'):
        assert not page.named(name)
    addresses = [
        value
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ('src', 'href', 'srcset', 'data', 'action', 'xlink:href')
    ]
    assert addresses
    assert all(re.match('#|data:', address or '') for address in addresses)
    style = plain_page.split('<style>')[1].split('</style>')[0]
    assert 'url(' not in style
    assert '@import' not in style


def test_policy_lets_only_the_pages_own_script_run(plain_page: str) -> None:
    page = Page(plain_page)
    [policy] = [
        attrs['content'] or ''
        for attrs in page.named('meta')
        if attrs.get('http-equiv') == 'Content-Security-Policy'
    ]
    assert "default-src 'none'" in policy
    assert 'http' not in policy
    data, script = page.scripts
    json.loads(data)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest())
    assert f"script-src 'sha256-{digest.decode()}'" in policy
    assert "script-src 'unsafe" not in policy


def test_text_of_the_model_cannot_become_markup(
    attacked: str, plain_page: str
) -> None:
    page, plain = Page(attacked), Page(plain_page)
    extra = {tag for tag, _ in page.tags} - {tag for tag, _ in plain.tags}
    assert extra == set()
    assert len(page.scripts) == len(plain.scripts) == 2
    assert page.scripts[1] == plain.scripts[1]
    assert not page.named('img')
    assert not any('onerror' in attrs for _, attrs in page.tags)
    tokens = json.loads(page.scripts[0])['panels'][0]['tokens']
    assert tokens == [ATTACK] * 20


def test_page_is_the_same_from_the_profiles_json(
    make_profile: MakeProfile, plain_page: str
) -> None:
    profile = make_profile(layers=2, heads=2, tokens=20)
    again = json.loads(json.dumps(profile, allow_nan=False))
    assert render(again) == plain_page


def test_page_of_parts(refused: dict[str, Any], tmp_path: Path) -> None:
    # A lone surrogate has no UTF-8 form; the page is written all the same.
    refused['text']['excerpt'] = 'a\ud800b'
    html = write(refused, tmp_path / 'new' / 'r.html').read_text('utf-8')
    page = Page(html)
    anchors = [attrs['id'] for attrs in page.named('section')]
    assert anchors == [
        'overview', 'sinks', 'smoothing', 'squashing', 'collapse', 'runway',
    ]  # fmt: skip
    assert 'Jacobians are not taken.' in html
    assert html.count('not measured</span>') == 2
    assert 'measured in part' in html
    assert 'Parity.' not in html
    assert 'a?b' in html
    # Without graphs there are no controls for them.
    assert 'id="layer"' not in html
    assert len(page.scripts) == 1


def test_page_of_three_tokens(tiny: dict[str, Any]) -> None:
    html = render(tiny)
    assert html.count('<section id=') == 8
    assert '>nan<' not in html
    assert '>None<' not in html


def test_older_profiles_are_refused(tiny: dict[str, Any]) -> None:
    tiny['schema_version'] = 1
    with pytest.raises(ValueError, match='Measure the model again'):
        render(tiny)


def test_all_colours_follow_the_theme(plain_page: str) -> None:
    body = plain_page.split('</style>')[1].split('<script')[0]
    assert re.findall('#[0-9a-f]{6}(?![0-9a-f-])', body) == []
    used = set(re.findall(r'var\(--([a-z0-9-]+)\)', plain_page))
    assert used <= set(ROLES)


def test_without_scripts_there_is_a_picture(plain_page: str) -> None:
    [still] = re.findall('<noscript>.*?</noscript>', plain_page, re.DOTALL)
    assert 'class="plot' in still
    assert 'With scripts every layer and head can be chosen.' in still


@pytest.mark.slow
def test_real_sizes_make_a_sane_file(
    make_profile: MakeProfile, tmp_path: Path
) -> None:
    profile = make_profile(layers=12, heads=12, tokens=1024)
    path = write(profile, tmp_path / 'report.html')
    assert path.stat().st_size < 10e6
