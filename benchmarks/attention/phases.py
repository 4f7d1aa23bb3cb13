"""Where the time of the compressed-row kernel goes: its parts, one by one.

Each part runs alone over the same rows, heads and threads, made of the same
functions as the kernel, so that their times add up to about the whole.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import torch
from attention.bench import HEADS, WIDTH, Bench
from attention.graphs import random_causal, sparse_digraph
from attention.measure import inputs

from gnnbridge.nn import plan_attention
from gnnbridge.nn.kernels import csr_cpu
from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.gather import gather_dots, gather_sum
from gnnbridge.nn.kernels.loops_rows import (
    block_end,
    fetch_ahead,
    fetch_own,
    full,
    side_by_side,
)
from gnnbridge.nn.kernels.numba_options import compiled
from gnnbridge.nn.kernels.simd import exp_sum, fill_up, peak
from gnnbridge.nn.kernels.strided import strided

ROUNDS = 9
# What a part does, as a number for the compiled loop.
COPIES, PRODUCTS, SOFTMAX, SUMS = range(4)
PARTS = {
    'copies_s': COPIES,
    'products_s': PRODUCTS,
    'softmax_s': SOFTMAX,
    'sums_s': SUMS,
}


@compiled
def part(  # type: ignore[no-untyped-def]
    which, query, nodes, out, other, start, size, ahead, rows, work, rooms
):
    """One part of the kernel over the rows and heads of a work."""
    count_nodes, width = size
    number = query.data.dtype.type
    s, block = rooms[1], work[0]
    while block < work[1]:
        stop = block_end(start, block, work[1], rows)
        for head in range(work[2], work[3]):
            new = which == COPIES and block == work[0] and head == work[2]
            x = side_by_side(nodes, head, count_nodes, width, rooms[0], new)
            at = 0
            for row in range(block, stop if which != COPIES else block):
                first = start[row]
                count = start[row + 1] - first
                whole = full(count, LANES)
                if which == SOFTMAX:
                    fill_up(s, at, count, number(-np.inf))
                    high = peak(s, at, whole)
                    s[at] = exp_sum(s, at, whole, high)
                    at += whole
                    continue
                fetch_ahead(
                    nodes, other, start, row, ahead, work, head, 1, width
                )
                own = row * query.node + head * query.head
                if which == PRODUCTS:
                    fetch_own(query, own, width)
                    gather_dots(
                        query.data, own, x.data, head * x.head, other, first,
                        count, x.node, width, number(0.1), s, at,
                    )  # fmt: skip
                else:
                    gather_sum(
                        s, at, x.data, head * x.head, other, first, count,
                        x.node, width, number(1), out.data,
                        row * out.node + head * out.head, False,
                    )  # fmt: skip
                at += whole
        block = stop


def phases(bench: Bench) -> Any:
    """The parts on both graphs that no cache holds, beside the whole."""
    return {
        'random': _parts(bench, random_causal(4096), 4096, HEADS, WIDTH),
        'gnn': _parts(bench, sparse_digraph(), 100_000, 4, 32),
    }


def _parts(
    bench: Bench, edge_index: torch.Tensor, nodes: int, heads: int, width: int
) -> dict[str, float]:
    query, key, value = inputs(nodes, heads, width, 'cpu', torch.float32)
    plan = plan_attention(edge_index, (nodes, nodes))
    graph, threads = plan.rows, torch.get_num_threads()
    shared = csr_cpu._is_shared(key)
    rows = csr_cpu._FEW if shared else csr_cpu._MANY
    out = csr_cpu.empty_output(query, key, value, csr_cpu.memory.empty)
    works = csr_cpu._works(graph.start, (0, heads), shared, threads)
    rooms = csr_cpu._copies(key, value, shared)[:1]
    rooms.append(csr_cpu._block(graph.start, rows, query))

    def run(which: int) -> None:
        nodes_of = key if which == PRODUCTS else value
        arguments = (
            which, strided(query), strided(nodes_of), strided(out),
            graph.key.numpy(), graph.start.numpy(), (nodes, width),
            rows if shared else 0, rows,
        )  # fmt: skip
        csr_cpu._run(part, arguments, works, rooms, query.dtype, threads)
        if which == COPIES:  # of keys, and of values
            csr_cpu._run(part, arguments, works, rooms, query.dtype, threads)

    calls = {
        name: lambda which=which: run(which) for name, which in PARTS.items()
    }
    calls['whole_s'] = lambda: bench.conv(query, key, value, plan)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            times[name].append(bench.clock.once(call))
    # The first round compiles.
    return {name: median(seconds[1:]) for name, seconds in times.items()}
