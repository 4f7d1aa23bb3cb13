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


def test_resistance_of_the_last_token():
    out = run('directed_resistance.py')
    rows = re.findall(
        r'^ +(\d+) .* ([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$',
        out,
        re.MULTILINE,
    )
    assert len(rows) == 9
    for _, deep, matched, ends, meets in rows:
        assert float(deep) < float(matched)
        assert float(ends) <= float(meets)
    # The first token is a sink, and the easiest to hear.
    assert min(rows, key=lambda row: float(row[2]))[0] == '0'
    assert 'by layer' in out


def test_every_graph_has_a_plan_and_is_timed():
    out = run('attention_plans.py')
    kernels = re.findall(r"^(\w[\w ,]*): backend '(\w+)' on", out, re.MULTILINE)
    assert dict(kernels) == {
        'causal, not listed': 'dense',
        'window and sinks': 'row_window',
        'blocks': 'row_window',
        'dilated': 'csr_cpu',
        'random': 'csr_cpu',
    }
    assert len(re.findall(r'[\d.]+ ms, by gather and scatter', out)) == 5


def test_causal_resistance_finds_the_better_edges():
    shown = run('rewiring.py')
    ohms = [float(x) for x in re.findall(r'([\d.]+) ohm', shown)]
    assert len(ohms) == 4
    assert ohms[3] == min(ohms)
    losses = dict(re.findall(r'^([a-z -]+?) +(\d\.\d+)$', shown, re.MULTILINE))
    assert len(losses) == 5
    assert float(losses['causal-resistance']) < float(losses['bigbird'])


def test_failure_modes_are_told_apart():
    shown = run('failure_modes.py')
    layers = re.findall(r'layer (\d): (\d+)% of the heads', shown)
    assert dict(layers) == {'0': '0', '1': '100', '2': '0'}
    own, alone = (
        [float(x) for x in re.findall(r'[\d.]+', line)]
        for line in re.findall(r'(?:model|alone): +([\d. ]+)$', shown, re.M)
    )
    # Attention alone draws tokens together; the whole model does not.
    assert alone[-1] < own[-1] / 2
    trained, fresh = re.findall(r'slope ([+-][\d.]+)', shown)
    assert float(trained) > -0.2
    assert float(fresh) < -0.4


@pytest.mark.slow
def test_a_remedy_is_trained_beside_its_baseline_and_loaded_again():
    shown = run('train_with_remedies.py')
    losses = re.findall(r'on new sequences ([\d.]+)', shown)
    assert len(losses) == 2
    # Who knows the table and the rule needs 1.98 nats, who knows nothing 5.5.
    assert all(float(loss) < 2.5 for loss in losses)
    rows = re.findall(r'layer \d: ([\d.]+) ([\d.]+)$', shown, re.MULTILINE)
    without, remedied = (
        max(float(score) for row in some for score in row)
        for some in (rows[:3], rows[3:])
    )
    assert len(rows) == 6
    assert without > remedied
    assert 'logits differ by 0e+00' in shown
