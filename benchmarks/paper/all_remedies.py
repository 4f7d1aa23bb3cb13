"""Which remedy helps against which failure?

    python benchmarks/paper/all_remedies.py

Every remedy of `gnnbridge.remedies`, trained with from the start on
Bigram-Backcopy and on key-value retrieval (pauses: trained on with; calibrated
temperatures: fitted to trained decoders), beside the decoder without one, at
equal steps and batches. Measures all failures: sinks, massive activations,
rank collapse, over-mixing, over-squashing, position bias, collapse of last
states, retrieval; and what the remedy costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.colors as colours
import numpy as np
from answering import accuracy, fidelity, influence, questions
from arms import Arm
from drawing import plt, save
from experiments import remedies_on_backcopy, remedies_on_retrieval
from influence import resistance_over_uniform
from running import Case, Experiment, at, cell, main, table
from sink_ablation import measure as measure_backcopy
from sink_ablation import sequences
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.remedies.registry import make

# What is shown of each task: its name, its digits, and whether more is better.
FIGURES: dict[str, dict[str, tuple[str, int, int]]] = {
    'backcopy': {
        'loss': ('loss', 3, -1),
        'largest_score': ('sink score', 2, -1),
        'massive_ratio': ('massive activations', 0, -1),
        'residual': ('residual to rank one', 2, 1),
        'effective_rank': ('effective rank', 1, 1),
        'spread': ('spread of a change', 4, -1),
    },
    'retrieval': {
        'accuracy/16': ('right, 16', 2, 1),
        'accuracy/31': ('right, 31', 2, 1),
        'under_noise/16': ('right under noise, 16', 2, 1),
        'under_noise/31': ('right under noise, 31', 2, 1),
        'first_minus_last': ('primacy under noise', 2, -1),
        'nearest/16': ('nearest neighbour', 2, 1),
        'gold_over_others': ('gold over others', 2, 1),
    },
}


def on_backcopy(arm_prompt: int | None) -> Callable[..., dict[str, Any]]:
    """Sinks, ranks and over-mixing; token 0 is given to all."""
    measured = measure_backcopy(True, arm_prompt)

    def measure(model: PreTrainedModel, seed: int) -> dict[str, Any]:
        return {**measured(model, seed), **cost(model, sequences(16))}

    return measure


def on_retrieval(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """Retrieval, last states and over-squashing."""
    asked = questions(16, rows=16)
    return {
        **accuracy(model),
        **fidelity(model),
        **influence(model),
        'resistance_over_uniform': resistance_over_uniform(model, asked.ids),
        **cost(model, asked.ids),
    }


def cost(model: PreTrainedModel, ids: Tensor) -> dict[str, float]:
    """CPU seconds of one forward and backward pass, the least of five."""
    model.train()
    times = []
    for _ in range(5):
        start = time.process_time()
        model(ids, labels=ids, use_cache=False).loss.backward()
        times.append(time.process_time() - start)
    model.zero_grad()
    model.eval()
    return {'step_seconds': min(times)}


def calibrated(
    measure: Callable[..., dict[str, Any]], ids: Tensor, by_length: bool
) -> Callable[..., dict[str, Any]]:
    """Measures a trained decoder at other temperatures.

    Either scores grow with the logarithm of the number of keys beyond the
    length of `ids`, or the total causal resistance of each layer on `ids`
    becomes that of uniform attention.
    """

    def measured(model: PreTrainedModel, seed: int) -> dict[str, Any]:
        if by_length:
            remedy = make('temperature', length='log', reference=ids.size(1))
            remedy.apply(model)
        else:
            remedy = make('temperature', rule='resistance', target=1.0)
            remedy.calibrate(remedy.apply(model), ids)
        return measure(model, seed)

    return measured


def cases() -> dict[str, list[Case]]:
    """All remedies on both tasks."""
    backcopy, retrieval = remedies_on_backcopy(), remedies_on_retrieval()
    return {
        'backcopy': [
            *(
                Case(name, arm, on_backcopy(arm.prompt))
                for name, arm in backcopy.items()
            ),
            *_temperatures(backcopy['none'], on_backcopy(None), sequences(16)),
        ],
        'retrieval': [
            *(Case(name, arm, on_retrieval) for name, arm in retrieval.items()),
            *_temperatures(
                retrieval['none'], on_retrieval, questions(16, rows=16).ids
            ),
        ],
    }


def _temperatures(
    arm: Arm, measure: Callable[..., dict[str, Any]], ids: Tensor
) -> list[Case]:
    return [
        Case('temperature', arm, calibrated(measure, ids, by_length=False)),
        Case(
            'temperature by length',
            arm,
            calibrated(measure, ids, by_length=True),
        ),
    ]


def figure_of(figures: dict[str, Any], key: str) -> dict[str, Any] | None:
    """One figure; of those by layer the last, of scores the largest layer."""
    for part in key.split('/'):
        figures = figures[part]
    if figures is None or not isinstance(figures['mean'], list):
        return figures
    place = -1
    if key == 'largest_score':
        place = int(np.argmax(figures['mean']))
    return at(figures, place)


def show(result: dict[str, Any]) -> str:
    """One line for each remedy, both tasks side by side."""
    groups = result['groups']
    heads = ['remedy', 'more parameters', 'step time']
    heads += [n for shown in FIGURES.values() for n, _, _ in shown.values()]
    rows = []
    base = {task: groups[task]['none'] for task in FIGURES}
    for name in groups['backcopy']:
        more = [
            groups[task][name]['parameters']['mean']
            - base[task]['parameters']['mean']
            for task in FIGURES
        ]
        slower = [
            groups[task][name]['step_seconds']['mean']
            / base[task]['step_seconds']['mean']
            for task in FIGURES
        ]
        cells = [f'{max(more):.0f}', f'{sum(slower) / len(slower):.1f}x']
        for task, shown in FIGURES.items():
            for key, (_, digits, _) in shown.items():
                cells.append(cell(figure_of(groups[task][name], key), digits))
        rows.append([name, *cells])
    return table(heads, rows)


def retrieves(groups: dict[str, Any], name: str) -> bool:
    """Whether answers are right so often that their places say something."""
    right = groups['retrieval'][name]['accuracy']['16']
    return bool(right['mean'] > 0.5)


def draw(result: dict[str, Any], path: Path) -> None:
    """The table in colour: better or worse than without, in deviations."""
    groups = result['groups']
    names = list(groups['backcopy'])
    columns = [
        (t, k, *v) for t, shown in FIGURES.items() for k, v in shown.items()
    ]
    effect = np.full((len(names), len(columns)), np.nan)
    figure, axis = plt.subplots(figsize=(16, 7.5), layout='constrained')
    for j, (task, key, _, digits, sign) in enumerate(columns):
        without = figure_of(groups[task]['none'], key)
        for i, name in enumerate(names):
            found = figure_of(groups[task][name], key)
            if found is None or without is None:
                axis.text(j, i, '-', ha='center', va='center')
                continue
            both = (found['deviation'] ** 2 + without['deviation'] ** 2) ** 0.5
            difference = sign * (found['mean'] - without['mean'])
            # Differences below the last digit that is shown are none.
            effect[i, j] = difference / max(both, 10.0**-digits)
            if key == 'first_minus_last' and not retrieves(groups, name):
                effect[i, j] = np.nan
            text = (
                f'{found["mean"]:.{digits}f}\n±{found["deviation"]:.{digits}f}'
            )
            axis.text(j, i, text, ha='center', va='center', fontsize=8)
    image = axis.imshow(
        effect, cmap='PuOr', norm=colours.Normalize(-6, 6), aspect='auto',
        alpha=0.75,
    )  # fmt: skip
    axis.set_yticks(range(len(names)), names)
    axis.set_xticks(
        range(len(columns)), [c[2] for c in columns], rotation=30, ha='left'
    )
    axis.xaxis.tick_top()
    split = len(FIGURES['backcopy']) - 0.5
    axis.axvline(split, color='black', lw=1.5)
    figure.colorbar(
        image, label='worse | better than without, in deviations over seeds'
    )
    save(figure, path)


if __name__ == '__main__':
    main(Experiment('all_remedies', cases(), draw, show), __doc__ or '')
