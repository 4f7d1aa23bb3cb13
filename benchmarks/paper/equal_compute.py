"""What is left of each difference at equal compute?

    python benchmarks/paper/equal_compute.py

In the other experiments arms have equal steps. Here what a remedy costs more
is given back: decoders without one are trained for more steps, and every
remedy is held against them at the compute that it took itself, by the CPU time
of a training step. Shapes are compared at equal numbers of operations, the
narrow and the shallow ones trained for up to ten times the steps, and widths
at every learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import experiments
from answering import FEW, accuracy, fidelity
from arms import Arm
from compute import operations, step_over, steps_over_usual
from differential_history import on_text
from equal_compute_figure import draw
from matched import beyond_plain, compute, figure, operations_over
from running import Case, Experiment, cell, main, rate_of, table
from sink_ablation import measure as backcopy_measure
from tasks import BACKCOPY
from transformers import PreTrainedModel

Measure = Callable[[PreTrainedModel, int], dict[str, Any]]


@dataclass(frozen=True)
class Group:
    """Arms of one task, the plain one first.

    Attributes:
        title: What the table is of.
        arms: The arms by name.
        measure: From an arm to what is measured of its decoders.
        columns: Key, name and digits of the figures in the table.
        beside: Those of them that are held against plain decoders at the
            same compute.
    """

    title: str
    arms: dict[str, Arm]
    measure: Callable[[Arm], Measure]
    columns: dict[str, tuple[str, int]]
    beside: tuple[str, ...]


def on_retrieval(arm: Arm) -> Measure:
    """Answers and last states."""
    return lambda model, seed: {**accuracy(model), **fidelity(model)}


def on_prose(arm: Arm) -> Measure:
    """Losses."""
    return on_text


def on_backcopy(arm: Arm) -> Measure:
    """Losses, sinks and mixing, after the last block."""
    measure = backcopy_measure(arm.task is BACKCOPY, arm.prompt)

    def measured(model: PreTrainedModel, seed: int) -> dict[str, Any]:
        found = measure(model, seed)
        return {
            'loss': found['loss'],
            'largest_score': max(found['largest_score']),
            **{
                key: found[key][-1]
                for key in ('spread', 'residual', 'effective_rank')
            },
        }

    return measured


def _answering(title: str, arms: dict[str, Arm]) -> Group:
    """Arms on retrieval."""
    columns = {
        'accuracy/16': ('16 bindings', 2),
        'accuracy/31': ('31 bindings', 2),
        'under_noise/16': ('16, noise', 2),
        'under_noise/31': ('31, noise', 2),
        'nearest/16': ('nearest neighbour, 16', 2),
    }
    return Group(title, arms, on_retrieval, columns, ('under_noise/31',))


def _mixing(title: str, arms: dict[str, Arm]) -> Group:
    """Arms on Bigram-Backcopy."""
    columns = {
        'loss': ('loss', 3),
        'largest_score': ('sink score', 2),
        'residual': ('residual to rank one', 2),
        'effective_rank': ('effective rank', 1),
        'spread': ('spread of a change', 4),
    }
    beside = ('loss', 'residual', 'spread')
    return Group(title, arms, on_backcopy, columns, beside)


GROUPS = {
    'retrieval': _answering(
        'Retrieval', experiments.retrieval_at_equal_compute()
    ),
    'pauses': _answering(
        'Retrieval, trained on with pauses',
        experiments.pauses_at_equal_compute(),
    ),
    'scratch': _answering(
        'Retrieval, with pauses from the first step',
        experiments.scratch_at_equal_compute(),
    ),
    'prose': Group(
        'Prose',
        experiments.prose_at_equal_compute(),
        on_prose,
        {
            'loss': ('nats per byte', 3),
            'beyond_training': ('beyond the trained length', 3),
        },
        ('loss', 'beyond_training'),
    ),
    'backcopy': _mixing(
        'Bigram-Backcopy', experiments.backcopy_at_equal_compute()
    ),
    'sinks': _mixing(
        'Bigram-Backcopy without its first token',
        experiments.sinks_at_equal_compute(),
    ),
}


def on_shapes(arm: Arm) -> Measure:
    """Answers of half as many bindings, and what training took."""
    return lambda model, seed: {
        **accuracy(model, FEW),
        **fidelity(model, FEW),
        'steps_over_usual': steps_over_usual(arm),
        'operations_of_a_step': operations(arm, model),
    }


def on_widths(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """Answers alone."""
    return accuracy(model, FEW)


def with_cost(group: Group, arm: Arm) -> Measure:
    """What a group measures of an arm, and what its training took."""
    measure = group.measure(arm)
    base = next(iter(group.arms.values()))
    return lambda model, seed: {
        'steps_over_usual': steps_over_usual(arm),
        'step_over_plain': step_over(base, arm, model),
        **measure(model, seed),
    }


def cases() -> dict[str, list[Case]]:
    """Remedies by task, shapes, and widths by learning rate."""
    shapes = experiments.shapes_at_equal_compute()
    return {
        **{
            key: [
                Case(name, arm, with_cost(group, arm))
                for name, arm in group.arms.items()
            ]
            for key, group in GROUPS.items()
        },
        'shapes': [
            Case(name, arm, on_shapes(arm)) for name, arm in shapes.items()
        ],
        'rates': [
            Case(experiments.at_rate(name, rate), arm, on_widths)
            for name, arms in experiments.widths_by_rate().items()
            for rate, arm in arms.items()
        ],
    }


def show(result: dict[str, Any]) -> str:
    """A table for each task, and two for the shapes."""
    found = result['groups']
    parts = [_of_remedies(group, found[k]) for k, group in GROUPS.items()]
    shapes = [_of_shapes(found['shapes']), _of_rates(found['rates'])]
    return '\n\n'.join([*parts, *shapes])


def _of_remedies(group: Group, found: dict[str, Any]) -> str:
    heads = [
        group.title, 'steps', 'CPU time of a step', 'of the run',
        *(name for name, _ in group.columns.values()),
        *(
            f'{group.columns[key][0]}: beyond plain ones at its compute'
            for key in group.beside
        ),
    ]  # fmt: skip
    rows = []
    for arm, figures in found.items():
        step = figures['step_over_plain']['mean']
        took = [figures['steps_over_usual']['mean'], step, compute(found, arm)]
        cells = [f'{one:.2f}x' for one in took]
        cells += [
            cell(figure(figures, key), places)
            for key, (_, places) in group.columns.items()
        ]
        for key in group.beside:
            more = beyond_plain(found, arm, key)
            places = group.columns[key][1]
            cells.append(f'{_sign(more["mean"])}{cell(more, places)}')
        rows.append([arm, *cells])
    return table(heads, rows)


def _sign(value: float) -> str:
    return '+' if value > 0 else ''


def _of_shapes(found: dict[str, Any]) -> str:
    heads = [
        'Shapes: layers x width', 'steps', 'operations', 'rate', '8 bindings',
        '16 bindings', '8, noise', '16, noise', 'nearest neighbour, 8',
    ]  # fmt: skip
    rows = []
    for row, factors in experiments.EQUAL_OPERATIONS.items():
        base = found[list(factors)[-1]]
        for name, factor in factors.items():
            for steps in dict.fromkeys((1.0, factor)):
                f = found[experiments.with_steps(name, steps)]
                rows.append([
                    f'{row}: {name}',
                    f'{steps:g}x',
                    f'{operations_over(f, base):.2f}x',
                    f'{rate_of(f):g}',
                    cell(f['accuracy']['8']),
                    cell(f['accuracy']['16']),
                    cell(f['under_noise']['8']),
                    cell(f['under_noise']['16']),
                    cell(f['nearest']['8']),
                ])  # fmt: skip
    return table(heads, rows)


def _of_rates(found: dict[str, Any]) -> str:
    shown = {
        '8 bindings': ('accuracy', '8'),
        '8, noise': ('under_noise', '8'),
        '16, noise': ('under_noise', '16'),
    }
    heads = [
        'Widths by learning rate',
        *(f'{name} at {r:g}' for name in shown for r in experiments.RATES),
    ]
    rows = [
        [
            name,
            *(
                cell(found[experiments.at_rate(name, rate)][kind][bindings])
                for kind, bindings in shown.values()
                for rate in rates
            ),
        ]
        for name, rates in experiments.widths_by_rate().items()
    ]
    return table(heads, rows)


if __name__ == '__main__':
    main(Experiment('equal_compute', cases(), draw, show), __doc__ or '')
