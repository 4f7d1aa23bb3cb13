"""Peak memory, each figure from a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attention.bench import HEADS, PEERS, WIDTH, Bench, Line, mask_of
from attention.graphs import expander, random_causal, window
from attention.measure import inputs, measure_growth, peak_memory, trained
from attention.peers import sdpa
from torch import Tensor

from gnnbridge.nn import AttentionConv, plan_attention

SCRIPT = Path(__file__).parent.parent / 'attention_kernels.py'
GRAPHS: dict[str, Callable[[], Tensor]] = {
    'window': lambda: window(4096),
    'random': lambda: random_causal(4096),
    'expander': lambda: expander(16384),
}


def grown(kind: str, graph: str, backward: bool, device: str = 'cpu') -> int:
    """Bytes that planning and running a graph need beyond its inputs."""
    conv, edge_index = AttentionConv(), GRAPHS[graph]().to(device)
    nodes = int(edge_index.max()) + 1
    dtype = torch.float32 if device == 'cpu' else torch.bfloat16

    def run(edge_index: Tensor, *tensors: Tensor) -> Tensor:
        if kind == 'ours':
            size = (tensors[0].size(0), tensors[0].size(0))
            out = conv(*tensors, plan_attention(edge_index, size))
            assert isinstance(out, Tensor)
            return out
        if kind == 'sdpa':
            mask = mask_of(edge_index, tensors[0].size(0))
            return sdpa(*tensors, attn_mask=mask)
        return PEERS[kind](*tensors, edge_index)

    def call(edge_index: Tensor, tensors: list[Tensor]) -> Any:
        if backward:
            return trained(lambda *x: run(edge_index, *x), tensors)()
        with torch.no_grad():
            return run(edge_index, *tensors)

    # Compilers and libraries load on the first call, of the same kernel.
    small = {'window': window, 'random': lambda n: random_causal(n, 0.05)}
    warm = small.get(graph, expander)(512).to(device)
    call(warm, inputs(512, HEADS, WIDTH, device, dtype))
    tensors = inputs(nodes, HEADS, WIDTH, device, dtype)
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(edge_index, tensors)
        return torch.cuda.max_memory_allocated() - before
    return measure_growth(lambda: call(edge_index, tensors))


def memory(graph: str, peers: tuple[str, ...], backward: bool = False) -> Line:
    """Peak memory beside the peers', and beside what the inputs take."""

    def line(bench: Bench) -> Any:
        kinds = ('ours', *peers)
        if bench.device == 'cuda':
            found = {
                kind: grown(kind, graph, backward, 'cuda') for kind in kinds
            }
        else:
            way = str(int(backward))
            found = {
                kind: peak_memory(SCRIPT, '--memory', kind, graph, way)
                for kind in kinds
            }
        edge_index = GRAPHS[graph]()
        nodes, edges = int(edge_index.max()) + 1, edge_index.size(1)
        unit = bench.dtype.itemsize * (edges + nodes * HEADS * WIDTH)
        return {
            'bytes': found,
            'peers_over_ours': {p: found[p] / found['ours'] for p in peers},
            'ours_over_numbers_of_E+NHD': found['ours'] / unit,
        }

    return line
