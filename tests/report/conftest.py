"""Synthetic profiles and comparisons: plain data that the report is given."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# What these tests share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

import synthetic_profile
from browsing import ATTACK, CHROMIUM, REASON, SIZES, Watched

from gnnbridge.report.comparing import write_comparison
from gnnbridge.report.html import render, write

MakeProfile = Callable[..., dict[str, Any]]


@pytest.fixture(scope='session')
def make_profile() -> Callable[..., dict[str, Any]]:
    return synthetic_profile.make


@pytest.fixture
def profile() -> dict[str, Any]:
    """A small one, fresh for every test."""
    return synthetic_profile.make(layers=3, heads=4, tokens=40)


@pytest.fixture
def refused() -> dict[str, Any]:
    """One with parts that could not be measured, without a baseline."""
    return synthetic_profile.refused(
        synthetic_profile.make(layers=3, heads=4, tokens=40)
    )


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Three tokens, one layer, one head."""
    return synthetic_profile.tiny()


@pytest.fixture(scope='session')
def plain_page(make_profile: Callable[..., dict[str, Any]]) -> str:
    """A small page, drawn once for all tests that only read it."""
    return render(make_profile(layers=2, heads=2, tokens=20))


@pytest.fixture(scope='session')
def browser() -> Iterator[Any]:
    # Where these tests have to run, a missing browser is an error.
    if not Path(CHROMIUM).exists() and not os.environ.get(
        'GNNBRIDGE_REQUIRE_BROWSER'
    ):
        pytest.skip(REASON)
    sync_api = pytest.importorskip('playwright.sync_api', reason=REASON)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=['--no-sandbox', '--disable-background-networking'],
        )
        yield opened
        opened.close()


@pytest.fixture(scope='session')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('page')


@pytest.fixture(scope='session')
def page_file(make_profile: MakeProfile, folder: Path) -> Path:
    return write(make_profile(**SIZES), folder / 'report.html')


@pytest.fixture(scope='session')
def hostile_file(make_profile: MakeProfile, folder: Path) -> Path:
    profile = make_profile(**SIZES)
    profile['text'].update(excerpt=ATTACK, tokens=[ATTACK] * 40)
    profile['notes'] = [ATTACK]
    profile['model'].update(name='noplacetobreak' * 9, architecture=ATTACK)
    profile['diagnostics']['sinks'].update(status='partly', reasons=[ATTACK])
    return write(profile, folder / 'hostile.html')


@pytest.fixture(scope='session')
def both_file(make_profile: MakeProfile, folder: Path) -> Path:
    profiles = [
        make_profile(**SIZES),
        make_profile(layers=2, heads=2, tokens=24, seed=1, learned=0.3),
    ]
    names = ['before', ATTACK]
    return write_comparison(profiles, names, folder / 'comparison.html')


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Watched]:
    watched = Watched(browser, page_file, color_scheme='light')
    yield watched
    assert watched.said == []
    assert watched.fetched == []
    watched.page.close()


def _column(name: str, place: int, tokens: int) -> dict[str, Any]:
    """Rows of a window that is narrower from column to column."""
    window = max(tokens // (place + 1), 1)
    rows = [[[max(i - window + 1, 0), i + 1]] for i in range(tokens)]
    values = [10.0 ** (place + 1) + d for d in range(1, tokens)]
    resistance = {
        'total': 1000.0 * (place + 1),
        'worst': 10.0 + place,
        'worst_pair': [0, tokens - 1],
        'hops': 1.5,
    }
    return {
        'name': name,
        'transform': None if place == 0 else f'Window({window})',
        'edges': 120.0 / (place + 1),
        'edges_by_layer': [120.0 / (place + 1)] * 2,
        'graph': {
            'num_tokens': tokens,
            'unreachable_pairs': place,
            'diameter': place + 1,
            'resistance': resistance,
            'gap': 0.5 / (place + 1),
            'mean_curvature': 1.0 - place,
            'least_curvature': 1.0 - 2 * place,
        },
        'even': {**resistance, 'total': 900.0},
        'by_distance': {
            'low': [0.5 * value for value in values],
            'median': values,
            'high': [2 * value for value in values],
        },
        'shown': {'layer': 0, 'head': 1, 'rows': rows},
        'perplexity': {
            'nats_per_token': 2.0 + place,
            'perplexity': 7.0 + place,
        },
        'retrieval': {
            'accuracy': 1.0 / (place + 1),
            'absent_key_most': 0.125,
        },
    }


def _make_comparison(*names: str, tokens: int = 12) -> dict[str, Any]:
    named = ['before', *names]
    return {
        'model': {'name': 'synthetic-decoder'},
        'text': {'source': 'a synthetic text'},
        'task': {
            'name': 'random tokens of the vocabulary',
            'pairs': 8,
            'questions': 40,
            'tokens': 18,
            'chance': 1 / 8,
        },
        'depth': {'hops': 1.5, 'source': 'measured mixing'},
        'columns': [_column(n, p, tokens) for p, n in enumerate(named)],
        'notes': ['Something to know.'],
    }


@pytest.fixture(scope='session')
def make_comparison() -> Callable[..., dict[str, Any]]:
    return _make_comparison
