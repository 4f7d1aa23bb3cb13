from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.report.findings import findings
from gnnbridge.report.terminal import print_comparison, print_profile

Maker = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '80')


def test_a_profile_is_printed_within_80_columns(
    profile: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path('a' * 90) / 'report.html'
    print_profile(profile, [path])
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(len(line) for line in lines if line != str(path)) <= 80
    # Whole, however long.
    assert str(path) in lines
    assert lines[0].strip() == 'synthetic-decoder on a synthetic text'
    found = [' '.join(line.split()) for line in lines]
    worst = findings(profile)[0]
    assert f'high {worst["title"]} ({worst["where"]})' in found
    assert 'effective rank at the end 7.55 36.2 1.00' in found
    assert 'slope, last token repeated −0.970 −1.02 −1.00' in found
    assert 'Message passing gives the original logits to 2e-7 of their' in out
    assert '3 of 8 sequences were cut to 40 tokens.' in out


def test_what_was_not_measured_is_said_and_why(
    refused: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_profile(refused, [])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'Over-squashing: not measured' in out
    assert 'Over-squashing: Expected blocks whose states depend' in out
    assert 'Retrieval' not in out


def test_a_profiles_text_is_no_markup(
    tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny['model']['name'] = '[red]m'
    tiny['notes'] = ['[/nothing]']
    tiny['findings'] = [
        {
            'severity': 'high',
            'diagnostic': 'sinks',
            'title': '[bold]t',
            'text': '[/x] text',
            'where': '[w]',
        }
    ]
    print_profile(tiny)
    out = capsys.readouterr().out
    for text in ('[red]m', '[/nothing]', '[bold]t', '[/x] text', '([w])'):
        assert text in out


def test_a_comparison_is_printed(
    make_comparison: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path('a' * 90) / 'rewire.json'
    print_comparison(make_comparison('window'), [path])
    out = capsys.readouterr().out
    assert 'synthetic-decoder on a synthetic text' in out
    lines = [line.split() for line in out.splitlines()]
    assert ['total', 'resistance', '1,000', '2,000', '2.00'] in lines
    assert 'Something to know.' in out
    # Whole, however long.
    assert str(path) in out.splitlines()


def test_names_are_no_markup(
    make_comparison: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    report = make_comparison('[bold]a[/bold]')
    report['model']['name'] = '[red]m'
    report['notes'] = ['[/nothing]']
    print_comparison(report, [])
    out = capsys.readouterr().out
    assert '[bold]a[/bold]' in out
    assert '[red]m' in out
    assert '[/nothing]' in out
