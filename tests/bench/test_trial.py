import json
from dataclasses import asdict, replace

import pytest
import small_bench
import torch

from gnnbridge.bench.cells import Cell, Effort, Job, Settings
from gnnbridge.bench.materials import Materials
from gnnbridge.bench.metrics import mean_absolute_error
from gnnbridge.bench.models.registry import MODELS
from gnnbridge.bench.rewirings import REWIRINGS
from gnnbridge.bench.search import draw
from gnnbridge.bench.trial import (
    Missing,
    attempt,
    of_record,
    run_job,
    run_trial,
    trial_key,
)

SETTINGS = Settings(learning_rate=0.05, dropout=0.1, strength=0.5)
EFFORT = Effort(steps=8, draws=2, seeds=2)


def job(cell=None, **changes):
    cell = cell or Cell('classes', 'quick')
    return replace(Job(cell, SETTINGS, 3, EFFORT, 'final'), **changes)


def timeless(trial):
    return replace(trial, seconds=0.0)


def test_a_record_has_the_schema_and_comes_back():
    trial = run_job(job(Cell('classes', 'quick', 'turned')),
                    small_bench.materials())  # fmt: skip
    record = json.loads(json.dumps(trial.to_record(), allow_nan=False))
    assert list(record) == [
        'key', 'task', 'model', 'rewiring', 'stage', 'seed', 'settings',
        'effort', 'val', 'test', 'train', 'best_step', 'steps', 'seconds',
        'parameters', 'trained', 'relations', 'answers', 'failed',
    ]  # fmt: skip
    assert record['settings'] == asdict(SETTINGS)
    assert (record['stage'], record['seed']) == ('final', 3)
    assert record['failed'] is None
    # Two maps from 3 to 3 with biases; five weights are frozen.
    assert (record['parameters'], record['trained']) == (24 + 5, 24)
    assert record['relations'] == 2
    assert record['steps'] == 8
    assert of_record(trial.job, record) == trial


def test_a_trial_is_the_same_every_time():
    a, b = (run_job(job(), small_bench.materials()) for _ in range(2))
    assert timeless(a) == timeless(b)
    shared = small_bench.materials()
    for state in range(2):
        torch.manual_seed(state)  # dropout must not depend on it
        assert timeless(run_job(job(), shared)) == timeless(a)
    other = run_job(job(seed=4), shared)
    assert (other.val, other.test) != (a.val, a.test)


def test_a_trial_leaves_the_caller_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_job(job(), small_bench.materials())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.rand(3), expected)


def test_rewiring_settings_and_effort_arrive():
    asked = []

    def rewired(name, splits, strength, seed):
        asked.append((name, strength, seed))
        return splits, 3

    def build_model(name, task, **given):
        asked.append((name, given))
        return small_bench.build_model(name, task, **given)

    parts = small_bench.PARTS._replace(rewired=rewired, build_model=build_model)
    materials = type(small_bench.materials())(parts)
    trial = run_trial(
        Cell('classes', 'quick', 'turned'), SETTINGS, 3, EFFORT,
        materials=materials,
    )  # fmt: skip
    given = {'budget': 64_000, 'relations': 3, 'dropout': 0.1, 'seed': 3}
    assert asked == [('turned', 0.5, 3), ('quick', given)]
    assert trial.job.stage == 'final'


def test_a_model_without_relations_takes_all_edges_alike():
    materials = small_bench.materials()
    trial = run_job(job(Cell('classes', 'slow', 'turned')), materials)
    assert trial.failed is None
    assert trial.relations == 1


@pytest.mark.parametrize(
    ('cell', 'reason'),
    [
        (Cell('classes', 'diverging'), 'Diverged: the loss is nan'),
        (
            Cell('classes', 'quick', 'unsuited'),
            'ValueError: Expected an undirected graph (got a directed one).',
        ),
        (
            Cell('classes', 'refused'),
            "ValueError: Expected 'budget' to hold a model.",
        ),
    ],
)
def test_what_fails_is_recorded_as_a_guess(cell, reason):
    trial = run_job(
        job(cell, effort=replace(EFFORT, evaluations=1)),
        small_bench.materials(),
    )
    assert trial.failed == reason
    assert trial.val == trial.test == trial.train == 1 / 3
    assert trial.key == trial_key(trial.job, small_bench.materials())
    json.dumps(trial.to_record(), allow_nan=False)


def test_a_guess_where_the_task_names_none():
    materials = small_bench.materials()
    failed = run_job(job(Cell('targets', 'diverging')), materials)
    assert failed.test == 0
    failed = run_job(job(Cell('distance', 'diverging')), materials)
    train, _, test = materials.splits('distance', 3)
    y = torch.cat([graph.y for graph in train])
    known = [column[~column.isnan()] for column in y.T]
    median = torch.stack(
        [torch.sort(k).values[(len(k) - 1) // 2] for k in known]
    )
    answers = torch.cat([graph.y for graph in test])
    expected = mean_absolute_error(median.expand_as(answers), answers)
    assert failed.test == pytest.approx(expected)


@pytest.mark.parametrize(
    ('task', 'error'),
    [('absent', FileNotFoundError), ('without_package', ImportError)],
)
def test_a_missing_task_is_no_failure_of_a_model(task, error):
    with pytest.raises(error):
        run_job(job(Cell(task, 'quick')), small_bench.materials())


@pytest.mark.parametrize(
    ('task', 'reason'),
    [
        ('absent', "Expected 'absent' in 'None'. Get it."),
        ('without_package', 'Expected a package.'),
        ('damaged', 'EOFError: a file ends early'),
    ],
)
def test_a_task_that_cannot_be_loaded_is_told_in_one_line(task, reason):
    found = attempt(job(Cell(task, 'quick')), small_bench.materials())
    assert found == Missing(reason)


def test_keys_tell_what_decides():
    materials = small_bench.materials()
    key = trial_key(job(), materials)
    assert key == trial_key(job(), small_bench.materials())
    more = replace(EFFORT, draws=9, seeds=9)
    assert trial_key(job(effort=more), materials) == key
    others = [
        job(Cell('distance', 'quick')),
        job(Cell('classes', 'slow')),
        job(Cell('classes', 'quick', 'turned')),
        job(settings=replace(SETTINGS, learning_rate=0.06)),
        job(settings=replace(SETTINGS, dropout=0.0)),
        job(settings=replace(SETTINGS, strength=1.0)),
        job(seed=4),
        job(stage='search'),
        job(effort=replace(EFFORT, steps=9)),
        job(effort=replace(EFFORT, budget=9)),
        job(effort=replace(EFFORT, batch_nodes=9)),
        job(effort=replace(EFFORT, evaluations=9)),
    ]
    keys = {trial_key(other, materials) for other in others}
    sized = small_bench.materials(sizes={'classes': {'graphs': 9}})
    keys.add(trial_key(job(), sized))
    elsewhere = small_bench.materials(device='cuda')
    keys.add(trial_key(job(), elsewhere))
    assert len(keys - {key}) == len(others) + 2


def test_keys_depend_on_the_version(monkeypatch):
    key = trial_key(job(), small_bench.materials())
    monkeypatch.setattr('gnnbridge.bench.trial._VERSION', '9.9.9')
    assert trial_key(job(), small_bench.materials()) != key


@pytest.fixture(scope='module')
def real():
    """The library's own tasks, models and rewirings, with few graphs."""
    sizes = {'graphs': (8, 4, 4), 'size': 6}
    return Materials(sizes={'ring_transfer': sizes})


@pytest.mark.parametrize('model', list(MODELS))
def test_every_model_runs_and_twice_the_same(real, model):
    cell = Cell('ring_transfer', model, 'virtual_node')
    settings = Settings(learning_rate=0.01, dropout=0.1, strength=1.0)
    effort = Effort(steps=3, evaluations=1)
    a, b = (
        run_trial(cell, settings, 1, effort, materials=real) for _ in range(2)
    )
    assert a.failed is None
    assert timeless(a) == timeless(b)
    assert 0 < a.trained <= a.parameters <= effort.budget
    assert a.relations == (3 if MODELS[model].relations else 1)


@pytest.mark.parametrize('rewiring', list(REWIRINGS))
def test_every_rewiring_runs(real, rewiring):
    cell = Cell('ring_transfer', 'gcn', rewiring)
    settings = draw(0, real.parts.strengths(rewiring))
    trial = run_trial(cell, settings, 1, Effort(steps=1), materials=real)
    assert trial.failed is None
    assert trial.relations == REWIRINGS[rewiring].relations
