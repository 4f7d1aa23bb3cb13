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
    for _, without, kept in rows:
        assert float(kept) < float(without)
    assert float(rows[-1][1]) > float(rows[0][1])
