"""Where do a few more edges help a decoder that reads through a window?

Adds edges to a window with a sink by causal resistance, beside random ones and
GTR, and then lets the embedded model read a text on sparse patterns of equal
budget. Weights stay as they are: only the token graph is rewired.

    python examples/rewiring.py
"""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch_geometric.data import Data

import gnnbridge as gb
import gnnbridge.transforms as T
from gnnbridge.datasets.text import sample_text
from gnnbridge.graph import sliding_window_graph
from gnnbridge.spectral import effective_resistance


def mean_resistance(data: Data, hops: float) -> float:
    """Mean causal resistance of all pairs, attention even over the edges."""
    A = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.float64)
    A[data.edge_index[1], data.edge_index[0]] = 1.0  # row = receiver
    R = effective_resistance(A / A.sum(1, keepdim=True), hops=hops)
    return float(R[torch.ones_like(R).tril(-1).bool()].mean())


@torch.no_grad()
def nats_per_token(model: torch.nn.Module, ids: torch.Tensor) -> float:
    """Mean negative log-likelihood of each token given those before it."""
    logits = model(ids).logits  # [1, T, V]
    return float(F.cross_entropy(logits[0, :-1], ids[0, 1:]))


def add_edges() -> None:
    """Sixteen edges more for a window over 48 tokens."""
    window = sliding_window_graph(48, window=4, sinks=1)
    print(f'window and sink: {mean_resistance(window, 6.0):10.1f} ohm')
    for transform in (
        T.RandomEdges(16),
        T.GTR(16),
        T.CausalResistanceRewiring(16, hops=6.0),
    ):
        rewired, changes = transform.rewire(window)
        resistance = mean_resistance(rewired, 6.0)
        first = ', '.join(f'{j}->{i}' for j, i in changes.added.T[:3].tolist())
        name = type(transform).__name__
        print(f'{name:24} {resistance:10.1f} ohm, {first}, ...')


def read_a_text(budget: int) -> None:
    """The embedded model with so many keys for each token and head."""
    model, tokenizer = gb.load_embedded()
    text = tokenizer(sample_text(), return_tensors='pt').input_ids
    ids, other = text[:, :256], text[:, 256:512]
    print(f'\nfull attention: {nats_per_token(model, ids):.3f} nats per token')
    patterns = {
        name: T.pattern(name, budget, ids.size(1))
        for name in ('window', 'sinks', 'bigbird', 'causal-resistance')
    }
    # Measured on other text: heads that look far get more of the budget.
    patterns['shared among heads'] = T.measured_pattern(
        gb.capture(model, other), budget, ids.size(1)
    )
    for name, pattern in patterns.items():
        with gb.rewire(model, pattern):
            print(f'{name:24} {nats_per_token(model, ids):.3f}')


def main() -> None:
    """Edges for a graph, then graphs for a model."""
    add_edges()
    read_a_text(budget=16)


if __name__ == '__main__':
    main()
