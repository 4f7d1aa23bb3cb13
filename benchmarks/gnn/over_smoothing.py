"""Do GCNs over-smooth with depth, and what stops it?

    python benchmarks/gnn/over_smoothing.py

Models of 1 to 32 layers on the nodes of contextual stochastic block models,
with and without residuals and norms. Measures test accuracy, and from layer to
layer the Dirichlet energy of the states over their norm, before and after
training. Published: without residuals the energy of a GCN falls exponentially
with depth (Oono and Suzuki, 2020; Cai and Wang, 2020), and its accuracy with
it; residuals stop both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_size import COLORS, MARKERS, arguments, plt, rounded, table
from torch_geometric.data import Batch
from torch_geometric.utils import degree
from tqdm import tqdm

from gnnbridge.bench.batching import Batches, collate
from gnnbridge.bench.models.graph_model import GraphModel
from gnnbridge.bench.models.registry import build_model
from gnnbridge.bench.statistics import interval
from gnnbridge.bench.summary import machine
from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.registry import make_task
from gnnbridge.bench.training import Diverged, Schedule, fit
from gnnbridge.diagnostics.oversmoothing import dirichlet_energy

DEPTHS = (1, 2, 4, 8, 16, 32)
SEEDS = (0, 1, 2, 3, 4)
# The smallest transformer of 32 layers needs 19,306 parameters.
STEPS, RATE, BUDGET, BATCH_NODES = 200, 3e-3, 20_000, 256
# Name, model, and what it has.
KINDS: dict[str, tuple[str, dict[str, bool]]] = {
    'gcn': ('gcn', {'residual': False, 'norm': False}),
    'gcn, norms': ('gcn', {'residual': False, 'norm': True}),
    'gcn, residuals': ('gcn', {'residual': True, 'norm': False}),
    'gcn, both': ('gcn', {}),
    'gatv2': ('gatv2', {'residual': False, 'norm': False}),
    'graph_transformer': ('graph_transformer', {}),
}
PUBLISHED = (
    'Energy of GCNs falls exponentially with depth: Oono and Suzuki 2020, '
    'https://arxiv.org/abs/1905.10947; Cai and Wang 2020, '
    'https://arxiv.org/abs/2006.13318.'
)


def main() -> None:
    """Measures what is missing, and writes all that is there."""
    asked = arguments(__doc__ or '')
    torch.set_num_threads(1)
    task = make_task('csbm')
    work = [(n, d, s) for s in SEEDS for n in KINDS for d in DEPTHS]
    if asked.tiny:
        task = make_task('csbm', graphs=(4, 2, 2))
        work = [(name, 2, seed) for name in KINDS for seed in (0, 1)]
    steps = 2 if asked.tiny else STEPS
    # What was trained with other settings is not taken for the same.
    folder = asked.runs / f'over_smoothing-{steps}-{BUDGET}-{BATCH_NODES}'
    found: dict[str, dict[str, list[Any]]] = {}
    for name, depth, seed in (progress := tqdm(work)):
        progress.set_postfix_str(f'{name}, {depth} layers, seed {seed}')
        file = folder / f'{name}-{depth}-{seed}.json'
        if asked.tiny or not file.exists():
            record = measured(task, name, depth, seed, steps)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(record))
        record = json.loads(file.read_text())
        found.setdefault(name, {}).setdefault(str(depth), []).append(record)
    result = {
        'machine': machine('cpu'),
        'task': 'csbm',
        'effort': {
            'steps': steps,
            'rate': RATE,
            'budget': BUDGET,
            'batch_nodes': BATCH_NODES,
        },
        'seeds': sorted({seed for _, _, seed in work}),
        'published': PUBLISHED,
        'kinds': {
            name: {depth: summed(records) for depth, records in of.items()}
            for name, of in found.items()
        },
    }
    path = asked.results / 'gnn_over_smoothing.json'
    path.write_text(json.dumps(rounded(result), indent=1) + '\n')
    draw(rounded(result), path.with_suffix('.png'))
    print(show(rounded(result)))


def measured(
    task: Task, name: str, depth: int, seed: int, steps: int
) -> dict[str, Any]:
    """Accuracy, and energies by layer before and after training."""
    batches: Batches = collate(task.load(seed), nodes=BATCH_NODES, seed=seed)
    kind, has = KINDS[name]
    model = build_model(
        kind, task, budget=BUDGET, layers=depth, seed=seed, **has
    )
    before = energies(model, batches.test[0])
    try:
        schedule = Schedule(steps, 10, RATE, seed)
        fitted = fit(model, batches, task, schedule)
    except Diverged as error:
        return {'failed': str(error), 'before': before}
    return {
        'failed': None,
        'test': fitted.test,
        'train': fitted.train,
        'width': model.width,
        'before': before,
        'after': energies(model, batches.test[0]),
    }


@torch.no_grad()
def energies(model: GraphModel, batch: Batch) -> list[float]:
    """Dirichlet energy over norm of the states at each depth.

    On the graph with rows that sum to one, as attention has them.
    """
    model.eval()
    into = degree(batch.edge_index[1], batch.num_nodes).clamp(min=1)
    weight = 1 / into[batch.edge_index[1]]
    return [
        float(
            dirichlet_energy(
                x.double(), batch.edge_index, weight.double(), normalized=True
            )
        )
        for x in model.states(batch)
    ]


def summed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds; of energies in the logarithm."""
    done = [one for one in records if one['failed'] is None]
    tests = [one['test'] for one in done]
    mean, half_width = interval(tests) if tests else (None, None)
    return {
        'test': mean,
        'half_width': half_width,
        'values': tests,
        'train': float(np.mean([o['train'] for o in done])) if done else None,
        'failed': [one['failed'] for one in records if one['failed']],
        'width': done[0]['width'] if done else None,
        **{
            when: _geometric([one[when] for one in done or records])
            for when in ('before', 'after')
            if all(when in one for one in done or records)
        },
    }


def _geometric(rows: list[list[float]]) -> list[float]:
    # Below is what rounding leaves of states that are all equal.
    logs = np.log(np.maximum(np.array(rows), 1e-30))
    return np.exp(logs.mean(0)).tolist()


def show(result: Mapping[str, Any]) -> str:
    """Accuracy by depth, and the energy that the deepest has at the end."""
    depths = list(next(iter(result['kinds'].values())))
    heads = [
        'layers', *depths, f'energy after {depths[-1]}, new',
        f'energy after {depths[-1]}, trained',
    ]  # fmt: skip
    rows = []
    for name, of in result['kinds'].items():
        cells = [
            '-'
            if of[depth]['test'] is None
            else f'{of[depth]["test"]:.2f} ± {of[depth]["half_width"]:.2f}'
            for depth in depths
        ]
        last = of[depths[-1]]
        cells += [
            f'{last[when][-1]:.1e}' if when in last else '-'
            for when in ('before', 'after')
        ]
        rows.append([name, *cells])
    return table(heads, rows)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Accuracy by depth; energy by layer of the deepest."""
    figure, axes = plt.subplots(1, 3, figsize=(17, 4.8), layout='constrained')
    kinds = result['kinds']
    depths = list(next(iter(kinds.values())))
    for (name, of), color, marker in zip(
        kinds.items(), COLORS, MARKERS, strict=False
    ):
        known = [depth for depth in depths if of[depth]['test'] is not None]
        axes[0].errorbar(
            [int(depth) for depth in known],
            [of[depth]['test'] for depth in known],
            [of[depth]['half_width'] for depth in known],
            color=color, marker=marker, ms=5, capsize=2, label=name,
        )  # fmt: skip
        for axis, when in zip(axes[1:], ('before', 'after'), strict=True):
            if when in of[depths[-1]]:
                axis.semilogy(
                    of[depths[-1]][when], color=color, marker=marker, ms=3,
                    label=name,
                )  # fmt: skip
    axes[0].set_xscale('log', base=2)
    axes[0].set(xlabel='layers', ylabel='test accuracy')
    for axis, when in zip(axes[1:], ('new weights', 'trained'), strict=True):
        axis.set_xlabel(f'layer, {when}')
        axis.set_ylabel('Dirichlet energy over norm')
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == '__main__':
    main()
