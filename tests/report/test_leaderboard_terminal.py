from pathlib import Path
from typing import Any

import bench_summary
import pytest

from gnnbridge.bench.board import board
from gnnbridge.report.leaderboard_terminal import print_leaderboard


def printed(
    summary: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int = 80,
) -> str:
    monkeypatch.setenv('COLUMNS', str(width))
    print_leaderboard(board(summary), [Path('out') / 'leaderboard.html'])
    return capsys.readouterr().out


@pytest.mark.parametrize('width', [40, 80, 200])
def test_every_number_is_printed_whole(
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = bench_summary.make(rewired=())
    text = printed(summary, capsys, monkeypatch, width)
    assert max(map(len, text.splitlines())) <= width
    table = board(summary)['models']
    for row in table['rows']:
        lines = [
            line
            for line in text.splitlines()
            if line.split()[:1] == [row['name']]
        ]
        words = ' '.join(lines).split()
        for cell in row['cells'][:-1]:
            star = '*' if cell['kind'] == 'best' else ''
            around = cell['detail'].replace(' ', '')
            place = words.index(cell['text'])
            assert f'{around}{star}' in words[place + 1 :]
    # Narrow terminals have several tables below each other.
    blocks = text.count('chance  ')
    assert (blocks == 1) == (width == 200)


def test_the_rest_is_said_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = bench_summary.make(('csbm',), rewired=('csbm',))
    summary['skipped'] = {'zinc': 'Expected its files [here].'}
    summary['cells'][0]['failed'] = ['no edges'] + [None] * 4
    text = printed(summary, capsys, monkeypatch)
    joined = ' '.join(text.split())
    assert 'No claim is made beyond these intervals.' in joined
    assert 'Skipped: zinc: Expected its files [here].' in joined
    assert 'Failed: csbm, gcn: 1 of 5 trials failed' in joined
    assert 'With a star: the best of a task' in joined
    assert text.splitlines()[-1] == str(Path('out') / 'leaderboard.html')


def test_nothing_was_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(bench_summary.make((), (), ()), capsys, monkeypatch)
    assert 'Models without rewiring' in text
