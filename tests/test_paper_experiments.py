"""The experiments of benchmarks/paper: what they compare and measure."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import answering
import arms
import experiments
import influence
import mixing
import pytest
import reading
import running
import sinks
import tasks
import torch
import transformers

from gnnbridge.remedies.differential import Differential

PAPER = Path(arms.__file__).parent
COMMANDS = (
    'sink_ablation',
    'pause_placement',
    'resistance_profile',
    'differential_history',
    'depth_width',
    'equal_compute',
    'all_remedies',
)


def new(arm):
    return arms.tiny(arm).first(0, Path('nowhere'))


def every_arm():
    found = [
        *experiments.sink_ablation().values(),
        *experiments.sink_replacement().values(),
        *experiments.deep_sinks().values(),
        *experiments.pauses_continued().values(),
        *experiments.pauses_frozen().values(),
        *experiments.pauses_from_scratch().values(),
        *experiments.histories(True).values(),
        *experiments.histories(False).values(),
        *experiments.sizes().values(),
        *experiments.retrieval_at_equal_compute().values(),
        *experiments.pauses_at_equal_compute().values(),
        *experiments.scratch_at_equal_compute().values(),
        *experiments.sinks_at_equal_compute().values(),
        *experiments.prose_at_equal_compute().values(),
        *experiments.backcopy_at_equal_compute().values(),
        *experiments.shapes_at_equal_compute().values(),
        *experiments.remedies_on_backcopy().values(),
        *experiments.remedies_on_retrieval().values(),
    ]
    return [
        one
        for arm in found
        for one in ([arm.at(rate) for rate in arm.rates] or [arm])
    ]


def test_every_arm_has_a_place_of_its_own():
    places = {}
    for arm in every_arm():
        known = places.setdefault(arm.directory(0, Path()), arm)
        assert known == arm


@pytest.mark.parametrize(
    ('losses', 'rate'),
    [
        ({1e-3: 2.0, 3e-3: 0.5, 6e-3: 1.0}, 3e-3),
        # Near ties go to the lowest rate, whichever of them comes first.
        ({1e-3: 0.0009, 3e-3: 0.0003, 6e-3: 0.0002}, 1e-3),
        ({6e-3: 0.0009, 3e-3: 0.0001, 1e-3: 0.0004}, 1e-3),
        ({1e-3: 0.0205, 3e-3: 0.0099, 6e-3: 0.0}, 3e-3),
        ({1e-3: 1.83, 3e-3: 1.81, 6e-3: 1.84}, 3e-3),
    ],
)
def test_the_lowest_of_the_best_learning_rates_is_chosen(losses, rate):
    assert arms.chosen(losses) == rate


def test_all_seeds_are_trained_at_the_chosen_rate(monkeypatch):
    given = []
    losses = {1e-3: 2.0, 3e-3: 0.5, 6e-3: 0.4999}
    monkeypatch.setattr(arms.Arm, 'losses', lambda self, runs: losses)
    monkeypatch.setattr(
        arms, 'train', lambda *args, **settings: given.append((args, settings))
    )
    base = arms.tiny(arms.baseline(tasks.RETRIEVAL))
    arm = replace(base, rates=tuple(losses))
    arm.trained(1, Path('runs'))
    ((_, _, directory), settings) = given[0]
    assert settings['learning_rate'] == 3e-3
    assert directory == Path('runs/retrieval/baseline-0.003/1')


@pytest.mark.parametrize('size', arms.SIZES)
def test_an_arm_at_a_rate_is_one_run_at_every_size(size):
    sized = arms.SIZES[size]
    for arm in experiments.sizes().values():
        once = [sized(arm).at(rate) for rate in sized(arm).rates]
        assert once == [sized(arm.at(rate)) for rate in arm.rates]
        assert len({one.directory(0, Path()) for one in once}) == len(once)


def test_losses_at_each_rate(monkeypatch):
    history = {1e-3: [(50, 9.0), (100, 4.0), (150, 2.0)], 2e-3: [(50, 1.0)]}
    monkeypatch.setattr(arms, 'train', lambda *args, **settings: None)
    monkeypatch.setattr(
        arms,
        'loss_history',
        lambda directory: history[float(directory.parent.name.split('-')[1])],
    )
    base = arms.tiny(arms.baseline(tasks.RETRIEVAL))
    arm = replace(base, rates=tuple(history))
    # The mean of the last two that were logged.
    assert arm.losses(Path()) == {1e-3: 3.0, 2e-3: 1.0}


def test_kinds_of_differential_attention_have_as_many_parameters():
    counts = {
        name: sum(p.numel() for p in arm.first(0, Path()).parameters())
        for name, arm in experiments.histories(True).items()
    }
    # Lambda's four vectors, and one or two numbers for each of two heads.
    assert counts.pop('softmax') == 176704
    assert set(counts.values()) == {176896, 176902, 176908}


def test_shapes_at_one_size_are_of_one_size():
    found = experiments.sizes()
    counts = [
        sum(p.numel() for p in found[name].first(0, Path()).parameters())
        for name in experiments.SHAPES['depth at one size']
    ]
    assert max(counts) <= 1.11 * 176704
    assert min(counts) >= 0.9 * 176704


def test_large_arms_are_for_a_gpu():
    for arm in every_arm():
        large = arms.large(arm)
        assert large.config().hidden_size == 8 * arm.width
        assert (large.start is None) == (arm.start is None)
    base = arms.large(arms.baseline(tasks.TEXT))
    with torch.device('meta'):
        model = transformers.LlamaForCausalLM(base.config())
    assert 20e6 < sum(p.numel() for p in model.parameters()) < 40e6


def test_arms_start_from_the_same_weights():
    plain = new(experiments.sink_ablation()['first token'])
    gated = new(experiments.remedies_on_backcopy()['gated'])
    own = plain.state_dict()
    for name, value in gated.state_dict().items():
        if name in own:
            assert torch.equal(own[name], value), name


def test_task_without_first_token():
    with_first = tasks.BACKCOPY.streams(10)[0]
    without = tasks.BACKCOPY_WITHOUT_FIRST.streams(10)[0]
    drawn = [
        stream.draw(0, torch.Generator().manual_seed(3))['input_ids']
        for stream in (with_first, without)
    ]
    assert (drawn[0][:, 0] == tasks.VOCABULARY.bos).all()
    assert torch.equal(drawn[0][:, 1:], drawn[1])


@pytest.fixture(scope='module')
def ids():
    generator = torch.Generator().manual_seed(0)
    return tasks.backcopy_source().draw(4, 12, generator=generator)


def test_states_are_those_of_transformers(ids):
    model = new(experiments.sink_ablation()['first token'])
    found = reading.states(model, ids)
    told = model(ids, output_hidden_states=True).hidden_states
    assert torch.equal(found[:-1], torch.stack(told[:-1]))
    # The last one of transformers is behind the last norm.
    assert torch.equal(model.model.norm(found[-1]), told[-1])


def test_maps_with_history_are_those_of_the_layers(ids):
    model = new(experiments.histories(True)['with runway history'])
    maps = reading.attention(model, ids)
    assert maps.shape == (2, 4, 4, 12, 12)
    assert torch.allclose(maps.sum(-1), torch.ones(2, 4, 4, 12), atol=1e-6)
    assert maps.triu(1).abs().max() == 0
    # Without a share of history they are those that capture() finds.
    plain, without = (
        arms.remedied(tasks.TEXT, Differential(history=kind, rho=0.0))
        for kind in (None, 'runway')
    )
    usual = reading.attention(new(plain), ids)
    assert torch.allclose(
        reading.attention(new(without), ids), usual, atol=1e-6
    )
    assert not torch.allclose(maps, usual, atol=1e-3)


def test_inserted_tokens_are_told_from_others(ids):
    arm = experiments.sink_ablation()['three sinks']
    model = new(arm)
    places = reading.places(model, ids[:, 1:], 11)
    assert places.inserted.tolist() == [0, 6, 12]
    assert places.readout == 13
    assert places.original.tolist() == [*range(1, 6), *range(7, 12), 13]


def test_shares_of_attention_are_those_of_a_loop(ids):
    model = new(experiments.sink_ablation()['three sinks'])
    found = sinks.shares(model, ids[:, 1:], 11, 0)
    maps = reading.attention(model, ids[:, 1:], 11).mean((1, 2))
    own, inserted = [*range(1, 6), *range(7, 12), 13], [0, 6, 12]
    for layer in range(2):
        given = [maps[layer, i] for i in own]
        expected = {
            'first': sum(row[1] for row in given) / 11,
            'inserted': sum(row[j] for row in given for j in inserted) / 11,
            'itself': sum(maps[layer, i, i] for i in own) / 11,
            'nowhere': torch.zeros(()),
        }
        for name, value in expected.items():
            assert found[name][layer] == pytest.approx(float(value), abs=1e-6)
    # New weights attend uniformly: the mean of 1 / (i + 1) over 14 queries.
    uniform = sum(1 / i for i in range(1, 15)) / 14
    assert found['largest_score'] == pytest.approx([uniform] * 2, rel=0.2)


def test_a_change_spreads_to_later_tokens_alone(ids):
    model = new(experiments.sink_ablation()['first token'])
    generator = torch.Generator().manual_seed(0)
    found = mixing.spread(model, ids, None, 1, generator)['spread']
    assert found[0] == 0
    assert all(value > 0 for value in found[1:])


def test_jacobian_is_that_of_autograd(ids):
    model = new(experiments.sink_ablation()['first token'])
    norms = influence.last_token_jacobian(model, ids[:1])
    embedded = model.get_input_embeddings()(ids[:1]).detach()

    def final(x):
        return model.model(inputs_embeds=x).last_hidden_state[0, -1]

    full = torch.autograd.functional.jacobian(final, embedded)[:, 0]
    assert torch.allclose(norms[0], full.square().sum((0, 2)).sqrt(), rtol=1e-4)


def test_resistance_of_uniform_attention_is_that_of_the_closed_form(ids):
    model = new(experiments.sink_ablation()['first token'])
    for block in model.model.layers:
        torch.nn.init.zeros_(block.self_attn.q_proj.weight)
    found = influence.last_token_resistance(model, ids)
    # The walk from the last of n tokens is at j + 1 with probability 1/(j+2)
    # at some time, and leaves a token with probability (n - 1) / n.
    n = ids.size(1)
    j = torch.arange(n - 1).double()
    expected = n / (n - 1) * (j + 1)
    assert torch.allclose(found[0, 0, :-1], expected, rtol=1e-4)


def test_questions_are_answered_by_the_value_of_the_asked_key():
    asked = answering.questions(5, rows=6)
    for row, gold, answer in zip(
        asked.ids, asked.gold, asked.answer, strict=True
    ):
        keys, values = row[1:11:2], row[2:11:2]
        assert row[-2] == tasks.VOCABULARY.query
        assert keys[gold] == row[-1]
        assert values[gold] == answer


def test_figures_over_seeds():
    found = running.over_seeds(
        [{'a': 1.0, 'b': [1.0, 2.0]}, {'a': 3.0, 'b': [1.0, 4.0]}]
    )
    assert found['a'] == {
        'mean': 2.0,
        'deviation': pytest.approx(2**0.5),
        'values': [1.0, 3.0],
    }
    assert found['b']['mean'] == [1.0, 3.0]
    assert running.over_seeds([1.0, float('nan')]) is None
    assert running.cell(None) == '-'
    assert running.rounded({'x': [0.12345678]}) == {'x': [0.123457]}


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_every_experiment_runs_from_one_command(name, tmp_path):
    command = [
        sys.executable, str(PAPER / f'{name}.py'), '--size', 'tiny',
        '--seeds', '0', '--runs', tmp_path, '--results', tmp_path,
    ]  # fmt: skip
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-2000:]
    assert first.stdout.splitlines()[-1].startswith('|')
    path = tmp_path / f'paper_{name}_tiny.json'
    result = json.loads(path.read_text())
    assert result['size'] == 'tiny'
    assert path.with_suffix('.png').stat().st_size > 10_000
