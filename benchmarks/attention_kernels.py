"""Attention over graphs at the speed that their structure allows.

Every line sets a kernel beside its peer in the same run, alternating, and
beside the bound that the machine's matrix products and memory set. Without a
GPU it runs on the CPU in float32; with `--device cuda` in bfloat16, against
flash attention and flex attention, with absolute times.

    python benchmarks/attention_kernels.py               all, on this CPU
    python benchmarks/attention_kernels.py --only window --only plan
    python benchmarks/attention_kernels.py --device cuda

writes benchmarks/results/attention_kernels.json (`_cuda.json` on a GPU) after
every line; lines that are there already are measured again only if `--only`
names them, or with `--all`. `--table` prints them as markdown.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from tqdm import tqdm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from attention.bench import (
    PEERS,
    Bench,
    Line,
    causal,
    dense_mask,
    full_causal_list,
    gather_scatter,
    gnn,
    growth,
    planning,
)
from attention.choices import choices
from attention.graphs import expander, random_causal, sparse_digraph, window
from attention.memory import grown, memory
from attention.models import decode, prefill, training
from attention.peers import have_torch_scatter
from attention.phases import phases
from attention.table import table


def lines(device: str) -> dict[str, Line]:
    """All lines by name."""
    found: dict[str, Line] = {}
    tokens = (1024, 4096) if device == 'cpu' else (1024, 4096, 32768)
    for nodes in tokens:
        for backward in (False, True):
            way = 'forward_backward' if backward else 'forward'
            found[f'causal_{nodes}_{way}'] = causal(nodes, backward)
    for backward in (False, True):
        way = 'forward_backward' if backward else 'forward'
        for name, graph in (('window', window), ('random', random_causal)):
            found[f'{name}_4096_{way}'] = dense_mask(graph, 4096, backward)
        found[f'expander_16384_{way}'] = dense_mask(expander, 16384, backward)
        found[f'gnn_{way}'] = gnn(backward)
        found[f'gnn_attention_{way}'] = gather_scatter(
            'transformer_conv', lambda _: sparse_digraph(), 100_000,
            backward=backward, shape=(4, 32),
        )  # fmt: skip
    found |= cuda_lines() if device == 'cuda' else {'phases': phases}
    for peer in PEERS:
        if peer == 'torch_scatter' and not have_torch_scatter():
            continue
        for name, graph in (('window', window), ('random', random_causal)):
            found[f'{name}_4096_against_{peer}'] = gather_scatter(
                peer, graph, 4096
            )
    found['choices'] = choices
    found['expander_growth'] = growth
    for name, peers in (
        ('window', ('sdpa', 'pyg', 'transformer_conv')),
        ('random', ('sdpa', 'pyg', 'transformer_conv')),
        ('expander', ()),
    ):
        found[f'memory_{name}'] = memory(name, peers)
    found['memory_expander_backward'] = memory('expander', (), True)
    found['model_prefill'] = prefill
    found['model_training'] = training
    found['model_decode'] = decode
    found['plan_causal_1024'] = planning(lambda: full_causal_list(1024), 1024)
    found['plan_window_4096'] = planning(lambda: window(4096), 4096)
    found['plan_random_4096'] = planning(lambda: random_causal(4096), 4096)
    found['plan_expander_16384'] = planning(lambda: expander(16384), 16384)
    found['plan_gnn'] = planning(sparse_digraph, 100_000, heads=4, width=32)
    return found


def cuda_lines() -> dict[str, Line]:
    """Every kernel of the GPU on the graphs that it can run, up to 32k."""
    found: dict[str, Line] = {}
    for nodes in (4096, 32768):
        for backward in (False, True):
            way = 'forward_backward' if backward else 'forward'
            for backend in ('row_window', 'flex', 'csr_triton'):
                found[f'window_{nodes}_{backend}_{way}'] = dense_mask(
                    window, nodes, backward, backend
                )
            found[f'expander_{nodes}_csr_triton_{way}'] = dense_mask(
                expander, nodes, backward, 'csr_triton'
            )
    return found


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured with."""
    name = torch.cuda.get_device_name() if device == 'cuda' else _processor()
    return {
        'device': name,
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
    }


def _processor() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':')[1].strip()
    return platform.machine()


def main() -> None:
    """Measures what is asked for and writes it down."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--only', action='append', default=[])
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--memory', nargs=3)
    parser.add_argument('--table', action='store_true')
    options = parser.parse_args()
    if options.memory:
        kind, graph, backward = options.memory
        print(json.dumps(grown(kind, graph, backward == '1')))
        return
    suffix = '' if options.device == 'cpu' else '_cuda'
    path = HERE / 'results' / f'attention_kernels{suffix}.json'
    if options.table:
        print(table(json.loads(path.read_text())))
        return
    here = machine(options.device)
    results = json.loads(path.read_text()) if path.exists() else {}
    if results.get('machine') != here:
        results = {'machine': here, 'lines': {}}
    bench = Bench(options.device)
    results['rates'] = bench.rates
    chosen = {
        name: line
        for name, line in lines(options.device).items()
        if any(name.startswith(prefix) for prefix in options.only)
        or options.all
        or (not options.only and name not in results['lines'])
    }
    for name, line in (progress := tqdm(chosen.items())):
        progress.set_postfix_str(name)
        results['lines'][name] = line(bench)
        path.write_text(json.dumps(results, indent=1) + '\n')
        tqdm.write(f'{name}: {json.dumps(results["lines"][name])}')


if __name__ == '__main__':
    main()
