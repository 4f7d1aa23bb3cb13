"""CPU seconds of the rewiring methods, each in a fresh process.

    python benchmarks/rewiring_speed.py

One graph of 1000 nodes and 5000 edges (Erdos-Renyi and Barabasi-Albert), 50
edges to add or to delete, one thread. ``first`` is the first call of the
process, imports aside, and ``again`` the best of three more. ``peer`` is the
published code of the method on the same graphs, as far as it could be made to
run: measured once, on another day, on two cores of a like machine (see
``PEERS``). Then graphs of 2000 to 20000 nodes with five edges per node, for the
methods whose work does not grow with the square of the nodes. Writes
benchmarks/results/rewiring_speed.json.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import scipy
import torch
import torch_geometric
from torch_geometric.data import Data
from torch_geometric.transforms import GDC
from tqdm import tqdm

import gnnbridge.transforms as T

NODES, EDGES, BUDGET = 1000, 5000, 50
SIZES = (2000, 5000, 10000, 20000)
RESULTS = Path(__file__).parent / 'results' / 'rewiring_speed.json'
METHODS: dict[str, Callable[[], Any]] = {
    'FoSR': lambda: T.FoSR(BUDGET),
    'GTR': lambda: T.GTR(BUDGET),
    'SDRF': lambda: T.SDRF(BUDGET),
    'BORF': lambda: T.BORF(BUDGET, batch_add=BUDGET),
    'AFRC-3': lambda: T.AFRC(BUDGET),
    'AFRC-4': lambda: T.AFRC(BUDGET, cycles=4),
    'ProxyDelete': lambda: T.ProxyDelete(BUDGET),
    'ProxyAdd': lambda: T.ProxyAdd(BUDGET),
    'ResistanceRewiring': lambda: T.ResistanceRewiring(BUDGET),
    'Diffusion, exact PPR': lambda: T.Diffusion(avg_degree=64),
    'Diffusion, approximate PPR': lambda: T.Diffusion(eps=1e-4, exact=False),
    'LASER': lambda: T.LASER(radius=3),
    'Shells': lambda: T.Shells(2),
    'Expander': lambda: T.Expander(),
    "PyG's GDC, exact PPR": lambda: GDC(),
}
# CPU seconds of the published code, on a like machine. One thread, Python
# 3.11, torch 2.13, numpy 2.4, numba 0.68; commits 1a7360c (FoSR), 2811ef6
# (GTR), c14e91d with the loop's `break` mended (SDRF), a3b9422 (BORF, one batch
# of 50), 21cd544 (AFRC, curvatures alone), 7b1f012 (ProxyAdd from one edge,
# ProxyDelete from five), 4e8f16f (max-R additions from two edges).
PEERS = {
    'FoSR': {'first': 18.5, 'again': 0.051},
    'GTR': {'first': 1.78},
    'SDRF': {'first': 17.5},
    'BORF': {'first': 10.2},
    'AFRC-3': {'first': 15.1},
    'ProxyDelete': {'first': 32},
    'ProxyAdd': {'first': 1570},
    'ResistanceRewiring': {'first': 31},
}
BARS = {
    'FoSR': 0.02, 'GTR': 0.5, 'SDRF': 1, 'BORF': 2, 'AFRC-3': 0.1,
    'ProxyDelete': 1, 'ProxyAdd': 5,
}  # fmt: skip
SPARSE = (
    'FoSR', 'SDRF', 'BORF', 'AFRC-3', 'ProxyDelete', 'ProxyAdd',
    'Diffusion, approximate PPR', 'Shells', 'Expander',
)  # fmt: skip


def graph(kind: str, nodes: int) -> Data:
    """An undirected graph with about five edges per node."""
    if kind == 'ER':
        made = nx.gnm_random_graph(nodes, 5 * nodes, seed=0)
    else:
        made = nx.barabasi_albert_graph(nodes, 5, seed=0)
    edges = torch.tensor(list(made.edges)).T
    edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    return Data(edge_index=edge_index, num_nodes=nodes)


def measure(name: str, kind: str, nodes: int, repeats: int) -> dict[str, float]:
    """CPU seconds of the first call and the best of some more."""
    torch.set_num_threads(1)
    data, seconds = graph(kind, nodes), []
    for _ in range(1 + repeats):
        method = METHODS[name]()
        started = time.process_time()
        method(data)
        seconds.append(time.process_time() - started)
    found = {'first': seconds[0]}
    if repeats:
        found['again'] = min(seconds[1:])
    return {k: round(v, 4) for k, v in found.items()}


def in_fresh_process(*task: Any) -> dict[str, float]:
    """The same in a process that has run nothing else."""
    asked = json.dumps(task)
    done = subprocess.run(
        [sys.executable, __file__, '--task', asked],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measures everything, or the one task of a child process."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--task', help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.task:
        print(json.dumps(measure(*json.loads(asked.task))))
        return
    small: dict[str, Any] = {}
    for name in tqdm(METHODS, desc=f'{NODES} nodes'):
        row = small[name] = {
            kind: in_fresh_process(name, kind, NODES, 3)
            for kind in ('ER', 'BA')
        }
        first = max(row[kind]['first'] for kind in ('ER', 'BA'))
        if name in BARS:
            row['bar'], row['met'] = BARS[name], first <= BARS[name]
        if name in PEERS:
            row['peer'] = PEERS[name]
            row['times_as_fast'] = round(
                PEERS[name]['first'] / row['ER']['first'], 1
            )
    growth: dict[str, Any] = {}
    for name in tqdm(SPARSE, desc=f'up to {SIZES[-1]} nodes'):
        seconds = [in_fresh_process(name, 'ER', n, 0)['first'] for n in SIZES]
        slope = math.log(seconds[-1] / seconds[0]) / math.log(
            SIZES[-1] / SIZES[0]
        )
        growth[name] = {
            'cpu_seconds': dict(zip(map(str, SIZES), seconds, strict=True)),
            'exponent': round(slope, 2),
        }
    result = {
        'machine': {
            'processor': platform.processor() or platform.machine(),
            'threads': 1,
            'python': platform.python_version(),
            'torch': torch.__version__,
            'scipy': scipy.__version__,
            'torch_geometric': torch_geometric.__version__,
        },
        'nodes': NODES,
        'edges': EDGES,
        'budget': BUDGET,
        'cpu_seconds': small,
        'growth': growth,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + '\n')
    show(result)


def table(result: dict[str, Any]) -> str:
    """CPU seconds by method, and how they grow."""
    lines = [
        '| method | 1000 nodes, first call (ER / BA) | again | bar | '
        'published code | 20000 nodes | exponent |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, row in result['cpu_seconds'].items():
        first, again = (
            ' / '.join(f'{row[kind][part]:.3f}' for kind in ('ER', 'BA'))
            for part in ('first', 'again')
        )
        peer = row.get('peer', {}).get('first', '')
        grown = result['growth'].get(name, {})
        large = grown.get('cpu_seconds', {}).get(str(SIZES[-1]), '')
        lines.append(
            f'| {name} | {first} | {again} | {row.get("bar", "")} | {peer} | '
            f'{large} | {grown.get("exponent", "")} |'
        )
    return '\n'.join(lines)


def show(result: dict[str, Any]) -> None:
    """A line for each method."""
    for name, row in result['cpu_seconds'].items():
        cells = (
            f'{kind} {row[kind]["first"]:.3f} / {row[kind]["again"]:.3f}'
            for kind in ('ER', 'BA')
        )
        rest = {k: row[k] for k in ('bar', 'met', 'times_as_fast') if k in row}
        print(f'{name:28}', *cells, rest)
    for name, found in result['growth'].items():
        print(f'{name:28}', found['cpu_seconds'], found['exponent'])


if __name__ == '__main__':
    main()
