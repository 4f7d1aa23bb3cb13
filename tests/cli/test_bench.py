"""``gnnbridge bench``, on tiny tasks that are called like the library's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_bench
from typer.testing import CliRunner, Result

from gnnbridge.bench.models.registry import MODELS
from gnnbridge.bench.rewirings import REWIRINGS
from gnnbridge.bench.runner import Run, run_suite
from gnnbridge.bench.suites import Suite
from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.registry import TASKS
from gnnbridge.bench.tasks.stored import STORED_TASKS
from gnnbridge.cli import app

QUICK = ('--seeds', 2, '--draws', 1, '--steps', 3)
FILES = ['leaderboard.html', 'leaderboard.md', 'summary.json', 'trials.jsonl']


def run(*arguments: object) -> Result:
    given = ['bench', *(str(argument) for argument in arguments)]
    return CliRunner().invoke(app, given)


def told(result: Result) -> list[str]:
    """The lines on stderr but for the progress bar."""
    lines = result.stderr.replace('\r', '\n').splitlines()
    return [line for line in lines if line.strip() and 'trial' not in line]


def refusal(result: Result) -> str:
    """The one line of an error; anything else fails."""
    assert result.exit_code == 2
    assert result.stdout == ''
    lines = told(result)
    assert len(lines) == 1, lines
    assert lines[0].startswith('gnnbridge: ')
    return lines[0]


def _make_task(name: str, *, root: Path | None = None) -> Task:
    if name in STORED_TASKS:
        raise FileNotFoundError(
            f"Expected the files of '{name}' in '{root}' (got none)."
        )
    return small_bench.make_task(name)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and models that take no time, under the usual names."""
    parts = small_bench.PARTS._replace(make_task=_make_task)
    monkeypatch.setattr('gnnbridge.bench.materials.standard_parts',
                        lambda: parts)  # fmt: skip


def test_writes_four_files_and_prints_the_table(tmp_path: Path) -> None:
    out = tmp_path / 'deep' / 'out'
    result = run(
        '--tasks', 'ring_transfer,key_value', '--models', 'gcn,gatv2',
        '--rewirings', 'fosr', '--out', out, *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == FILES
    trials = (out / 'trials.jsonl').read_text().splitlines()
    # Two tasks, two models, with and without, two seeds.
    assert len(trials) == 16
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['suite'] == 'default'
    assert summary['effort']['steps'] == 3
    assert {c['rewiring'] for c in summary['cells']} == {'none', 'fosr'}
    markdown = (out / 'leaderboard.md').read_text()
    assert '| gatv2 |' in markdown
    assert '### ring_transfer' in markdown
    assert '<h1>Leaderboard</h1>' in (out / 'leaderboard.html').read_text()
    assert 'Models without rewiring' in result.stdout
    joined = ' '.join(result.stdout.split())
    assert 'differences from no rewiring' in joined.lower()
    for name in FILES:
        assert str(out / name) in result.stdout


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    given = ('--tasks', 'csbm', '--models', 'gcn', '--rewirings', 'none',
             '--out', tmp_path, *QUICK)  # fmt: skip
    assert run(*given).exit_code == 0
    trials = tmp_path / 'trials.jsonl'
    first, second = trials.read_text().splitlines()
    trials.write_text(f'{first}\n')
    assert run(*given).exit_code == 0
    lines = trials.read_text().splitlines()
    assert lines[0] == first
    seconds = {'seconds': 0.0}
    assert {**json.loads(lines[1]), **seconds} == {
        **json.loads(second), **seconds,
    }  # fmt: skip
    # More seeds keep what is there.
    result = run(*given[:-6], '--seeds', 3, *given[-4:])
    assert result.exit_code == 0
    assert trials.read_text().splitlines()[:2] == lines
    assert len(trials.read_text().splitlines()) == 3


def test_options_reach_the_run(tmp_path: Path) -> None:
    result = run(
        '--quick', '--tasks', 'csbm', '--models', 'gcn', '--seeds', 3,
        '--draws', 2, '--steps', 4, '--budget', 5000, '--out', tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['suite'] == 'quick'
    wanted = {'steps': 4, 'budget': 5000, 'draws': 2, 'seeds': 3}
    assert wanted.items() <= summary['effort'].items()
    assert len(summary['cells'][0]['values']) == 3
    trials = (tmp_path / 'trials.jsonl').read_text().splitlines()
    assert [json.loads(line)['stage'] for line in trials] == [
        *['search'] * 2, *['final'] * 3,
    ]  # fmt: skip


def test_processes_and_device_reach_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def run_here(suite: Suite, path: Path, **options: Any) -> Run:
        seen.update(options)
        return run_suite(suite, path, **{**options, 'jobs': 1})

    # Other processes take long to start; that they come to the same is for
    # the tests of the runner.
    monkeypatch.setattr('gnnbridge.bench.runner.run_suite', run_here)
    result = run(
        '--tasks', 'csbm', '--models', 'gcn', '--rewirings', 'none', '--jobs',
        2, '--device', 'cpu', '--root', tmp_path, '--out', tmp_path, *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert seen['jobs'] == 2
    assert seen['materials'].device == 'cpu'
    assert seen['materials'].root == tmp_path


def test_stored_data_that_is_missing_is_skipped(tmp_path: Path) -> None:
    result = run(
        '--tasks', 'mutag,csbm', '--models', 'gcn', '--rewirings', 'none',
        '--root', tmp_path / 'data', '--out', tmp_path, *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (line,) = told(result)
    assert "Expected the files of 'mutag'" in line
    assert str(tmp_path / 'data') in line
    assert 'Skipped: mutag' in result.stdout
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert list(summary['skipped']) == ['mutag']
    assert list(summary['tasks']) == ['csbm']


def test_nothing_is_left(tmp_path: Path) -> None:
    result = run('--tasks', 'mutag,cora', '--models', 'gcn', '--out', tmp_path)
    assert result.exit_code == 2
    assert result.stdout == ''
    *skipped, last = told(result)
    assert len(skipped) == 2
    assert last.startswith('gnnbridge: Expected a task whose data is there')
    assert not (tmp_path / 'summary.json').exists()


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('--tasks', 'csbm,rings'), [*TASKS, "(got 'rings')"]),
        (('--models', 'gnn'), [*MODELS, "(got 'gnn')"]),
        (('--rewirings', 'wires'), [*REWIRINGS, "(got 'wires')"]),
        (('--suite', 'all'), ['quick', 'default', 'full', "(got 'all')"]),
        (('--quick', '--suite', 'full'), ['not both']),
        (('--tasks', 'csbm,'), ["'--tasks'", 'commas']),
        (('--models', ''), ["'--models'", 'commas']),
        (('--device', 'abacus'), ["'--device'", 'abacus']),
        (('--device', 'cuda:99'), ["'--device'", 'cuda:99']),
    ],
)
def test_refuses_what_there_is_not(
    arguments: tuple[str, ...], said: list[str], tmp_path: Path
) -> None:
    line = refusal(run(*arguments, '--out', tmp_path / 'out'))
    for word in said:
        assert word in line
    assert not (tmp_path / 'out').exists()


def test_out_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.touch()
    assert "'--out' to be a directory" in refusal(run('--out', path))


@pytest.mark.parametrize(
    'option', ['--seeds', '--draws', '--steps', '--budget', '--jobs']
)
def test_numbers_are_positive(option: str) -> None:
    result = run(option, 0)
    assert result.exit_code == 2
    assert option in result.stderr


def test_help_needs_nothing_heavy() -> None:
    code = (
        'import sys; from gnnbridge.cli import app\n'
        "app(['bench', '--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    shown: Any = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert 'leaderboard.html' in shown.stdout
    assert shown.stdout.splitlines()[-1] == '[]'
