"""Whether the kernel that a plan chooses is the fastest one."""

from __future__ import annotations

from statistics import median
from typing import Any

from attention.bench import HEADS, WIDTH, Bench
from attention.graphs import random_causal
from attention.measure import inputs, trained
from torch import Tensor

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.nn import AttentionPlan, plan_attention

# Graphs around the borders at which the choice changes: few and many edges,
# sparse and nearly full, narrow and wide windows.
SHARES = {
    64: (0.1, 1.0),
    256: (0.05, 0.2, 1.0),
    1024: (0.003, 0.01, 0.1, 0.25, 0.5, 0.9),
    4096: (0.001, 0.03),
}
WINDOWS = {64: (8,), 1024: (16, 128, 400, 800), 4096: (64, 1024, 2400)}
ROUNDS = 7


def choices(bench: Bench) -> Any:
    """Every kernel on every graph, and how far the chosen one is behind."""
    rows = {}
    for tokens, shares in SHARES.items():
        for share in shares:
            edge_index = random_causal(tokens, share)
            rows[f'random {share:g}, {tokens}'] = _row(
                bench, edge_index, tokens
            )
    for tokens, sizes in WINDOWS.items():
        for size in sizes:
            edge_index = sliding_window_graph(tokens, size, sinks=4).edge_index
            rows[f'window {size}, {tokens}'] = _row(bench, edge_index, tokens)
    return {
        'graphs': rows,
        'largest_loss': {
            way: max(row[way]['loss'] for row in rows.values())
            for way in ('forward', 'forward_backward')
        },
    }


def _row(bench: Bench, edge_index: Tensor, tokens: int) -> Any:
    edge_index = edge_index.to(bench.device)
    chosen = plan_attention(edge_index, (tokens, tokens))
    plans = _plans(bench, edge_index, tokens)
    tensors = inputs(tokens, HEADS, WIDTH, bench.device, bench.dtype)
    row: dict[str, Any] = {'chosen': chosen.backend, 'edges': chosen.num_edges}
    for way in ('forward', 'forward_backward'):
        calls = {
            name: _call(bench, plan, tensors, way == 'forward')
            for name, plan in plans.items()
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call()
        # All in turn, so that a busy machine is busy for each of them.
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(bench.clock.once(call))
        spent = {name: median(seconds) for name, seconds in times.items()}
        row[way] = {
            'seconds': spent,
            'loss': spent[chosen.backend] / min(spent.values()),
        }
    return row


def _plans(
    bench: Bench, edge_index: Tensor, tokens: int
) -> dict[str, AttentionPlan]:
    """The plans of all kernels that can run a graph in reasonable time."""
    sparse = 'csr_cpu' if bench.device == 'cpu' else 'csr_triton'
    names = ['dense', 'row_window', sparse]
    # Gather and scatter need the edges times the width.
    if edge_index.size(1) < 1 << 17:
        names.append('scatter')
    plans = {}
    for name in names:
        try:
            plans[name] = plan_attention(
                edge_index, (tokens, tokens), backend=name
            )
        except ValueError:  # not a graph of row windows
            continue
    return plans


def _call(
    bench: Bench, plan: AttentionPlan, tensors: list[Tensor], forward: bool
) -> Any:
    def run(*given: Tensor) -> Tensor:
        out = bench.conv(*given, plan)
        assert isinstance(out, Tensor)
        return out

    if not forward:
        return trained(run, tensors)
    return lambda: run(*tensors)
