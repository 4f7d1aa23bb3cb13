import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.report.comparing import (
    compared,
    groups,
    render_comparison,
    write_comparison,
)
from gnnbridge.report.findings import findings
from gnnbridge.report.reading import TITLES

MakeProfile = Callable[..., dict[str, Any]]
ATTACK = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'&'


@pytest.fixture
def after(make_profile: MakeProfile) -> dict[str, Any]:
    return make_profile(layers=3, heads=4, tokens=40, seed=1, learned=0.3)


def row(found: dict, title: str, label: str) -> list[tuple[str, str, str]]:
    cells = dict(found[title])[label]
    return [(cell.text, cell.difference, cell.verdict) for cell in cells]


def test_numbers_have_their_differences_from_the_first(
    profile: dict[str, Any], after: dict[str, Any]
) -> None:
    for data, rank, accuracy in ((profile, 8.0, 0.5), (after, 12.0, 0.4)):
        sections = data['diagnostics']
        sections['smoothing']['model']['effective_rank'][-1] = rank
        sections['retrieval']['model']['key_value']['total_accuracy'] = accuracy
    found = groups([profile, after, profile])
    assert list(found) == list(TITLES.values())
    assert row(found, 'Over-smoothing', 'effective rank at the end') == [
        ('8.00', '', ''),
        ('12.0', '+4.00', 'better'),
        ('8.00', '', ''),
    ]
    assert row(found, 'Retrieval by place', 'key-value accuracy')[1] == (
        '40\u00a0%',
        '−10 points',
        'worse',
    )


def test_small_and_neutral_changes_are_no_verdict(
    profile: dict[str, Any],
) -> None:
    after = copy.deepcopy(profile)
    sections = after['diagnostics']
    sections['smoothing']['model']['effective_rank'][-1] *= 1.01
    sections['smoothing']['model']['mixing'] = [0.9] * 3
    found = groups([profile, after])
    for label in ('effective rank at the end', 'mean mixing'):
        _, difference, verdict = row(found, 'Over-smoothing', label)[1]
        assert difference.startswith('+')
        assert verdict == ''


@pytest.mark.parametrize(
    ('before', 'after', 'verdict'),
    [(2.0, -0.5, 'better'), (-0.5, 2.0, 'worse'), (-2.0, -0.5, 'better')],
)
def test_asymmetries_are_better_near_zero(
    profile: dict[str, Any], before: float, after: float, verdict: str
) -> None:
    other = copy.deepcopy(profile)
    for data, value in ((profile, before), (other, after)):
        model = data['diagnostics']['runway']['model']
        model['asymmetry']['jacobian'] = value
    found = groups([profile, other])
    label = 'asymmetry, log of first / last tenth'
    assert row(found, 'Runway and position bias', label)[1][2] == verdict


def test_precision_that_is_no_longer_reached_is_better(
    profile: dict[str, Any],
) -> None:
    after = copy.deepcopy(profile)
    pair = after['diagnostics']['collapse']['model']['repeat_last']
    pair['bfloat16']['reaches_precision_at'] = None
    found = groups([profile, after])
    label = 'bfloat16 cannot tell from length'
    assert row(found, 'Last-token collapse', label) == [
        ('128', '', ''),
        ('not reached', '', 'better'),
    ]
    assert math.inf > 128


def test_findings_are_new_gone_or_stay(
    profile: dict[str, Any], after: dict[str, Any]
) -> None:
    def item(title: str, severity: str = 'medium') -> dict[str, str]:
        return {
            'severity': severity,
            'diagnostic': 'sinks',
            'title': title,
            'text': 't',
            'where': '',
        }

    third = copy.deepcopy(after)
    profile['findings'] = [item('a', 'high'), item('b'), item('e', 'info')]
    after['findings'] = [item('a'), item('c'), item('d')]
    third['findings'] = [item('a'), item('d')]
    two = {told.title: told for told in compared([profile, after])}
    assert {title: told.change for title, told in two.items()} == {
        'a': 'stays', 'b': 'gone', 'c': 'new', 'd': 'new',
    }  # fmt: skip
    assert two['a'].severity == 'high'
    assert two['b'].sides[1] is None
    three = {
        told.title: told.change for told in compared([profile, after, third])
    }
    assert three == {'a': 'stays', 'b': 'gone', 'c': 'some', 'd': 'new'}


def test_new_findings_come_first(
    profile: dict[str, Any], after: dict[str, Any]
) -> None:
    changes = [told.change for told in compared([after, profile])]
    order = ['new', 'stays', 'some', 'gone']
    assert changes == sorted(changes, key=order.index)
    assert len(set(changes)) > 1


def test_page_sets_both_side_by_side(
    profile: dict[str, Any], after: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / 'new' / 'c.html'
    path = write_comparison([profile, after], ['before', 'after'], target)
    html = path.read_text('utf-8')
    anchors = re.findall('<section id="([^"]+)"', html)
    assert anchors == ['numbers', 'findings', 'graphs', *TITLES]
    assert html.count('class="stage"') == 2
    assert html.count('class="readout"') == 2
    assert 'Differences are from before.' in html
    titles = {
        item['title']
        for item in findings(profile)
        if item['severity'] != 'info'
    }
    for title in titles:
        assert title in html
    # The name of each in the legend of each figure, beside its curve.
    assert html.count('</svg>before</li>') == html.count('</svg>after</li>')
    assert html.count('</svg>before</li>') >= 12


def test_page_of_what_was_measured_in_some_only(
    profile: dict[str, Any], refused: dict[str, Any]
) -> None:
    refused['text']['source'] = 'another text'
    html = render_comparison([refused, profile], ['a', 'b'])
    assert 'Not measured.' in html
    assert 'taken on different texts' in html
    alone = {**refused, 'diagnostics': {}}
    html = render_comparison([alone, alone], ['a', 'b'])
    assert 'Nothing stands out in any of them.' in html


def test_names_cannot_become_markup(profile: dict[str, Any]) -> None:
    names = [ATTACK, '$\\frac{$ _x']
    profile['model']['name'] = ATTACK
    html = render_comparison([profile, profile], names)
    assert html.count('<script') == 2
    assert '<img' not in html
    assert '$\\frac{$ _x' in html


@pytest.mark.parametrize(
    ('count', 'names', 'said'),
    [
        (1, ['a'], "Expected 'profiles' to be two or more"),
        (2, ['a'], r'\(got 2 and 1\)'),
        (2, ['a', 'a'], "Expected 'names' to differ"),
    ],
)
def test_too_few_or_unnamed_profiles_are_refused(
    profile: dict[str, Any], count: int, names: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        render_comparison([profile] * count, names)
