"""Do the comparisons hold at equal compute, and at other learning rates?

    python benchmarks/paper/equal_compute.py

A step with differential attention costs more than one with softmax attention.
Here the difference is given back: softmax decoders are trained for 1.5 and 2
times the steps, differential ones without history for 1.25 times the steps of
those with history. And what did not learn to retrieve at the common learning
rate is trained at others. Measures the CPU time of a training step, what a
whole run took by it, and answers by number of bindings and under noise.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from answering import accuracy, fidelity
from arms import Arm
from drawing import by_length, palette, plt, points, save
from experiments import best_rates, equal_compute
from running import Case, Experiment, cell, main, table
from tasks import RETRIEVAL
from torch import Generator
from transformers import PreTrainedModel

# A step near the end of training, where sequences are longest.
_STEP = RETRIEVAL.steps - 11


def measure(arm: Arm) -> Any:
    """What is measured of the decoders of an arm."""
    steps = arm.steps or RETRIEVAL.steps

    def measured(model: PreTrainedModel, seed: int) -> dict[str, Any]:
        seconds = step_seconds(model)
        return {
            'step_seconds': seconds,
            'steps': steps,
            'run_seconds': seconds * steps,
            **accuracy(model),
            **fidelity(model),
        }

    return measured


def step_seconds(model: PreTrainedModel) -> float:
    """CPU seconds of a training step, the least of seven."""
    generator = Generator().manual_seed(0)
    streams = RETRIEVAL.streams(RETRIEVAL.steps)
    batches = [stream.draw(_STEP, generator) for stream in streams]
    model.train()
    times = []
    for _ in range(7):
        start = time.process_time()
        for batch in batches:
            model(**batch, use_cache=False).loss.backward()
        times.append(time.process_time() - start)
    model.zero_grad()
    model.eval()
    return min(times)


def cases() -> dict[str, list[Case]]:
    """Retrieval alone, where differential attention helps."""
    groups = {'equal compute': equal_compute(), 'best rate': best_rates()}
    return {
        group: [Case(name, arm, measure(arm)) for name, arm in arms.items()]
        for group, arms in groups.items()
    }


def show(result: dict[str, Any]) -> str:
    """One line for each arm."""
    heads = [
        '', 'learning rate', 'steps', 'CPU time of a step', 'of the run',
        '16 bindings', '31 bindings', '16, noise', '31, noise',
        'nearest neighbour, 16',
    ]  # fmt: skip
    base = result['groups']['equal compute']['softmax']
    rows = []
    for group, found in result['groups'].items():
        for name, f in found.items():
            rates = f.get('loss_at_rate', {f'{RETRIEVAL.learning_rate:g}': {}})
            best = min(rates, key=lambda rate: rates[rate].get('mean', 0.0))
            cells = [best, f'{f["steps"]["mean"]:.0f}']
            cells += [
                f'{f[key]["mean"] / base[key]["mean"]:.2f}x'
                for key in ('step_seconds', 'run_seconds')
            ]
            for key in ('accuracy', 'under_noise'):
                cells += [cell(f[key][n]) for n in ('16', '31')]
            cells.append(cell(f['nearest']['16']))
            rows.append([f'{group}: {name}', *cells])
    return table(heads, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """Answers by number of bindings, and of the most by seed."""
    figure, axes = plt.subplots(2, 3, figsize=(17, 8.5), layout='constrained')
    for row, (group, found) in zip(axes, result['groups'].items(), strict=True):
        colors = palette(len(found))
        by_length(row[0], found, 'accuracy', colors)
        row[0].set_title(group, loc='left')
        row[0].set_ylabel('right answers')
        by_length(row[1], found, 'under_noise', colors)
        row[1].set_ylabel('right answers under noise')
        most = {name: f['under_noise'] for name, f in found.items()}
        points(row[2], most, '31', colors)
        row[2].set_xlabel('right answers under noise, 31 bindings')
    save(figure, path)


if __name__ == '__main__':
    main(Experiment('equal_compute', cases(), draw, show), __doc__ or '')
