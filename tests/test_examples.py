"""The examples run from top to bottom as a user would start them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / 'examples'


def run(name: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'HF_HUB_OFFLINE': '1'},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_a_window_without_the_sink_loses_more():
    rows = re.findall(
        r'^ +(\d+) +([\d.]+) +([\d.]+)$',
        run('window_and_sinks.py'),
        re.MULTILINE,
    )
    assert [int(row[0]) for row in rows] == [64, 32, 16, 8, 4]
    losses = [float(row[1]) for row in rows]
    assert losses[-1] > losses[0]


@pytest.mark.slow
def test_a_trained_block_learns_in_a_pyg_model():
    lines = run('trained_block_in_pyg.py').splitlines()
    first, last = (
        float(re.findall(r'loss ([\d.]+)', lines[i])[0]) for i in (0, -1)
    )
    assert last < first / 2
