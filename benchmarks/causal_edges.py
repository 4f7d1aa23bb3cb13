"""Which edges lower the causal resistance of a window most?

    python benchmarks/causal_edges.py

starts from a sliding window with a sink and adds one to four edges per token
by `CausalResistanceRewiring`, at random (BigBird's third part), along a random
regular graph, and by FoSR and GTR with their edges turned forwards. Writes
benchmarks/results/causal_edges.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from tqdm import tqdm

from gnnbridge.graph import sliding_window_graph
from gnnbridge.spectral import effective_resistance
from gnnbridge.transforms import (
    GTR,
    CausalResistanceRewiring,
    Expander,
    FoSR,
    RandomEdges,
)
from gnnbridge.transforms.causal_objective import TotalResistance

TOKENS, WINDOW, SINKS = 64, 4, 1
PER_TOKEN = (1, 2, 4)
DEPTHS = (3.0, 12.0, None)
SEEDS = range(10)
RESULTS = Path(__file__).parent / 'results' / 'causal_edges.json'
Make = Callable[[int, int], Any]


def methods(hops: float | None) -> dict[str, tuple[Make, bool]]:
    """Transforms from edges per token and seed, and whether the seed counts."""
    return {
        'none': (lambda k, seed: RandomEdges(0), False),
        'random': (lambda k, seed: RandomEdges(per_node=k, seed=seed), True),
        'expander': (
            lambda k, seed: Expander(
                'random_regular', degree=max(2 * k, 3), seed=seed
            ),
            True,
        ),
        'FoSR': (lambda k, seed: FoSR(k * TOKENS, seed=seed), True),
        'GTR': (lambda k, seed: GTR(k * TOKENS), False),
        'ours, by rows': (
            lambda k, seed: CausalResistanceRewiring(
                edges_per_token=WINDOW + SINKS + k, hops=hops
            ),
            False,
        ),
        'ours, anywhere': (
            lambda k, seed: CausalResistanceRewiring(k * TOKENS, hops=hops),
            False,
        ),
    }


def figures(data: Data, hops: float | None) -> dict[str, float]:
    """Resistances with even attention over the edges of a token."""
    A = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
    A[data.edge_index[1], data.edge_index[0]] = 1.0
    R = effective_resistance(A / A.sum(1, keepdim=True), hops=hops)
    below = torch.ones_like(R).tril(-1).bool()
    return {
        'edges_per_token': data.num_edges / TOKENS,
        'mean': float(R[below].mean()),
        'worst': float(R[below].max()),
        'last_token': float(R[-1, :-1].mean()),
        'log_mean': float(R[below].log().mean()),
    }


def measure(make: Make, k: int, seeds: Any, hops: float | None) -> Any:
    """Mean, least and greatest figures over seeds, and seconds."""
    base = sliding_window_graph(TOKENS, WINDOW, SINKS)
    started = time.process_time()
    runs = [figures(make(k, seed)(base), hops) for seed in seeds]
    seconds = (time.process_time() - started) / len(runs)
    spread = {
        name: {
            'mean': statistics.mean(run[name] for run in runs),
            'min': min(run[name] for run in runs),
            'max': max(run[name] for run in runs),
        }
        for name in runs[0]
    }
    return {**spread, 'cpu_seconds': round(seconds, 3)}


def evaluated(tokens: int) -> dict[str, int]:
    """Edges that could be first, and those that are evaluated in full."""
    count = 0
    after = TotalResistance.after

    def counted(self: Any, walk: Any, a: int, sources: Any, move: Any) -> Any:
        nonlocal count
        count += len(sources)
        return after(self, walk, a, sources, move)

    window = sliding_window_graph(tokens, WINDOW, SINKS)
    TotalResistance.after = counted  # type: ignore[method-assign]
    try:
        CausalResistanceRewiring(1, hops=DEPTHS[0])(window)
    finally:
        TotalResistance.after = after  # type: ignore[method-assign]
    candidates = tokens * (tokens + 1) // 2 - window.num_edges
    return {'candidates': candidates, 'evaluated': count}


def main() -> None:
    """Measures all methods and writes the results."""
    argparse.ArgumentParser(description=__doc__.split('\n\n')[0]).parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        'machine': {
            'processor': platform.processor() or platform.machine(),
            'python': platform.python_version(),
            'torch': torch.__version__,
        },
        'tokens': TOKENS,
        'window': WINDOW,
        'sinks': SINKS,
        'seeds': len(SEEDS),
        'evaluated': {str(n): evaluated(n) for n in (64, 128, 256)},
        'depths': {},
    }
    for hops in tqdm(DEPTHS):
        table = result['depths'][str(hops)] = {}
        for name, (make, random) in methods(hops).items():
            seeds = SEEDS if random else (0,)
            counts = (0,) if name == 'none' else PER_TOKEN
            table[name] = {
                str(k): measure(make, k, seeds, hops) for k in counts
            }
    RESULTS.write_text(json.dumps(result, indent=1) + '\n')
    show(result)


def table(result: dict[str, Any]) -> str:
    """Mean resistance of the methods by depth and edges per token."""
    depths = result['depths']
    heads = [
        f'{"unlimited" if hops == "None" else hops}, {k}'
        for hops in depths
        for k in PER_TOKEN
    ]
    lines = [
        '| edges | ' + ' | '.join(heads) + ' |',
        '|---' * (1 + len(heads)) + '|',
    ]
    for name in depths['None']:
        cells = []
        for rows in depths.values():
            for k in PER_TOKEN:
                cell = rows[name].get(str(k), rows[name].get('0'))
                cells.append(f'{cell["mean"]["mean"]:.3g}')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def show(result: dict[str, Any]) -> None:
    """Mean resistance by edges added per token."""
    print(result['evaluated'])
    for hops, table in result['depths'].items():
        print(f'\nhops={hops}: mean resistance (worst; last token)')
        for name, row in table.items():
            cells = (
                f'{k}: {cell["mean"]["mean"]:.4g} ({cell["worst"]["mean"]:.3g}'
                f'; {cell["last_token"]["mean"]:.3g}) {cell["cpu_seconds"]} s'
                for k, cell in row.items()
            )
            print(f'  {name:16}', '   '.join(cells))


if __name__ == '__main__':
    main()
