"""The page of a benchmark: what it says, and that it stands alone."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import bench_summary
import pytest
from browsing import ATTACK, Watched

from gnnbridge.bench.board import board
from gnnbridge.report.html import write_page
from gnnbridge.report.leaderboard import render_leaderboard, write_leaderboard
from gnnbridge.report.theme import ROLES

SMALL: dict[str, Any] = {
    'tasks': ('csbm', 'key_value'),
    'models': ('gcn', 'gin', 'sage'),
    'rewired': ('csbm',),
    'rewirings': ('fosr', 'gtr'),
}


class Page(HTMLParser):
    """The tags of a page, its scripts, and the text of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == 'script':
            self.scripts.append('')
        elif tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('th', 'td'):
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if 'script' in self.inside:
            self.scripts[-1] += data
        elif {'th', 'td'} & set(self.inside):
            self.tables[-1][-1][-1] += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def hostile() -> dict[str, Any]:
    """Names and reasons that try to be markup."""
    summary = bench_summary.make(**SMALL)
    summary['suite'] = summary['version'] = ATTACK
    summary['machine'] = {ATTACK: ATTACK}
    summary['skipped'] = {ATTACK: ATTACK}
    summary['tasks']['csbm']['about'] = ATTACK
    summary['tasks'][ATTACK] = summary['tasks'].pop('key_value')
    for cell in summary['cells']:
        for name, old in (('task', 'key_value'), ('model', 'gin'),
                          ('rewiring', 'gtr')):  # fmt: skip
            cell[name] = ATTACK if cell[name] == old else cell[name]
    summary['cells'][0]['failed'] = [ATTACK] * 5
    return summary


def draw(summary: dict[str, Any]) -> str:
    return render_leaderboard(summary, board(summary))


@pytest.fixture(scope='module')
def summary() -> dict[str, Any]:
    made = bench_summary.make()
    made['skipped'] = {'mutag': 'Expected its files in data (got none).'}
    lost = next(c for c in made['cells'] if c['rewiring'] == 'laser')
    lost.update(failed=['ValueError: no edges'] * 5, control=None)
    return made


@pytest.fixture(scope='module')
def text(summary: dict[str, Any]) -> str:
    return draw(summary)


@pytest.fixture(scope='module')
def wide() -> dict[str, Any]:
    """As wide as the largest tables, in few rows."""
    made = bench_summary.make(
        models=('gcn', 'graph_transformer', 'sage'), rewired=('csbm',)
    )
    lost = next(c for c in made['cells'] if c['rewiring'] == 'laser')
    lost.update(failed=['ValueError: no edges'] * 5, control=None)
    return made


@pytest.fixture(scope='module')
def wide_file(
    wide: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp('leaderboard')
    path = folder / 'new' / 'leaderboard.html'
    return write_leaderboard(wide, board(wide), path)


def test_tables_hold_what_the_board_says(
    summary: dict[str, Any], text: str
) -> None:
    made = board(summary)
    tables = Page(text).tables
    wanted = [made['models'], *made['rewirings'], made['details']]
    for table, found in zip(wanted, tables[:4], strict=True):
        assert found[0] == [table['head'], *table['columns']]
        rows = [*table['rows'], *table['foot']]
        for row, cells in zip(rows, found[1:], strict=True):
            name, *texts = cells
            assert name == row['name']
            for cell, written in zip(row['cells'], texts, strict=True):
                assert written.startswith(cell['text'])
                assert written.endswith(cell['detail'])
                assert ('▲' in written) == (cell['kind'] == 'better')
                assert ('▼' in written) == (cell['kind'] == 'worse')


def test_every_section_and_every_task_is_there(
    summary: dict[str, Any], text: str
) -> None:
    page = Page(text)
    anchors = [attrs['id'] for attrs in page.named('section')]
    assert anchors == ['models', 'tasks', 'rewirings', 'left-out', 'cells']
    ids = {attrs['id'] for _, attrs in page.tags if attrs.get('id')}
    for attrs in page.named('a'):
        assert (attrs['href'] or '').removeprefix('#') in ids
    images = [a for a in page.named('svg') if a.get('role') == 'img']
    assert [(image['aria-label'] or '').split('.')[0] for image in images] == [
        *bench_summary.TASKS
    ]
    assert text.count('>failed<sup>') == 1
    assert 'mutag: Expected its files in data (got none).' in text
    assert 'ValueError: no edges' in text
    assert board(summary)['verdict'].replace("'", '&#39;') in text
    for fact in ('64,000', 'draws', '2.13.0+cpu', '1, 2, 3, 4, 5'):
        assert fact in text


def test_colours_of_differences_are_centred_at_none(text: str) -> None:
    shades: list[tuple[float, str, int]] = []
    for attrs in Page(text).named('td'):
        share = re.match(r'--share: (\d+)%', attrs.get('style') or '')
        if share:
            value = float(attrs['data-value'] or '')
            shades.append((value, attrs['class'] or '', int(share.group(1))))
    assert len(shades) == 287
    for value, kind, share in shades:
        assert ('gain' in kind) == (value >= 0)
        assert ('loss' in kind) == (value < 0)
        assert share <= 50
    # A colour is stronger the larger the difference of one table.
    first = sorted((abs(value), share) for value, _, share in shades[:143])
    assert [share for _, share in first] == sorted(s for _, s in first)
    assert first[-1][1] == 50


def test_a_loss_of_an_error_is_a_gain() -> None:
    summary = bench_summary.make(**SMALL)
    summary['tasks']['csbm']['higher_is_better'] = False
    kinds = {
        (float(attrs['data-value'] or '') < 0, 'gain' in attrs['class'])
        for attrs in Page(draw(summary)).named('td')
        if 'style' in attrs and attrs['class'] and attrs['data-value']
    }
    assert kinds == {(True, True), (False, False)}


def test_page_needs_nothing_beside_it(text: str) -> None:
    page = Page(text)
    addresses = [
        value
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ('src', 'href', 'srcset', 'data', 'action', 'xlink:href')
    ]
    assert addresses
    assert all(re.match('#|data:', address or '') for address in addresses)
    style = text.split('<style>')[1].split('</style>')[0]
    assert 'url(' not in style
    assert '@import' not in style
    assert '.heat ' in style


def test_policy_lets_only_the_pages_own_scripts_run(text: str) -> None:
    page = Page(text)
    [policy] = [
        attrs['content'] or ''
        for attrs in page.named('meta')
        if attrs.get('http-equiv') == 'Content-Security-Policy'
    ]
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in page.scripts
    ]
    [allowed] = re.findall('script-src (.*)$', policy)
    assert set(allowed.split()) == {f"'sha256-{d}'" for d in digests}
    assert len(digests) == 2
    assert 'http' not in policy


def test_names_cannot_become_markup(text: str) -> None:
    page = Page(draw(hostile()))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in Page(text).tags}
    assert len(page.scripts) == 2
    assert page.scripts == Page(text).scripts
    assert not any('onerror' in attrs for _, attrs in page.tags)


def test_all_colours_follow_the_theme(text: str) -> None:
    body = text.split('</style>')[1].split('<script')[0]
    assert re.findall('#[0-9a-f]{6}(?![0-9a-f-])', body) == []
    used = set(re.findall(r'var\(--([a-z0-9-]+)\)', text))
    assert used <= {*ROLES, 'share'}


@pytest.mark.parametrize('rewired', [(), ('csbm',)])
def test_page_of_one_model_one_task_one_seed(rewired: tuple[str, ...]) -> None:
    text = draw(bench_summary.make(('csbm',), ('gcn',), rewired, seeds=1))
    page = Page(text)
    assert page.tables[0][1][0] == 'gcn'
    assert '±' not in page.tables[0][1][1]
    assert '>nan<' not in text
    assert '>None<' not in text
    assert 'cells of 1 cell' not in text
    assert ('id="left-out"' in text) is False


def test_page_of_nothing() -> None:
    summary = bench_summary.make((), (), ())
    summary['skipped'] = {'zinc': 'Expected its files.'}
    text = draw(summary)
    assert 'Nothing was run.' in text
    assert 'zinc: Expected its files.' in text


def test_page_is_the_same_every_time() -> None:
    summary = bench_summary.make(**SMALL)
    again = json.loads(json.dumps(summary))
    assert draw(again) == draw(summary)


@pytest.fixture
def watch(browser: Any) -> Any:
    """Opens pages, and sees that they say and fetch nothing."""
    opened: list[Watched] = []

    def watch(path: Path, **options: Any) -> Watched:
        opened.append(Watched(browser, path, **options))
        return opened[-1]

    yield watch
    for watched in opened:
        assert watched.said == []
        assert watched.fetched == []
        watched.page.close()


Watch = Callable[..., Watched]


@pytest.mark.parametrize('width', [360, 1000, 1400])
def test_page_is_whole_at_every_width(
    watch: Watch, wide_file: Path, width: int
) -> None:
    page = watch(wide_file, viewport={'width': width, 'height': 900}).page
    page.locator('summary').click()
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    beyond = page.evaluate(
        """width => [...document.querySelectorAll('main figure, .plot text')]
        .filter(item => {
            const box = item.getBoundingClientRect();
            return box.width && (box.left < -1 || box.right > width + 1);
        }).length""",
        width,
    )
    assert beyond == 0


def test_on_a_wide_screen_no_table_of_results_scrolls(
    watch: Watch, text: str, tmp_path: Path
) -> None:
    path = write_page(text, tmp_path / 'all.html')
    page = watch(path, viewport={'width': 1400, 'height': 900}).page
    wider = page.evaluate(
        """() => [...document.querySelectorAll('#models .scroll, '
            + '#rewirings .scroll')]
        .map(item => item.scrollWidth - item.clientWidth)"""
    )
    assert wider == [0, 0, 0]


def test_tables_are_sorted_by_the_heading_that_is_pressed(
    watch: Watch, wide_file: Path, wide: dict[str, Any]
) -> None:
    page = watch(wide_file).page
    table = page.locator('#models table')

    def press(column: int) -> list[str]:
        table.locator('thead button').nth(column).click()
        return table.locator('tbody th').all_inner_texts()

    levels = {
        cell['model']: cell['mean']
        for cell in wide['cells']
        if (cell['task'], cell['rewiring']) == ('ring_transfer', 'none')
    }
    falling = sorted(levels, key=levels.__getitem__, reverse=True)
    assert press(1) == falling
    heading = table.locator('thead th').nth(1)
    assert heading.get_attribute('aria-sort') == 'descending'
    assert press(1) == falling[::-1]
    assert heading.get_attribute('aria-sort') == 'ascending'
    assert press(0) == sorted(levels)
    assert heading.get_attribute('aria-sort') is None
    # Guessing stays at the foot.
    assert table.locator('tfoot th').all_inner_texts() == ['chance']
    # What failed stands last either way.
    heat = page.locator('#rewirings table').first
    place = heat.locator('thead th').all_inner_texts().index('laser')
    for _ in range(2):
        heat.locator('thead button').nth(place).click()
        last = heat.locator('tbody tr').last.locator('td').nth(place - 1)
        assert last.inner_text().startswith('failed')


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_numbers_can_be_read_on_every_colour(
    watch: Watch, wide_file: Path, theme: str
) -> None:
    page = watch(wide_file, color_scheme=theme).page
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('.heat td[style]')].map(cell => [
            getComputedStyle(cell).backgroundColor,
            getComputedStyle(cell.querySelector('.detail')).color,
        ])"""
    )
    assert len(pairs) == 35
    for ground, ink in {tuple(pair) for pair in pairs}:
        assert contrast(ground, ink) >= 4.5


def contrast(*colors: str) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines 2.2."""
    found = []
    for color in colors:
        parts = [float(n) for n in re.findall(r'\d*\.?\d+', color)[:3]]
        if color.startswith('rgb'):
            parts = [part / 255 for part in parts]
        red, green, blue = (
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4
            for p in parts
        )
        found.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    low, high = sorted(found)
    return (high + 0.05) / (low + 0.05)


def test_hostile_names_run_nothing(watch: Watch, tmp_path: Path) -> None:
    made = hostile()
    path = write_leaderboard(made, board(made), tmp_path / 'hostile.html')
    page = watch(path, viewport={'width': 400, 'height': 900}).page
    assert page.title() != 'owned'
    assert page.locator('img').count() == 0
    assert page.evaluate('document.documentElement.scrollWidth') <= 400


def test_page_can_be_printed(watch: Watch, wide_file: Path) -> None:
    page = watch(wide_file).page
    assert page.pdf(format='A4').startswith(b'%PDF')
