"""Which kernel runs which graph, and what it saves.

One query attends to few keys on a sparse graph; a plan finds out how its rows
are laid out and picks the kernel. Each line shows a plan in its own words and
its time beside gather and scatter, which PyG would do.

    python examples/attention_plans.py
"""

import time

import torch

from gnnbridge.graph import block_graph, dilated_graph, sliding_window_graph
from gnnbridge.nn import AttentionConv, plan_attention

tokens, heads, width = 1024, 4, 32
torch.manual_seed(0)
query, key, value = torch.randn(3, tokens, heads, width)  # each [N, H, D]

graphs = {
    'causal, not listed': 'causal',
    'window and sinks': sliding_window_graph(tokens, 64, sinks=2).edge_index,
    'blocks': block_graph(tokens, 128).edge_index,
    'dilated': dilated_graph(tokens, 32, 4).edge_index,
    'random': torch.rand(tokens, tokens).lt(0.02).nonzero().t().contiguous(),
}
conv = AttentionConv()


def milliseconds(plan):
    """The best of three runs; the first one may compile."""
    conv(query, key, value, plan)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        conv(query, key, value, plan)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


with torch.no_grad():
    for name, graph in graphs.items():
        plan = plan_attention(graph, (tokens, tokens))
        print(f'{name}: {plan.explain()}')
        # The same edges, a message along each.
        scatter = plan_attention(
            plan.edge_index, (tokens, tokens), backend='scatter'
        )
        expected = conv(query, key, value, scatter)
        out = conv(query, key, value, plan)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        print(
            f'    {milliseconds(plan):.2f} ms, by gather and scatter '
            f'{milliseconds(scatter):.2f} ms'
        )
