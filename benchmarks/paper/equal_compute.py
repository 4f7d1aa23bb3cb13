"""Does differential attention help at equal compute?

    python benchmarks/paper/equal_compute.py

A step with differential attention costs more than one with softmax attention.
Here the difference is given back: softmax decoders are trained for 1.5 and 2
times the steps, differential ones without history for 1.25 times the steps of
those with history. Measures the CPU time of a training step, what a whole run
took by it, and answers by number of bindings and under noise.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from answering import accuracy, fidelity
from arms import Arm, baseline
from drawing import by_length, palette, plt, points, save
from experiments import equal_compute
from running import Case, Experiment, cell, main, table
from tasks import RETRIEVAL
from torch import Generator
from transformers import PreTrainedModel

# A step near the end of training, where sequences are longest.
_STEP = RETRIEVAL.steps - 11


def measure(arm: Arm) -> Any:
    """What is measured of the decoders of an arm."""
    steps = (arm.steps or RETRIEVAL.steps) / RETRIEVAL.steps

    def measured(model: PreTrainedModel, seed: int) -> dict[str, Any]:
        ratio = step_over_softmax(model)
        return {
            'steps_over_usual': steps,
            'step_over_softmax': ratio,
            'run_over_softmax': ratio * steps,
            **accuracy(model),
            **fidelity(model),
        }

    return measured


def step_over_softmax(model: PreTrainedModel) -> float:
    """CPU time of a training step over that of the softmax decoder.

    The least of seven each, taken in turn, so that whatever else the machine
    does meets both.
    """
    generator = Generator().manual_seed(0)
    streams = RETRIEVAL.streams(RETRIEVAL.steps)
    batches = [stream.draw(_STEP, generator) for stream in streams]
    config = model.config
    like = replace(
        baseline(RETRIEVAL),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
    )
    softmax = like.first(0, Path()).train()
    times: dict[bool, list[float]] = {True: [], False: []}
    model.train()
    for _ in range(7):
        for own, one in ((True, model), (False, softmax)):
            start = time.process_time()
            for batch in batches:
                one(**batch, use_cache=False).loss.backward()
            times[own].append(time.process_time() - start)
    model.zero_grad()
    model.eval()
    return min(times[True]) / min(times[False])


def cases() -> dict[str, list[Case]]:
    """Retrieval alone, where differential attention helps."""
    return {
        'retrieval': [
            Case(name, arm, measure(arm))
            for name, arm in equal_compute().items()
        ]
    }


def show(result: dict[str, Any]) -> str:
    """One line for each arm."""
    heads = [
        '', 'steps', 'CPU time of a step', 'of the run', '16 bindings',
        '31 bindings', '16, noise', '31, noise', 'nearest neighbour, 16',
    ]  # fmt: skip
    rows = []
    for name, f in result['groups']['retrieval'].items():
        cells = [
            f'{f[key]["mean"]:.2f}x'
            for key in (
                'steps_over_usual', 'step_over_softmax', 'run_over_softmax'
            )
        ]  # fmt: skip
        for key in ('accuracy', 'under_noise'):
            cells += [cell(f[key][n]) for n in ('16', '31')]
        rows.append([name, *cells, cell(f['nearest']['16'])])
    return table(heads, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """Answers by number of bindings, and of the most by seed."""
    figure, row = plt.subplots(1, 3, figsize=(17, 4.5), layout='constrained')
    found = result['groups']['retrieval']
    colors = palette(len(found))
    by_length(row[0], found, 'accuracy', colors)
    row[0].set_ylabel('right answers')
    by_length(row[1], found, 'under_noise', colors)
    row[1].set_ylabel('right answers under noise')
    most = {name: f['under_noise'] for name, f in found.items()}
    points(row[2], most, '31', colors)
    row[2].set_xlabel('right answers under noise, 31 bindings')
    save(figure, path)


if __name__ == '__main__':
    main(Experiment('equal_compute', cases(), draw, show), __doc__ or '')
