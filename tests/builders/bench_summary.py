"""Made-up summaries of a benchmark: plain data, as a run writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

TASKS = {
    'ring_transfer': 0.2,
    'lollipop_transfer': 0.2,
    'clique_path': 0.2,
    'tree_neighbors': 0.125,
    'shortest_path': 0.1,
    'eccentricity': 0.17,
    'sbm_cluster': 1 / 6,
    'csbm': 0.25,
    'directed_path': 0.2,
    'causal_copy': 0.1,
    'key_value': 0.0625,
}
MODELS = (
    'gcn', 'gin', 'sage', 'gatv2', 'transformer_conv', 'gps', 'dir_gcn',
    'dir_sage', 'graph_transformer', 'differential', 'converted_frozen',
    'converted',
)  # fmt: skip
REWIRINGS = (
    'random', 'fosr', 'gtr', 'sdrf', 'borf', 'afrc', 'diffusion', 'expander',
    'laser', 'virtual_node', 'resistance', 'complete',
)  # fmt: skip


def make(
    tasks: tuple[str, ...] = tuple(TASKS),
    models: tuple[str, ...] = MODELS,
    rewired: tuple[str, ...] = ('ring_transfer', 'csbm'),
    *,
    rewirings: tuple[str, ...] = REWIRINGS,
    seeds: int = 5,
) -> dict[str, Any]:
    """A summary; ``rewired`` are the tasks that have rewirings as well."""
    random = np.random.default_rng(0)
    cells = []
    for name in tasks:
        controls = {}
        for model in models:
            level = random.uniform(TASKS[name], 1)
            drawn = np.clip(random.normal(level, 0.04, seeds), 0, 1)
            controls[model] = drawn
            cells.append(cell(name, model, 'none', drawn.tolist()))
        if name in rewired:
            for model in models:
                family = []
                for rewiring in rewirings:
                    change = random.normal(random.normal(0, 0.08), 0.03, seeds)
                    drawn = np.clip(controls[model] + change, 0, 1)
                    made = cell(name, model, rewiring, drawn.tolist())
                    made['control'] = control(drawn, controls[model])
                    family.append(made)
                cells += family
    adjust(cells)
    return {
        'suite': 'default',
        'version': '0.1.0',
        'machine': {
            'processor': 'x86_64',
            'cores': 2,
            'python': '3.11.2',
            'torch': '2.13.0+cpu',
        },
        'seeds': list(range(1, seeds + 1)),
        'effort': {'steps': 200, 'budget': 64_000, 'draws': 4, 'seeds': seeds},
        'tasks': {name: task(name) for name in tasks},
        'skipped': {},
        'cells': cells,
    }


def task(name: str, **changes: Any) -> dict[str, Any]:
    made = {
        'about': f'What {name} asks, in one sentence (arXiv 2302.02941).',
        'level': 'node',
        'metric': 'accuracy',
        'chance': TASKS.get(name),
        'layers': 5,
        'higher_is_better': True,
        'steps': 150,
        'answers': 200,
        'resolution': 1 / 200,
        'directed': name in ('directed_path', 'causal_copy', 'key_value'),
    }
    return {**made, **changes}


def cell(
    task: str, model: str, rewiring: str, values: list[float], **changes: Any
) -> dict[str, Any]:
    count, half = len(values), None
    if count > 1:
        scale = np.std(values, ddof=1) / count**0.5
        half = float(stats.t.ppf(0.975, count - 1) * scale)
    made = {
        'task': task,
        'model': model,
        'rewiring': rewiring,
        'mean': float(np.mean(values)),
        'half_width': half,
        'values': values,
        'val_mean': float(np.mean(values)),
        'train_mean': 1.0,
        'parameters': 60_000 + 37 * len(model) ** 2 - 11 * len(task),
        'trained': 60_000 + 37 * len(model) ** 2 - 11 * len(task),
        'relations': 2 if rewiring == 'fosr' else 1,
        'seconds': 6.5,
        'settings': {
            'learning_rate': 1e-3,
            'dropout': 0.0,
            'strength': 0.5,
        },
        'failed': None,
        'control': None,
    }
    return {**made, **changes}


def control(drawn: np.ndarray, without: np.ndarray) -> dict[str, Any]:
    """The paired difference; with one seed there is no interval."""
    difference = drawn - without
    middle, low, high, p = float(difference.mean()), None, None, None
    if len(difference) > 1:
        test = stats.ttest_rel(drawn, without)
        low, high = map(float, test.confidence_interval(0.95))
        p = float(test.pvalue)
    return {
        'difference': middle,
        'low': low,
        'high': high,
        'p': p,
        'p_adjusted': None,
        'significant': False,
    }


def adjust(cells: list[dict[str, Any]]) -> None:
    """Holm's correction over the rewired cells of each task, in place."""
    for name in {made['task'] for made in cells}:
        family = [
            made['control']
            for made in cells
            if made['task'] == name
            and made['control'] is not None
            and made['control']['p'] is not None
        ]
        largest = 0.0
        for place, one in enumerate(sorted(family, key=lambda one: one['p'])):
            largest = max(largest, min(1, (len(family) - place) * one['p']))
            one['p_adjusted'] = largest
            one['significant'] = largest < 0.05
