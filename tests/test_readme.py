"""What the README shows works and is true."""

from __future__ import annotations

import importlib
import json
import math
import re
from pathlib import Path
from statistics import median

import experiments
import matched
import pytest
import running

from gnnbridge.bench.leaderboard import leaderboard

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def test_the_first_example_runs(capsys):
    code = re.findall(r'```python\n(.*?)```', README, re.DOTALL)[0]
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 15
    names: dict[str, object] = {}
    exec(compile(code, 'README.md', 'exec'), names)
    assert 'edge_index=[2' in capsys.readouterr().out
    length = names['ids'].size(1)
    assert names['rewired'].size(1) == length + 16


def test_the_example_of_remedies_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r'```python\n(.*?)```', README, re.DOTALL)[1]
    names: dict[str, object] = {}
    exec(compile(code, 'README.md', 'exec'), names)
    applied = names['remedies'].applied
    assert [one.name for one in applied(names['model'])] == ['sink_logit']
    assert [one.name for one in applied(names['fresh'])] == ['differential']


def test_links_lead_somewhere():
    links = re.findall(r'\]\((?!https?:)([^)#]+)\)', README)
    assert len(links) == 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_errors_are_those_of_the_benchmark():
    path = ROOT / 'benchmarks' / 'results' / 'parity.json'
    rows = json.loads(path.read_text())['architectures']
    table = dict(re.findall(r'^\| `(\w+)` \| (\S+) \|', README, re.MULTILINE))
    assert table == {k: f'{v["logits"]:.1e}' for k, v in rows.items()}


def test_the_speeds_are_those_of_the_benchmark(monkeypatch):
    folder = ROOT / 'benchmarks'
    results = json.loads(
        (folder / 'results' / 'attention_kernels.json').read_text()
    )
    monkeypatch.syspath_prepend(str(folder))
    from attention.table import table

    assert table(results) in README


def test_the_times_of_resistances_are_those_of_the_benchmark(monkeypatch):
    folder = ROOT / 'benchmarks'
    path = folder / 'results' / 'spectral.json'
    monkeypatch.syspath_prepend(str(folder))
    from spectral import table

    shown = (folder / 'README.md').read_text()
    assert table(json.loads(path.read_text())) in shown


def test_the_correlations_are_those_of_the_benchmark(monkeypatch):
    folder = ROOT / 'benchmarks'
    path = folder / 'results' / 'resistance_vs_jacobian.json'
    monkeypatch.syspath_prepend(str(folder))
    from jacobians.table import tables

    shown = (folder / 'README.md').read_text()
    for table in tables(json.loads(path.read_text())).values():
        assert table in shown


def test_the_figures_of_rewiring_are_those_of_the_benchmarks(monkeypatch):
    folder = ROOT / 'benchmarks'
    monkeypatch.syspath_prepend(str(folder))
    import causal_edges
    import rewiring_speed
    from rewired.table import tables

    def results(name):
        return json.loads((folder / 'results' / f'{name}.json').read_text())

    shown = (folder / 'README.md').read_text()
    assert causal_edges.table(results('causal_edges')) in shown
    assert rewiring_speed.table(results('rewiring_speed')) in shown
    for table in tables(results('rewired_attention')).values():
        assert table in shown


def test_the_distances_of_last_tokens_are_those_of_the_benchmark(monkeypatch):
    folder = ROOT / 'benchmarks'
    path = folder / 'results' / 'last_token_collapse.json'
    monkeypatch.syspath_prepend(str(folder))
    from last_token_collapse import table

    shown = (folder / 'README.md').read_text()
    assert table(json.loads(path.read_text())) in shown


def test_the_errors_of_estimates_are_those_of_the_benchmark(monkeypatch):
    folder = ROOT / 'benchmarks'
    path = folder / 'results' / 'hutchinson.json'
    monkeypatch.syspath_prepend(str(folder))
    from hutchinson import table

    result = json.loads(path.read_text())
    assert table(result) in (folder / 'README.md').read_text()
    # What the estimate is for.
    for found in result['models'].values():
        error = found['errors']['median_relative_error']['default']
        assert error['mean'] <= result['bars']['median_relative_error']
        assert found['speed']['wall_s']['speedup'] >= result['bars']['speedup']


def test_the_cost_of_a_profile_is_that_of_the_benchmark(monkeypatch):
    folder = ROOT / 'benchmarks'
    monkeypatch.syspath_prepend(str(folder))
    from profile_cost import summary

    path = folder / 'results' / 'profile_cost.json'
    said = summary(json.loads(path.read_text()))
    assert said in ' '.join(README.split())


def test_the_tables_of_the_experiments_are_their_results():
    folder = ROOT / 'benchmarks'
    shown = (folder / 'paper' / 'README.md').read_text()
    for name in (
        'sink_ablation', 'pause_placement', 'resistance_profile',
        'differential_history', 'equal_compute', 'depth_width',
        'all_remedies',
    ):  # fmt: skip
        path = folder / 'results' / f'paper_{name}.json'
        experiment = importlib.import_module(name)
        assert experiment.show(json.loads(path.read_text())) in shown
        assert f'paper_{name}.png' in shown


def test_the_tables_of_graph_tasks_are_their_results():
    folder = ROOT / 'benchmarks'
    shown = (folder / 'gnn' / 'README.md').read_text()
    for name in (
        'leaderboard', 'ring_distance', 'tree_bottleneck', 'over_smoothing',
        'failure_modes', 'throughput',
    ):  # fmt: skip
        path = folder / 'results' / f'gnn_{name}.json'
        benchmark = importlib.import_module(name)
        assert benchmark.show(json.loads(path.read_text())) in shown
        assert name == 'throughput' or f'gnn_{name}.png' in shown
    benchmark = importlib.import_module('leaderboard')
    for name in ('stored', 'relations'):
        path = folder / 'results' / f'gnn_{name}.json'
        assert benchmark.show(json.loads(path.read_text())) in shown
        assert f'gnn_{name}.png' in shown


@pytest.mark.parametrize('name', ['leaderboard', 'stored', 'relations'])
def test_leaderboards_are_their_results(name):
    folder = ROOT / 'benchmarks' / 'results'
    summary = json.loads((folder / f'gnn_{name}.json').read_text())
    assert leaderboard(summary) == (folder / f'gnn_{name}.md').read_text()
    assert summary['suite'] == 'default'
    assert summary['skipped'] == {}
    assert len(summary['seeds']) >= 5


def test_runs_that_share_cells_found_the_same():
    """What benchmarks/gnn/README.md says of edges with a relation."""
    folder = ROOT / 'benchmarks' / 'results'
    suite, again = (
        {
            (one['task'], one['model'], one['rewiring']): one['values']
            for one in json.loads(path.read_text())['cells']
        }
        for path in (
            folder / 'gnn_leaderboard.json',
            folder / 'gnn_relations.json',
        )
    )
    shared = suite.keys() & again.keys()
    assert len(shared) == 48
    assert all(suite[key] == again[key] for key in shared)
    means = {key[1:]: sum(v) / len(v) for key, v in again.items()}
    models = dict.fromkeys(model for model, _ in means)

    def more(own, other):
        return [100 * (means[m, own] - means[m, other]) for m in models]

    placing = more('fosr', 'random_relation')
    assert f'{median(more("random_relation", "random")):.1f}' == '2.2'
    assert f'{median(placing):.1f}' == '3.2'
    by_size = [f'{one:.1f}' for one in sorted(placing)]
    assert by_size[:4] == ['-1.6', '-1.2', '0.4', '3.0']
    assert by_size[-1] == '4.5'


def test_decoders_that_were_trained_again_answer_alike():
    """What benchmarks/paper/README.md says of figures of two sections."""
    folder = ROOT / 'benchmarks' / 'results'

    def groups(name):
        path = folder / f'paper_{name}.json'
        return json.loads(path.read_text())['groups']

    answers = (
        'accuracy/16', 'accuracy/31', 'under_noise/16', 'under_noise/31',
        'nearest/16',
    )  # fmt: skip
    mixing = ('loss', 'residual', 'effective_rank', 'spread')
    both = {
        'retrieval': ('all_remedies', 'retrieval', answers),
        'scratch': ('pause_placement', 'from scratch', answers),
        'prose': ('differential_history', 'text', ('loss', 'beyond_training')),
        'backcopy': ('all_remedies', 'backcopy', mixing),
        'sinks': ('sink_ablation', 'trained', mixing),
    }
    beyond, count = [], 0
    for group, (experiment, other_group, keys) in both.items():
        others = groups(experiment)[other_group]
        for name, found in groups('equal_compute')[group].items():
            same = 'none' if name not in others and name == 'softmax' else name
            known = others.get(same)
            for key in keys if known else ():
                one, other = (matched.figure(x, key) for x in (found, known))
                if isinstance(other['mean'], list):  # by layer
                    other = running.at(other, -1)
                spread = math.hypot(one['deviation'], other['deviation'])
                # Of losses, nothing below a thousandth is told apart.
                least = 1e-3 if key == 'loss' else 0
                if abs(one['mean'] - other['mean']) > max(spread, least):
                    beyond.append((name, key))
                count += 1
    assert count == 135
    assert beyond == [
        ('differential', 'under_noise/31'), ('no first token', 'spread'),
    ]  # fmt: skip


def test_mixing_at_equal_compute():
    """What benchmarks/paper/README.md says of mixing and of inserted sinks."""
    path = ROOT / 'benchmarks' / 'results' / 'paper_equal_compute.json'
    groups = json.loads(path.read_text())['groups']

    def beyond(group, name, key):
        return matched.beyond_plain(groups[group], name, key)

    steps = matched.plain(groups['backcopy'])
    runs = [groups['backcopy'][name]['spread'] for name in steps]
    assert [f'{one["mean"]:.4f}' for one in runs] == [
        '0.0176', '0.0165', '0.0156',
    ]  # fmt: skip
    for values in zip(*(one['values'] for one in runs), strict=True):
        assert sorted(values, reverse=True) == list(values)
    ranks = {}
    for name in ('sigmoid', 'sink_logit', 'softmax_one', 'differential'):
        found = beyond('backcopy', name, 'residual')
        assert min(found['values']) > 0
        ranks[name] = running.cell(found)
    assert list(ranks.values()) == [
        '0.08 ± 0.05', '0.07 ± 0.05', '0.06 ± 0.04', '0.09 ± 0.06',
    ]  # fmt: skip
    for name in ('sigmoid', 'sink_logit', 'gated', 'softmax_one'):
        found = beyond('backcopy', name, 'spread')
        assert -0.0025 < found['mean'] < -0.0005
        assert abs(found['mean']) < 1.1 * found['deviation']
        assert max(found['values']) > -0.0005
    lead = {name: beyond('sinks', name, 'spread') for name in experiments.SINKS}
    assert [f'{one["mean"]:.3f}' for one in lead.values()] == [
        '-0.003', '-0.002', '0.002', '-0.002',
    ]  # fmt: skip
    for name in ('sink at 0', 'sink in the middle', 'three sinks'):
        assert max(lead[name]['values']) < 0


def test_widths_at_equal_operations():
    """What benchmarks/paper/README.md says of widths at each learning rate."""
    path = ROOT / 'benchmarks' / 'results' / 'paper_equal_compute.json'
    found = json.loads(path.read_text())['groups']['rates']
    rates = ('0.0015', '0.003', '0.006')

    def right(name, bindings):
        return [
            found[f'{name} at {rate}']['under_noise'][bindings]
            for rate in rates
        ]

    def best(name, bindings):
        means = [one['mean'] for one in right(name, bindings)]
        return f'{max(means):.2f}'

    narrow, middle = '3x16, 9.8 times the steps', '3x32, 3.4 times the steps'
    leads = []
    for one, other in zip(right('3x64', '8'), right(narrow, '8'), strict=True):
        both = zip(one['values'], other['values'], strict=True)
        assert all(a > b for a, b in both)
        leads.append(f'{one["mean"] - other["mean"]:.2f}')
    assert leads == ['0.33', '0.15', '0.05']
    shapes = (narrow, middle, '3x64')
    assert [best(name, '8') for name in shapes] == ['0.92', '0.91', '0.97']
    assert [best(name, '16') for name in shapes] == ['0.80', '0.78', '0.82']
    usual = ('3x16', '3x32')
    assert [best(name, '8') for name in usual] == ['0.59', '0.88']
    assert [best(name, '16') for name in usual] == ['0.41', '0.68']
    wide = '3x64, 3.6 times the steps'
    assert [best(wide, '8'), best(wide, '16')] == ['0.97', '0.85']
    assert [best('3x128', '8'), best('3x128', '16')] == ['0.99', '0.86']


@pytest.mark.parametrize('folder', ['gnn', 'paper'])
def test_links_within_a_page_lead_somewhere(folder):
    page = (ROOT / 'benchmarks' / folder / 'README.md').read_text()
    assert not re.search(r'\]\([^)]*\n', page)
    heads = {
        re.sub(r'[^\w -]', '', head.lower()).replace(' ', '-')
        for head in re.findall(r'^#+ (.+)$', page, re.M)
    }
    links = set(re.findall(r'\]\(#([^)]+)\)', page))
    assert links
    assert links <= heads
