"""The failure modes of a decoder, one diagnostic at a time.

`gb.profile` runs all of them over a corpus and writes a report; here are the
functions behind it, on the embedded model and one page of text.

    python examples/failure_modes.py
"""

from __future__ import annotations

import torch

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.diagnostics import (
    effective_rank,
    jacobian_norms,
    representation_collapse,
    sink_rate,
    sink_score,
    uniform_sink_score,
    value_norm_ratio,
)
from gnnbridge.models.ablation import ablated
from gnnbridge.models.loading import reinitialize
from gnnbridge.models.stack import block_stack, block_states

TOKENS = 96
LENGTHS = (8, 16, 32, 64)


def sinks(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """Which layers send their attention to the first token, and what for."""
    graphs = gb.capture(model, ids, values=True)
    scores, rates = sink_score(graphs), sink_rate(graphs)  # [L, H], [L]
    print(f'sinks (uniform attention: {uniform_sink_score(64):.2f})')
    for layer, graph in enumerate(graphs):
        # Small values: heads that park there do nothing.
        value = float(value_norm_ratio(graph).mean())
        print(
            f'  layer {layer}: {rates[layer]:.0%} of the heads, '
            f'highest score {scores[layer].max():.2f}, '
            f'value of the first token {value:.2f} of the mean'
        )


def smoothing(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """How many directions the states keep, with and without the residual."""
    ranks = effective_rank(torch.cat(block_states(model, ids)))  # [L + 1]
    with ablated(model, 'attention_only'):
        alone = effective_rank(torch.cat(block_states(model, ids)))
    print('effective rank by layer')
    print('  the model:      ', ' '.join(f'{r:5.1f}' for r in ranks))
    print('  attention alone:', ' '.join(f'{r:5.1f}' for r in alone))


def squashing(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """What of each token's embedding the last state depends on."""
    with block_stack(model, ids) as stack:
        norm = jacobian_norms(*stack, receivers=-1).norm[0]  # [N]
    share = norm[:-1].square() / norm[:-1].square().sum()
    weakest = int(share.argmin())
    print('dependence of the last token on all others')
    print(f'  the first {share[0]:.1%}, the last ten {share[-10:].sum():.1%}')
    print(f'  the least on token {weakest} ({share[weakest]:.2%})')


def collapse(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """Whether a repeated last token can still be told from a single one."""

    def last_state(tokens: torch.Tensor) -> torch.Tensor:
        return block_states(model, tokens)[-1][:, -1]

    windows = ids[0, 1:].unfold(0, max(LENGTHS), 4)[:8]  # [S, T]
    curve = representation_collapse(last_state, windows, LENGTHS)
    means = ' '.join(f'{d:6.1f}' for d in curve.l1.mean(0))
    slope, error = curve.slope
    print(f'  {means}   slope {slope:+.2f} +- {error:.2f}')


@torch.no_grad()
def main() -> None:
    """Prints what each diagnostic finds."""
    model, tokenizer = gb.load_embedded()
    fresh = reinitialize(model)
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids[:, :TOKENS]
    sinks(model, ids)
    smoothing(model, ids)
    squashing(model, ids)
    lengths = ', '.join(map(str, LENGTHS))
    print(f'L1 distance of the last states at {lengths} tokens')
    for each in (model, fresh):
        collapse(each, ids)


if __name__ == '__main__':
    main()
