"""The commands of benchmarks/gnn: what they measure, and that they run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bench_summary
import by_size
import failure_modes
import leaderboard
import networkx as nx
import numpy as np
import over_smoothing
import pytest
import ring_distance
import torch
import tree_bottleneck
from torch_geometric.data import Batch, Data
from torch_geometric.utils import from_networkx

from gnnbridge.bench.tasks.registry import make_task

GNN = Path(by_size.__file__).parent
COMMANDS = (
    'ring_distance', 'tree_bottleneck', 'over_smoothing', 'failure_modes',
)  # fmt: skip


def path_graph(size):
    return from_networkx(nx.path_graph(size))


class Constant(torch.nn.Module):
    """States that are given, whatever the graph."""

    def __init__(self, states):
        super().__init__()
        self.given = states

    def states(self, batch):
        return self.given


def test_energy_of_states():
    batch = Batch.from_data_list([path_graph(3)])
    x = torch.tensor([[0.0], [1.0], [1.0]])
    found = over_smoothing.energies(Constant([x, torch.ones(3, 1)]), batch)
    # Rows of the walk: 0 hears 1; 1 hears both with a half; 2 hears 1.
    energy = (1 + (1 + 0) / 2 + 0) / (2 * 3)
    assert found == pytest.approx([energy / (2 / 3), 0.0])


def test_curves_are_averaged_in_the_logarithm():
    records = [
        {'failed': None, 'test': 1.0, 'train': 1.0, 'width': 4,
         'before': [1.0, 1e-2], 'after': [1.0, 1.0]},
        {'failed': None, 'test': 0.5, 'train': 1.0, 'width': 4,
         'before': [1.0, 1e-4], 'after': [1.0, 1.0]},
        {'failed': 'the loss is nan', 'before': [1.0, 1.0]},
    ]  # fmt: skip
    found = over_smoothing.summed(records)
    assert found['before'] == pytest.approx([1.0, 1e-3])
    assert found['test'] == 0.75
    assert found['failed'] == ['the loss is nan']


def test_distances_follow_the_edges():
    edges = torch.tensor([[0, 1, 3], [1, 2, 2]])
    found = failure_modes._distances(Data(edge_index=edges, num_nodes=4))
    expected = torch.tensor(
        [[0, -1, -1, -1], [1, 0, -1, -1], [2, 1, 0, 1], [-1, -1, -1, 0]]
    )
    assert torch.equal(found, expected)


def test_norms_by_distance():
    norms = torch.tensor([[2.0, 1.0, 9.0], [1.0, 4.0, 3.0], [0.5, 1.0, 3.0]])
    distance = torch.tensor([[0, -1, -1], [1, 0, -1], [2, 1, 0]])
    found = failure_modes._by_distance(norms, distance)
    assert found == pytest.approx([1.0, 1 / 3, 0.5 / 3])


def test_agreement_of_resistance_and_jacobians():
    distance = torch.tensor([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    resistance = torch.tensor([[0.0, 1, 3], [1, 0, 2], [3, 2, 0]])
    found = failure_modes._agreement(resistance, -resistance, distance)
    assert found['spearman'] == pytest.approx(1)
    found = failure_modes._agreement(resistance, resistance, distance)
    assert found['given_distance'] == pytest.approx(-1)


def test_a_sweep_has_a_line_for_each_cell():
    cells = [
        {'model': 'gcn', 'rewiring': how, 'mean': mean, 'half_width': 0.1,
         'values': [mean - 0.01, mean, mean + 0.01]}
        for how, mean in (('none', 0.5), ('fosr', 0.8), ('random', 0.79))
    ]  # fmt: skip
    cells.append({'model': 'chance', 'mean': 0.2})
    result = {
        'axis': 'nodes',
        'cells': {'4': cells, '8': cells},
        'shows_train': False,
        'graphs': {'hops': {'fosr': {'4': 2.0, '8': 3.96}}},
    }
    shown = by_size.show(result).splitlines()
    assert shown[2:] == [
        '| gcn | 0.50 ± 0.10 | 0.50 ± 0.10 |',
        '| gcn + fosr | **0.80 ± 0.10** | **0.80 ± 0.10** |',
        '| gcn + random | **0.79 ± 0.10** | **0.79 ± 0.10** |',
        '| chance | 0.20 | 0.20 |',
        '',
        '| hops | 4 | 8 |',
        '| --- | --- | --- |',
        '| fosr | 2.0 | 4.0 |',
    ]


def test_accuracy_on_what_was_trained_on_is_shown_where_asked():
    cells = [
        {'model': 'gcn', 'mean': 0.5, 'half_width': 0.1,
         'values': [0.4, 0.6], 'train_mean': 0.3, 'train_values': [0.2, 0.4]},
        {'model': 'gin', 'mean': 0.5, 'half_width': 0.1,
         'values': [0.4, 0.6], 'train_mean': 1.0, 'train_values': [1.0, 1.0]},
        {'model': 'chance', 'mean': 0.25},
    ]  # fmt: skip
    result = {
        'axis': 'depth', 'cells': {'2': cells}, 'shows_train': True,
        'graphs': {},
    }  # fmt: skip
    assert by_size.show(result).splitlines()[2:] == [
        # Two values do not tell 0.3 from 1.
        '| gcn | **0.50 ± 0.10** (**0.30**) |',
        '| gin | **0.50 ± 0.10** (**1.00**) |',
        '| chance | 0.25 |',
    ]
    cells[0]['train_values'] = [0.3, 0.3]
    assert '| gcn | **0.50 ± 0.10** (0.30) |' in by_size.show(result)


def test_hops_of_a_ring():
    (graph,) = make_task('ring_transfer', size=9, graphs=(1, 1, 1)).load(0)[0]
    assert ring_distance.hops(graph) == 4
    asked = int(graph.target_mask.nonzero())
    told = int((graph.x.amax(1) - graph.x.amin(1)).argmax())
    chord = torch.tensor([[told], [asked]])
    graph.edge_index = torch.cat([graph.edge_index, chord], dim=1)
    assert ring_distance.hops(graph) == 1


@pytest.mark.parametrize('module', [ring_distance, tree_bottleneck])
def test_sweeps_name_cells_once_and_efforts_of_their_sizes(module):
    sweep = module.SWEEP
    assert len(set(sweep.cells)) == len(sweep.cells)
    assert set(sweep.efforts) <= set(sweep.sizes)


def test_batches_are_whole_trees_and_not_few():
    sweep = tree_bottleneck.SWEEP
    trees = {}
    for label, sizes in sweep.sizes.items():
        effort = sweep.efforts.get(label, sweep.effort)
        trees[label], rest = divmod(
            effort.batch_nodes, 2 ** (sizes['depth'] + 1) - 1
        )
        assert rest == 0
    assert trees == {'2': 64, '3': 64, '4': 32, '5': 32}


def test_numbers_are_rounded_at_every_depth():
    found = by_size.rounded({'a': [1.23456789, (2, 'b')], 'c': None})
    assert found == {'a': [1.2346, [2, 'b']], 'c': None}
    assert np.isfinite(found['a'][0])


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_commands_run(name, tmp_path):
    command = [
        sys.executable, str(GNN / f'{name}.py'), '--tiny',
        '--results', str(tmp_path), '--runs', str(tmp_path / 'runs'),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / f'gnn_{name}.json').read_text())
    assert result['machine']['torch'] == torch.__version__
    assert (tmp_path / f'gnn_{name}.png').stat().st_size > 1000
    assert done.stdout.startswith('| ')


def test_a_leaderboard_is_kept_with_its_tables(tmp_path, monkeypatch, capsys):
    summary = bench_summary.make(
        ('csbm', 'key_value'), rewired=('csbm',), rewirings=('fosr', 'gtr')
    )
    (tmp_path / 'summary.json').write_text(json.dumps(summary))
    monkeypatch.setattr(
        sys, 'argv',
        ['leaderboard', '--run', str(tmp_path), '--results', str(tmp_path),
         '--name', 'mine'],
    )  # fmt: skip
    leaderboard.main()
    kept = json.loads((tmp_path / 'gnn_mine.json').read_text())
    assert kept == by_size.rounded(summary)
    shown = capsys.readouterr().out
    assert leaderboard.show(kept) in shown
    of_fosr = [
        cell['control'] for cell in kept['cells']
        if cell['rewiring'] == 'fosr'
    ]  # fmt: skip
    middle = 100 * np.median([one['difference'] for one in of_fosr])
    better = sum(
        one['significant'] and one['difference'] > 0 for one in of_fosr
    )
    assert f'| fosr | {middle:+.1f} ({better} ▲, ' in shown
    assert f'of {len(of_fosr)}) |' in shown
    assert (tmp_path / 'gnn_mine.png').stat().st_size > 1000
    markdown = (tmp_path / 'gnn_mine.md').read_text()
    assert markdown.startswith('# Leaderboard')
