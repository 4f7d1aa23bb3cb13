"""Speed of the spectral package, each line beside a peer of the same run.

    python benchmarks/spectral.py                  # about 10 minutes, two cores
    python benchmarks/spectral.py --device cuda

writes benchmarks/results/spectral.json (or spectral_cuda.json). Exponents are
fitted to the last sizes of each line. ``share_of_gemm`` is the least number of
operations over the rate of a matrix product measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import scipy
import torch
from scipy.linalg import solve_continuous_lyapunov
from torch import Tensor
from tqdm import tqdm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from attention.measure import Clock, bounds, measure_growth, peak_memory

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.spectral import (
    ResistanceCache,
    effective_resistance,
    hitting_probability,
    lyapunov_resistance,
    resistance_sketch,
)

LONG, WINDOW = 32768, 256


def attention(size: int, device: str, *batch: int) -> Tensor:
    """Random causal attention, softmax over normal scores of deviation 2."""
    generator = torch.Generator().manual_seed(size)
    scores = torch.randn(
        *batch, size, size, generator=generator, dtype=torch.float64
    )
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    return (2 * scores).masked_fill(later, -math.inf).softmax(-1).to(device)


def laplacian_without_root(A: Tensor) -> Tensor:
    """The grounded Laplacian that textbooks hand to a Lyapunov solver."""
    off = A.tril(-1)
    return (torch.diag(off.sum(1)) - off)[1:, 1:]


class Bench:
    """The lines of the benchmark on one device."""

    def __init__(self, device: str) -> None:
        self.device, self.clock = device, Clock(device)
        rates = bounds(device, torch.float64)
        self.flops = {'float64': rates['flops_per_s']}
        if device == 'cuda':
            single = bounds(device, torch.float32)
            self.flops['float32'] = single['flops_per_s']

    def best(self, function: Callable[[], Any], rounds: int = 3) -> float:
        """Median seconds after one call to warm up."""
        self.clock.once(function)
        times = [self.clock.once(function) for _ in range(rounds)]
        return statistics.median(times)

    def lyapunov(self) -> dict[str, Any]:
        """All pairs of a causal graph beside scipy's general solver."""
        sizes = (128, 256, 512, 1024, 2048)
        if self.device == 'cuda':
            sizes = (*sizes, 4096)
        rows = []
        for size in tqdm(sizes, desc='lyapunov', leave=False):
            A = attention(size, self.device)
            ours = self.best(lambda A=A: lyapunov_resistance(A), 7)
            # Substitution in one matrix from both sides, by symmetry once.
            row = {'nodes': size, 'ours_s': ours}
            row['share_of_gemm'] = size**3 / self.flops['float64'] / ours
            if self.device == 'cuda':
                seconds = self.best(
                    lambda A=A: lyapunov_resistance(A, dtype=torch.float32)
                )
                row['float32_s'] = seconds
            if size <= 1024:
                row |= self._beside_scipy(A, ours)
            rows.append(row)
        return {'rows': rows, 'exponent': exponent(rows)}

    def _beside_scipy(self, A: Tensor, ours: float) -> dict[str, Any]:
        # One after the other, not in turn: idle threads of scipy's BLAS spin
        # for a while, and torch's would wait for their cores.
        grounded = laplacian_without_root(A.cpu()).numpy()
        right = 2 * (np.eye(len(grounded)) + 1)
        seconds = self.best(
            lambda: solve_continuous_lyapunov(grounded, right), 3
        )
        S = torch.from_numpy(solve_continuous_lyapunov(grounded, right))
        own = S.diagonal()
        expected = own.unsqueeze(0) + own.unsqueeze(1) - 2 * S
        found = lyapunov_resistance(A).cpu()[1:, 1:]
        smith = self.best(lambda: lyapunov_resistance(A, method='smith'), 1)
        return {
            'peer_s': seconds,
            'speedup': seconds / ours,
            'smith_s': smith,
            'largest_difference': (found - expected).abs().max().item(),
        }

    def causal(self) -> dict[str, Any]:
        """All pairs beside one triangular solve with the identity."""
        sizes = (512, 1024, 2048, 4096)
        rows = []
        for size in tqdm(sizes, desc='causal', leave=False):
            A = attention(size, self.device)
            eye = torch.eye(size, dtype=A.dtype, device=A.device)
            system = eye - A.tril(-1)
            pair = self.clock.pair(
                lambda A=A: effective_resistance(A),
                lambda system=system, eye=eye: torch.linalg.solve_triangular(
                    system, eye, upper=False, unitriangular=True
                ),
                seconds=8,
            )
            pair['share_of_gemm'] = (
                size**3 / 3 / self.flops['float64'] / pair['ours_s']
            )
            rows.append({'nodes': size, **pair})
        return {'rows': rows, 'exponent': exponent(rows)}

    def undirected(self) -> dict[str, Any]:
        """All pairs of a random graph beside networkx."""
        rows = []
        for size in tqdm((250, 500, 1000), desc='undirected', leave=False):
            graph = nx.gnm_random_graph(size, 5 * size, seed=0)
            graph.add_edges_from(nx.path_graph(size).edges)
            A = torch.from_numpy(nx.to_numpy_array(graph)).to(self.device)
            pair = self.clock.pair(
                lambda A=A: effective_resistance(A, kind='undirected'),
                lambda graph=graph: nx.resistance_distance(graph),
                seconds=20,
            )
            expected = nx.resistance_distance(graph)
            found = effective_resistance(A, kind='undirected').cpu().numpy()
            dense = np.array(
                [[expected[i][j] for j in range(size)] for i in range(size)]
            )
            pair['largest_difference'] = float(abs(found - dense).max())
            rows.append({'nodes': size, **pair})
        return {'rows': rows, 'exponent': exponent(rows)}

    def batch(self) -> dict[str, Any]:
        """The heads of a model in one call, beside one call for each."""
        A = attention(512, self.device, 12, 12)
        out: dict[str, Any] = {'shape': list(A.shape)}
        heads = [head for layer in A for head in layer]
        for kind in tqdm(('causal', 'lyapunov'), desc='batch', leave=False):
            out[kind] = self.clock.pair(
                lambda kind=kind: effective_resistance(A, kind=kind),
                lambda kind=kind: [
                    effective_resistance(head, kind=kind) for head in heads
                ],
                seconds=20,
            )
        return out

    def long_row(self) -> dict[str, Any]:
        """The last token of a long context with a window."""
        rows = []
        for size in tqdm((8192, 16384, LONG), desc='long row', leave=False):
            graph, weight = long_graph(size)
            seconds = self.best(
                lambda graph=graph, weight=weight: effective_resistance(
                    graph.edge_index, weight, graph.num_nodes, rows=-1
                )
            )
            rows.append({'nodes': size, 'window': WINDOW, 'ours_s': seconds})
        peak = peak_memory(Path(__file__), '--long-row')
        return {
            'rows': rows,
            'exponent': exponent(rows),
            'peak_growth_bytes': peak,
        }

    def sketch(self) -> dict[str, Any]:
        """Points of 64 probes against all exact pairs."""
        A = attention(1024, self.device)
        exact = lyapunov_resistance(A)
        pairs = torch.ones_like(exact, dtype=torch.bool).tril(-1)
        rows = []
        for probes in tqdm((16, 64, 256), desc='sketch', leave=False):
            z = resistance_sketch(A, num_probes=probes)
            error = (torch.cdist(z, z).square() / exact - 1)[pairs].abs()
            rows.append(
                {
                    'probes': probes,
                    'median_relative_error': error.median().item(),
                    'expected_deviation': math.sqrt(2 / probes),
                    'deviation': error.square().mean().sqrt().item(),
                    'ours_s': self.best(
                        lambda probes=probes: resistance_sketch(
                            A, num_probes=probes
                        ),
                        1,
                    ),
                }
            )
        return {'nodes': 1024, 'rows': rows}

    def decode(self) -> dict[str, Any]:
        """One more token, beside all pairs anew."""
        A = attention(1024, self.device)
        cache = ResistanceCache(lyapunov=True)
        times = []
        for i in tqdm(range(1024), desc='decode', leave=False):
            row = A[i, : i + 1]
            times.append(self.clock.once(lambda row=row: cache.append(row)))
        anew = self.best(
            lambda: (hitting_probability(A), lyapunov_resistance(A))
        )
        last = statistics.median(times[-100:])
        return {'nodes': 1024, 'ours_s': last, 'speedup': anew / last}


def long_graph(size: int) -> tuple[Any, Tensor]:
    """A window over a long context with random weights."""
    graph = sliding_window_graph(size, WINDOW)
    generator = torch.Generator().manual_seed(0)
    return graph, torch.rand(graph.num_edges, generator=generator)


def exponent(rows: list[dict[str, Any]]) -> float:
    """Growth of the seconds with the nodes over the last two sizes."""
    first, last = rows[-2], rows[-1]
    return math.log(last['ours_s'] / first['ours_s']) / math.log(
        last['nodes'] / first['nodes']
    )


def table(result: dict[str, Any]) -> str:
    """The table of benchmarks/README.md."""
    lyapunov = next(
        row for row in result['lyapunov']['rows'] if row['nodes'] == 1024
    )
    causal = next(
        row for row in result['causal']['rows'] if row['nodes'] == 2048
    )
    undirected, row = (
        result[x]['rows'][-1] for x in ('undirected', 'long_row')
    )
    growth = {line: result[line]['exponent'] for line in _GROWING}
    batch, decode = result['batch'], result['decode']
    lines = [
        '| what | ours | beside | times as fast | growth |',
        '|---|---|---|---|---|',
        f'| Lyapunov, all pairs, n = 1024 | {lyapunov["ours_s"]:.3f} s | '
        f'scipy `solve_continuous_lyapunov` {lyapunov["peer_s"]:.1f} s | '
        f'{lyapunov["speedup"]:.0f} | n^{growth["lyapunov"]:.1f} |',
        f'| causal, all pairs, n = 2048 | {causal["ours_s"]:.3f} s | one '
        f'`solve_triangular` {causal["peer_s"]:.3f} s | '
        f'{causal["speedup"]:.2f} | n^{growth["causal"]:.1f} |',
        f'| undirected, all pairs, n = 1000 | {undirected["ours_s"]:.3f} s | '
        f'networkx `resistance_distance` {undirected["peer_s"]:.1f} s | '
        f'{undirected["speedup"]:.0f} | n^{growth["undirected"]:.1f} |',
        f'| causal, 12 x 12 graphs of 512 | {batch["causal"]["ours_s"]:.2f} s '
        f'| a call for each {batch["causal"]["peer_s"]:.2f} s | '
        f'{batch["causal"]["speedup"]:.2f} | |',
        f'| Lyapunov, 12 x 12 graphs of 512 | '
        f'{batch["lyapunov"]["ours_s"]:.2f} s | a call for each '
        f'{batch["lyapunov"]["peer_s"]:.2f} s | '
        f'{batch["lyapunov"]["speedup"]:.2f} | |',
        f'| last token, n = {row["nodes"]}, window {row["window"]} | '
        f'{row["ours_s"]:.2f} s, '
        f'{result["long_row"]["peak_growth_bytes"] / 1e6:.0f} MB | | | '
        f'n^{growth["long_row"]:.1f} |',
        f'| one more token, n = {decode["nodes"]} | '
        f'{1000 * decode["ours_s"]:.1f} ms | all pairs anew | '
        f'{decode["speedup"]:.0f} | |',
    ]
    return '\n'.join(lines)


_GROWING = ('lyapunov', 'causal', 'undirected', 'long_row')
LINES = (
    'lyapunov', 'causal', 'undirected', 'batch', 'long_row', 'sketch', 'decode',
)  # fmt: skip


def main() -> None:
    """Measures all lines, or the memory of one in this very process."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--lines', nargs='*', default=LINES, choices=LINES)
    parser.add_argument('--long-row', action='store_true')
    arguments = parser.parse_args()
    if arguments.long_row:
        graph, weight = long_graph(LONG)
        small, few = long_graph(512)
        call = effective_resistance
        call(small.edge_index, few, 512, rows=-1)
        full = (graph.edge_index, weight, LONG)
        print(json.dumps(measure_growth(lambda: call(*full, rows=-1))))
        return
    cuda = arguments.device == 'cuda'
    name = 'spectral_cuda.json' if cuda else 'spectral.json'
    path = HERE / 'results' / name
    result = json.loads(path.read_text()) if path.exists() else {}
    bench = Bench(arguments.device)
    result['machine'] = {
        'device': torch.cuda.get_device_name() if cuda else 'cpu',
        'processor': platform.processor() or platform.machine(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'scipy': scipy.__version__,
        'networkx': nx.__version__,
        'gemm_flops_per_s': bench.flops,
    }
    for line in tqdm(arguments.lines):
        result[line] = getattr(bench, line)()
        path.write_text(json.dumps(result, indent=1) + '\n')
    print(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()
