"""CPU seconds and memory of a training step of every model, by size of graph.

    python benchmarks/gnn/throughput.py
    python benchmarks/gnn/throughput.py --sizes 1000,10000

One random graph with ten edges into each node, 32 features and 8 classes of
nodes; models of five layers and 64k parameters as ``gnnbridge bench`` builds
them; forward pass, backward pass and a step of AdamW, on one thread. Seconds
are those of the CPU, medians over rounds in which every model makes one step,
in one process, so that ours and PyG's ``TransformerConv`` and ``GPSConv``
alternate. Memory is what the first step adds to a fresh process, in which a
small graph was run before. Past 10,000 nodes a model is run only if what it
needed at smaller sizes says that it can be. One whose step takes longer than
five minutes by that makes a single one, whose memory and seconds are both
told: GPS, which compares all pairs of nodes, a quarter of an hour of it.
Writes benchmarks/results/gnn_throughput.json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data
from tqdm import tqdm

FOLDER = Path(__file__).parents[1]
sys.path.insert(0, str(FOLDER))

from attention.measure import measure_growth

from gnnbridge.bench.models.registry import MODELS, build_model
from gnnbridge.bench.task import Splits, Task

RESULTS = FOLDER / 'results' / 'gnn_throughput.json'
SIZES = (1_000, 10_000, 100_000)
DEGREE, FEATURES, CLASSES, LAYERS, BUDGET = 10, 32, 8, 5, 64_000
OURS = ('graph_transformer', 'differential')
PEERS = ('transformer_conv', 'gps')
# Large enough that the same kernels run.
WARM_UP = 512
# Sizes up to this are run without a prediction.
SAFE = 10_000
# Seconds for the rounds of a size; of a step that is made once; of one that is
# not made.
ROUNDS, LONG, LONGEST = 60.0, 300.0, 3600.0
# The share of the free memory that a step may need.
SHARE = 0.8


def graph(nodes: int) -> Data:
    """A random undirected graph, every node of which is asked."""
    chance = torch.Generator().manual_seed(0)
    ends = torch.randint(nodes, (2, nodes * DEGREE // 2), generator=chance)
    edges = torch.cat([ends, ends.flip(0)], dim=1).unique(dim=1)
    return Data(
        x=torch.randn(nodes, FEATURES, generator=chance),
        edge_index=edges[:, edges[0] != edges[1]],
        y=torch.randint(CLASSES, (nodes,), generator=chance),
        target_mask=torch.ones(nodes, dtype=torch.bool),
    )


class Step:
    """A training step of a model.

    Args:
        name: A model of the benchmark.
    """

    def __init__(self, name: str) -> None:
        task = Task(
            'throughput', '', 'node', 'accuracy', CLASSES, FEATURES, LAYERS,
            load=lambda seed: Splits([], [], []),
        )  # fmt: skip
        self.model = build_model(name, task, budget=BUDGET)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained)

    def __call__(self, data: Data) -> Tensor:
        """One step; returns the loss before it."""
        loss = F.cross_entropy(self.model(data), data.y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def growth(name: str, nodes: int) -> tuple[int, float]:
    """Bytes that the first step adds to this process, and its CPU seconds."""
    torch.set_num_threads(1)
    step, data = Step(name), graph(nodes)
    step(graph(WARM_UP))
    # What the C library has kept would serve the step unseen.
    if sys.platform == 'linux':
        ctypes.CDLL('libc.so.6').malloc_trim(0)
    took: list[float] = []
    added = measure_growth(lambda: took.append(clocked(step, data)))
    return added, took[0]


def peak(name: str, nodes: int) -> tuple[int, float]:
    """The same of a fresh process, in which everything is imported."""
    fresh = multiprocessing.get_context('forkserver')
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(growth, name, nodes).result()


def clocked(step: Step, data: Data) -> float:
    """CPU seconds of a step."""
    start = time.process_time()
    step(data)
    return time.process_time() - start


def seconds(
    names: Sequence[str], nodes: int, limit: float
) -> dict[str, list[float]]:
    """CPU seconds of a step of each model, by round."""
    data = graph(nodes)
    steps = {name: Step(name) for name in names}
    each = tqdm(steps.values(), leave=False)
    first = sum(clocked(step, data) for step in each)
    rounds = int(min(max(limit / max(first, 1e-9), 3), 20))
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in tqdm(range(rounds), f'{nodes} nodes', leave=False):
        for name, step in steps.items():
            times[name].append(clocked(step, data))
    return times


def predicted(known: dict[int, float], nodes: int) -> float:
    """What a size needs, by the growth between the two largest known ones.

    Args:
        known: What smaller sizes needed; two of them at least.
        nodes: The size.
    """
    (small, before), (large, after) = sorted(known.items())[-2:]
    exponent = math.log(after / max(before, 1e-9)) / math.log(large / small)
    return after * (nodes / large) ** max(exponent, 1.0)


def refusal(name: str, nodes: int, done: dict[int, Any]) -> str | None:
    """Why a step of a model is not run, or None if it can be.

    Args:
        name: The model.
        nodes: The size.
        done: What each model needed at smaller sizes.
    """
    rows = {size: row[name] for size, row in done.items()}
    if stopped := [n for n, row in rows.items() if 'not_run' in row]:
        return f'not run (nor at {stopped[0]:,} nodes)'
    room = predicted({n: row['bytes'] for n, row in rows.items()}, nodes)
    if room > SHARE * free_memory():
        return f'out of memory (predicted {room / 2**30:.0f} GiB)'
    step = predicted_seconds(name, nodes, done)
    if step > LONGEST:
        return f'too slow (predicted {step / 60:.0f} min a step)'
    return None


def predicted_seconds(name: str, nodes: int, done: dict[int, Any]) -> float:
    """CPU seconds of a step at a size, by what smaller ones needed."""
    known = {size: row[name]['seconds'] for size, row in done.items()}
    return predicted(known, nodes)


def free_memory() -> int:
    """Bytes that are free on this machine."""
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable'):
            return int(line.split()[1]) * 1024
    raise RuntimeError("Expected 'MemAvailable' in /proc/meminfo (got none).")


def measure(
    names: Sequence[str], nodes: int, done: dict[int, Any]
) -> dict[str, Any]:
    """What each model needs at one size.

    Args:
        names: The models.
        nodes: The size.
        done: What this returned for smaller sizes, by size.
    """
    found: dict[str, Any] = {}
    for name in tqdm(names, f'memory, {nodes} nodes', leave=False):
        if nodes > SAFE and (reason := refusal(name, nodes, done)):
            found[name] = {'not_run': reason}
            continue
        try:
            added, took = peak(name, nodes)
        except BrokenProcessPool:
            found[name] = {'not_run': 'out of memory'}
            continue
        found[name] = {'bytes': added}
        if nodes > SAFE and predicted_seconds(name, nodes, done) > LONG:
            found[name] |= {'seconds': took, 'rounds': [round(took, 5)]}
    runs = [name for name in names if set(found[name]) == {'bytes'}]
    for name, times in seconds(runs, nodes, ROUNDS).items():
        found[name] |= {
            'seconds': statistics.median(times),
            'rounds': [round(one, 5) for one in times],
        }
    return found


def ratios(found: dict[str, Any]) -> dict[str, Any]:
    """How many times as much the peers need as ours, at one size."""
    return {
        f'{ours} beside {peer}': {
            'times_as_fast': times_as_fast(
                found[ours]['rounds'], found[peer]['rounds']
            ),
            'memory': found[peer]['bytes'] / found[ours]['bytes'],
        }
        for ours in OURS
        for peer in PEERS
        if 'rounds' in found[ours] and 'rounds' in found[peer]
    }


def times_as_fast(own: list[float], other: list[float]) -> float:
    """The median over rounds; of medians where one made a single step."""
    if len(own) != len(other):
        return statistics.median(other) / statistics.median(own)
    return statistics.median(b / a for a, b in zip(own, other, strict=True))


def run(
    sizes: Sequence[int], keep: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    """Measures all models at all sizes.

    Args:
        sizes: Numbers of nodes. Those past ``SAFE`` need two smaller ones to
            be predicted by, which are measured as well.
        keep: Is given the result after each size.
    """
    wanted = set(sizes)
    if max(sizes) > SAFE and sum(size <= SAFE for size in wanted) < 2:
        wanted |= {SAFE // 10, SAFE}
    steps = {name: Step(name) for name in MODELS}
    result: dict[str, Any] = {
        'machine': {
            'processor': platform.processor() or platform.machine(),
            'threads': torch.get_num_threads(),
            'python': platform.python_version(),
            'torch': torch.__version__,
            'torch_geometric': torch_geometric.__version__,
        },
        'settings': {
            'degree': DEGREE, 'features': FEATURES, 'classes': CLASSES,
            'layers': LAYERS, 'budget': BUDGET,
        },
        'models': {
            name: {'width': step.model.width, 'parameters': step.model.total}
            for name, step in steps.items()
        },
        'sizes': {},
        'ratios': {},
    }  # fmt: skip
    found: dict[int, Any] = {}
    for nodes in sorted(wanted):
        smaller = {n: row for n, row in found.items() if n <= SAFE}
        found[nodes] = measure(tuple(MODELS), nodes, smaller)
        result['sizes'][str(nodes)] = found[nodes]
        result['ratios'][str(nodes)] = ratios(found[nodes])
        keep(result)
    return result


def show(result: dict[str, Any]) -> str:
    """The tables of benchmarks/README.md."""
    sizes = tuple(result['sizes'])
    heads = [f'{int(n):,} nodes' for n in sizes]
    models = result['models']
    cells = [
        [
            f'`{name}`',
            str(models[name]['width']),
            *(_cell(result['sizes'][n][name]) for n in sizes),
        ]
        for name in models
    ]
    pairs = list(dict.fromkeys(p for n in sizes for p in result['ratios'][n]))
    beside = [
        [pair, *(_ratio(result['ratios'][n].get(pair)) for n in sizes)]
        for pair in pairs
    ]
    return '\n\n'.join(
        [
            _table(['model', 'width', *heads], cells),
            _table(['times as fast, memory of the peer', *heads], beside),
        ]
    )


def _cell(found: dict[str, Any]) -> str:
    if 'not_run' in found:
        return str(found['not_run'])
    took = found['seconds']
    time_ = f'{1000 * took:.3g} ms' if took < 1 else f'{took:.3g} s'
    once = ' (one step)' if len(found['rounds']) == 1 else ''
    return f'{time_}{once}, {found["bytes"] / 2**20:,.0f} MiB'


def _ratio(found: dict[str, float] | None) -> str:
    if found is None:
        return ''
    fast = found['times_as_fast']
    digits = f'{fast:.0f}' if fast >= 100 else f'{fast:.2g}'
    return f'{digits}, {found["memory"]:.2g} times'


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main() -> None:
    """Measures everything and writes it down."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or '').split('\n\n')[0]
    )
    parser.add_argument(
        '--sizes',
        default=','.join(map(str, SIZES)),
        help='numbers of nodes, with commas between them',
    )
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(',')]
    torch.set_num_threads(1)

    def keep(result: dict[str, Any]) -> None:
        RESULTS.write_text(json.dumps(result, indent=1) + '\n')

    print(show(run(sizes, keep)))


if __name__ == '__main__':
    main()
