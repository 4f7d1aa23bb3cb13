"""Equal compute in benchmarks/paper: what training costs, what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import arms
import compute
import equal_compute
import experiments
import matched
import pytest
import tasks

from gnnbridge.remedies.registry import make


def test_operations_are_those_of_a_count_by_hand():
    arm = arms.tiny(arms.baseline(tasks.BACKCOPY))
    model = arm.first(0, Path('nowhere'))
    config = model.config
    width, layers = config.hidden_size, config.num_hidden_layers
    head = width // config.num_attention_heads
    keys = config.num_key_value_heads * head
    block = 2 * width * width + 2 * width * keys
    block += 3 * width * config.intermediate_size
    tokens = 64 * tasks.BACKCOPY_TOKENS
    weights = layers * block + width * config.vocab_size
    # Scores and sums of values for all pairs, multiplied and added.
    pairs = layers * 2 * tokens * tasks.BACKCOPY_TOKENS * width
    # Each product again for both of its gradients.
    expected = 3 * 2 * (tokens * weights + pairs)
    # Nothing but the rotations of positions is not in the count by hand.
    assert compute.operations(arm, model) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize('row', experiments.EQUAL_OPERATIONS)
def test_shapes_of_a_row_take_as_many_operations(row):
    found = experiments.shapes_at_equal_compute()
    took = []
    for name, factor in experiments.EQUAL_OPERATIONS[row].items():
        arm = found[experiments.with_steps(name, factor)]
        each = compute.operations(arm, arm.first(0, Path('nowhere')))
        took.append(each * compute.steps_over_usual(arm))
    # Factors have two digits.
    assert took == pytest.approx([took[-1]] * len(took), rel=0.04)


def test_shapes_at_one_size_take_about_as_many_operations():
    usual = experiments.sizes()
    took = [
        compute.operations(usual[name], usual[name].first(0, Path('nowhere')))
        for name in experiments.SHAPES['depth at one size']
    ]
    assert max(took) / min(took) < 1.3
    assert took == pytest.approx([took[-1]] * 3, rel=0.2)


def test_widths_at_their_rates_are_decoders_of_the_shapes():
    shapes = experiments.shapes_at_equal_compute()
    found = experiments.widths_by_rate()
    assert list(found) == [
        '3x16', '3x16, 9.8 times the steps',
        '3x32', '3x32, 3.4 times the steps',
        '3x64', '3x64, 3.6 times the steps', '3x128',
    ]  # fmt: skip
    for name, arms_at in found.items():
        assert tuple(arms_at) == shapes[name].rates
        for rate, arm in arms_at.items():
            assert arm.learning_rate == rate
            # They are not trained twice.
            place = shapes[name].at(rate).directory(1, Path())
            assert arm.directory(1, Path()) == place


def test_steps_are_compared_with_those_of_the_task():
    assert compute.steps_over_usual(arms.baseline(tasks.RETRIEVAL)) == 1.0
    assert compute.steps_over_usual(experiments.longer(1.5)) == 1.5
    more = experiments.pauses_at_equal_compute()['none, 1.25 times the steps']
    assert compute.steps_over_usual(more) == 1.25


def test_timing_leaves_the_model_as_it_was():
    base = arms.tiny(arms.baseline(tasks.RETRIEVAL))
    arm = replace(base, name='runway', remedy=make('runway'))
    model = arm.first(0, Path('nowhere')).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert compute.step_over(base, arm, model, rounds=1) > 0
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    after = model.state_dict()
    assert all((after[k] == v).all() for k, v in before.items())


def figures(steps, values, step=1.0):
    return {
        'steps_over_usual': {'mean': steps},
        'step_over_plain': {'mean': step},
        'right': {'31': {'values': values}},
    }


FOUND = {
    'softmax': figures(1.0, [0.2, 0.4], 1.07),
    'softmax, twice the steps': figures(2.0, [0.6, 0.6], 0.98),
    'softmax_one': figures(1.0, [0.5, 0.5], 1.5),
    'slow': figures(1.25, [0.7, 0.9], 4.0),
    'fast': figures(1.0, [0.1, 0.4], 0.9),
}


def test_plain_decoders_are_one_curve():
    assert matched.plain(FOUND) == ['softmax', 'softmax, twice the steps']
    # Their compute is that of their steps, whatever was timed.
    took = [matched.compute(FOUND, name) for name in FOUND]
    assert took == pytest.approx([1.0, 2.0, 1.5, 5.0, 0.9])


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('softmax', [0.0, 0.0]),
        # Between the two: 0.4 and 0.5.
        ('softmax_one', [0.1, 0.0]),
        # Past the most steps and before the least: those.
        ('slow', [0.1, 0.3]),
        ('fast', [-0.1, 0.0]),
    ],
)
def test_arms_are_held_against_plain_ones_seed_by_seed(name, expected):
    more = matched.beyond_plain(FOUND, name, 'right/31')
    assert more['values'] == pytest.approx(expected)
    assert more['mean'] == pytest.approx(sum(expected) / 2)


def test_operations_of_runs():
    short = {
        'steps_over_usual': {'mean': 1.0},
        'operations_of_a_step': {'mean': 30.0},
    }
    long = {
        'steps_over_usual': {'mean': 6.0},
        'operations_of_a_step': {'mean': 10.0},
    }
    assert matched.operations_over(long, short) == 2.0


def test_groups_begin_with_a_plain_decoder():
    for group in equal_compute.GROUPS.values():
        first = next(iter(group.arms.values()))
        assert first.remedy is None
        assert set(group.beside) <= set(group.columns)


def test_every_remedy_that_is_trained_with_is_held_against_equal_compute():
    held = [a for g in equal_compute.GROUPS.values() for a in g.arms.values()]
    for arms_of in (
        experiments.sink_ablation(),
        experiments.pauses_continued(),
        experiments.pauses_from_scratch(),
        experiments.histories(True),
        experiments.histories(False),
        experiments.remedies_on_backcopy(),
        experiments.remedies_on_retrieval(),
    ):
        remedied = [a for a in arms_of.values() if a.remedy is not None]
        assert remedied
        assert all(arm in held for arm in remedied)
