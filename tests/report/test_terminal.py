from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.report.terminal import print_comparison

Maker = Callable[..., dict[str, Any]]


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
