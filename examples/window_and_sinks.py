"""What does a decoder lose when each token sees only its neighbours?

The embedded model reads a text through sliding windows, with and without the
first token as an attention sink (https://arxiv.org/abs/2309.17453). Weights
stay as they are: only the token graph is rewired.

    python examples/window_and_sinks.py
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.graph import sliding_window_graph


@torch.no_grad()
def nats_per_token(model: torch.nn.Module, ids: torch.Tensor) -> float:
    """Mean negative log-likelihood of each token given those before it."""
    logits = model(ids).logits  # [1, T, V]
    return float(F.cross_entropy(logits[0, :-1], ids[0, 1:]))


def main() -> None:
    """Prints a table of losses by window and number of sinks."""
    model, tokenizer = gb.load_embedded()
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids[:, :256]
    num_tokens = ids.size(1)

    # Attention as message passing on the full causal graph: the same numbers.
    original = nats_per_token(model, ids)
    gb.convert(model)
    assert abs(nats_per_token(model, ids) - original) < 1e-4

    print(
        f'{num_tokens} tokens, all of the past: {original:.3f} nats per token'
    )
    print('window   no sink   first token kept')
    for window in (64, 32, 16, 8, 4):
        row = []
        for sinks in (0, 1):
            graph = sliding_window_graph(num_tokens, window, sinks=sinks)
            with gb.rewire(model, graph):
                row.append(nats_per_token(model, ids))
        print(f'{window:6d}   {row[0]:7.3f}   {row[1]:7.3f}')


if __name__ == '__main__':
    main()
