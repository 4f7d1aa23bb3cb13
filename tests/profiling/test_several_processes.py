"""One process, two, and killed ones: all find the same numbers."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_decoder import byte_tokenizer, tiny_decoder

DYING = Path(__file__).parents[1] / 'builders' / 'dying_profile.py'
TORCHRUN = (
    '-m',
    'torch.distributed.run',
    '--standalone',
    '--nproc-per-node=2',
    '--max-restarts=2',
)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('corpus')
    words = ['a', 'graph', 'of', 'tokens', 'is', 'read', 'by', 'every', 'walk']
    lines = [
        json.dumps({'body': ' '.join(words[k % 7 :] * (1 + k % 3))})
        for k in range(23)
    ]
    (path / 'a.jsonl').write_text('\n'.join(lines))
    (path / 'b.txt').write_text('A text beside the lines. ' * 9)
    tiny_decoder().save_pretrained(path / 'model')
    byte_tokenizer().save_pretrained(path / 'model')
    return path


def start(*before: object, corpus: Path, out: Path, **env: str) -> int:
    """Runs the command line in new processes; returns the exit status."""
    command = [
        sys.executable,
        *map(str, before),
        *('profile', str(corpus / 'model'), '--text', str(corpus)),
        *('--field', 'body', '--out', str(out), '--batch-size', '2'),
        *('--diagnostics', 'sinks,smoothing', '--max-tokens', '48'),
    ]
    finished = subprocess.run(
        command,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode <= 0, finished.stderr[-3000:]
    return finished.returncode


def read(out: Path) -> dict[str, Any]:
    """What was found, without what may differ from run to run."""
    found = json.loads((out / 'profile.json').read_text())
    assert not (out / '.unfinished').exists()
    return {
        name: found[name] for name in ('diagnostics', 'text', 'model', 'notes')
    }


def assert_same(one: Any, other: Any, where: str = '') -> None:
    """Equal, numbers to 1e-6 of each other."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f'{where}/{key}')
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f'{where}/{place}')
    elif isinstance(one, float):
        assert math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9), where
    else:
        assert one == other, where


@pytest.fixture(scope='module')
def alone(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp('alone')
    assert start('-m', 'gnnbridge', corpus=corpus, out=out) == 0
    found = read(out)
    assert found['text']['num_sequences'] == 24
    assert found['diagnostics']['sinks']['model']['count'] == 24
    return found


@pytest.mark.slow
def test_two_processes_find_the_same(
    corpus: Path, alone: dict, tmp_path: Path
) -> None:
    status = start(*TORCHRUN, '-m', 'gnnbridge', corpus=corpus, out=tmp_path)
    assert status == 0
    assert_same(read(tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize('after', [1, 4])
def test_a_rank_is_killed_and_torchrun_starts_again(
    after: int, corpus: Path, alone: dict, tmp_path: Path
) -> None:
    status = start(
        *TORCHRUN,
        DYING,
        corpus=corpus,
        out=tmp_path,
        DIES='1',
        AFTER=str(after),
    )
    assert status == 0
    assert_same(read(tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize('after', [2, 9])
def test_a_run_is_killed_and_started_again(
    after: int, corpus: Path, alone: dict, tmp_path: Path
) -> None:
    env = {'DIES': '0', 'AFTER': str(after)}
    status = start(DYING, corpus=corpus, out=tmp_path, **env)
    assert status == -signal.SIGKILL
    assert not (tmp_path / 'profile.json').exists()
    # Two processes go on with what one has left.
    again = start(*TORCHRUN, '-m', 'gnnbridge', corpus=corpus, out=tmp_path)
    assert again == 0
    assert_same(read(tmp_path), alone)
