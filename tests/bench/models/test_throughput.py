"""The benchmark of training steps, without its larger sizes."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / 'benchmarks'


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / 'gnn'))
    return importlib.import_module('throughput')


def test_the_graph_has_ten_edges_into_each_node(throughput):
    data = throughput.graph(2000)
    assert 9.8 < data.edge_index.size(1) / 2000 < 10
    assert not data.has_self_loops()
    assert data.is_undirected()


def test_a_step_lowers_the_loss_of_what_is_trained(throughput):
    data = throughput.graph(50)
    for name in ('gcn', 'converted_frozen'):
        step = throughput.Step(name)
        losses = [float(step(data)) for _ in range(15)]
        assert losses[-1] < losses[0]


def test_every_model_steps_once_a_round(throughput):
    names = ('gcn', 'gps')
    times = throughput.seconds(names, 40, limit=0.0)
    assert {name: len(found) for name, found in times.items()} == {
        'gcn': 3,
        'gps': 3,
    }
    assert all(one > 0 for found in times.values() for one in found)


def test_growth_is_continued(throughput):
    known = {10: 7.0, 100: 2.0, 1000: 200.0}
    assert throughput.predicted(known, 10_000) == pytest.approx(20_000)
    # Nothing grows more slowly than the graph.
    assert throughput.predicted({10: 5.0, 100: 6.0}, 1000) == pytest.approx(60)


def test_what_cannot_be_run_is_not(throughput, monkeypatch):
    monkeypatch.setattr(throughput, 'free_memory', lambda: 10 * 2**30)

    def refused(gib, seconds):
        done = {
            n: {'m': {'bytes': gib * n * 2**30, 'seconds': seconds * n}}
            for n in (1000, 10_000)
        }
        return throughput.refusal('m', 100_000, done)

    assert refused(7e-5, 2e-3) is None
    assert refused(41e-5, 1e-3) == 'out of memory (predicted 41 GiB)'
    assert refused(7e-5, 12e-3) is None
    assert refused(7e-5, 42e-3) == 'too slow (predicted 70 min a step)'
    stopped = {10**3: {'m': {}}, 10**5: {'m': {'not_run': 'too slow'}}}
    said = throughput.refusal('m', 10**6, stopped)
    assert said == 'not run (nor at 100,000 nodes)'


def test_sizes_that_are_predicted_bring_those_they_are_predicted_by(
    throughput, monkeypatch
):
    seen = {}

    def measure(names, nodes, done):
        seen[nodes] = sorted(done)
        return {
            name: {'not_run': 'too slow (predicted 70 min a step)'}
            if (name, nodes) == ('gps', 100_000)
            else {'bytes': nodes * 2**10, 'seconds': 0.25, 'rounds': [0.25] * 3}
            for name in names
        }

    monkeypatch.setattr(throughput, 'measure', measure)
    kept = []
    result = throughput.run([100_000], lambda r: kept.append(len(r['sizes'])))
    assert kept == [1, 2, 3]
    assert seen == {1000: [], 10_000: [1000], 100_000: [1000, 10_000]}
    first, second = throughput.show(result).split('\n\n')
    lines = first.splitlines()
    assert lines[0] == (
        '| model | width | 1,000 nodes | 10,000 nodes | 100,000 nodes |'
    )
    gps = next(line for line in lines if '`gps`' in line)
    assert gps.endswith(
        '| 250 ms, 1 MiB | 250 ms, 10 MiB | '
        'too slow (predicted 70 min a step) |'
    )
    assert len(lines) == 2 + 12
    assert '| differential beside gps | 1, 1 times | 1, 1 times |  |' in second


def test_models_that_cannot_run_are_named_and_left_out(throughput, monkeypatch):
    def peak(name, nodes):
        if name == 'gps':
            raise throughput.BrokenProcessPool
        return 1000, 0.5

    monkeypatch.setattr(throughput, 'peak', peak)
    monkeypatch.setattr(throughput, 'ROUNDS', 0.0)
    found = throughput.measure(('sage', 'gps'), 30, {})
    assert found['gps'] == {'not_run': 'out of memory'}
    assert found['sage']['bytes'] == 1000
    _, middle, _ = sorted(found['sage']['rounds'])
    assert found['sage']['seconds'] == pytest.approx(middle, abs=1e-5)


def test_a_step_that_takes_long_is_made_once(throughput, monkeypatch):
    took = {'sage': 2.0, 'gps': 400.0}
    monkeypatch.setattr(throughput, 'peak', lambda name, _: (1000, took[name]))
    monkeypatch.setattr(
        throughput,
        'seconds',
        lambda names, *_: {name: [1.0, 2.0, 3.0] for name in names},
    )
    done = {
        n: {
            name: {'bytes': n, 'seconds': t * n / 1e5}
            for name, t in took.items()
        }
        for n in (1000, 10_000)
    }
    found = throughput.measure(('sage', 'gps'), 100_000, done)
    assert found['sage']['rounds'] == [1.0, 2.0, 3.0]
    assert found['gps']['rounds'] == [400.0]
    assert found['gps']['seconds'] == 400.0
    beside = throughput.times_as_fast(
        found['sage']['rounds'], found['gps']['rounds']
    )
    assert beside == 200.0


def test_rounds_are_compared_one_by_one(throughput):
    assert throughput.times_as_fast([1.0, 2.0, 4.0], [3.0, 4.0, 20.0]) == 3.0
    # A single step on either side.
    assert throughput.times_as_fast([4.0], [1.0, 2.0, 8.0]) == 0.5


def test_memory_and_seconds_of_a_fresh_process(throughput):
    added, took = throughput.peak('sage', 5000)
    # States of five layers, 77 numbers of each node, are kept for gradients.
    assert added > 5 * 5000 * 77 * 4
    assert took > 0
