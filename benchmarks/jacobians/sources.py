"""Is the resistance of early tokens lower, and does attention follow it?"""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.spectral import effective_resistance

from .agreement import partial_spearman, spearman
from .scores import Graphs, uniform_graph

Figures = dict[str, float]


def received_attention(A: Tensor) -> Tensor:
    """The mean attention of later tokens to each ``[*, N]``."""
    later = torch.ones_like(A).tril(-1)
    return (A * later).sum(-2) / later.sum(-2).clamp(min=1)


def source_figures(
    graphs: Graphs, full: Tensor | None, measured: Tensor
) -> dict[str, object]:
    """Resistances of the last token to every source, beside their places.

    Args:
        graphs: Attention of one sequence.
        full: The full rollout ``[N, N]``, if there is one.
        measured: The measured norms.

    Returns:
        For each layer and for the mean matrix, at unlimited and at matched
        depth; and for the full rollout and the measured norms, whose
        resistance is the inverse share of a source in all that is received.
        Token 0, to which every walk comes, and the last are left out.
    """
    tokens = len(measured)
    matrices = [*graphs.layers, graphs.mean]
    names = [*map(str, range(len(graphs.layers))), 'mean']
    found: dict[str, object] = {
        'hops': graphs.hops,
        'layers': {
            name: {
                depth: _of_graph(A, hops)
                for depth, hops in (
                    ('unlimited', None),
                    ('matched', graphs.hops),
                )
            }
            for name, A in zip(names, matrices, strict=True)
        },
    }
    received = received_attention(graphs.mean)
    shares = {'measured': measured}
    if full is not None:
        shares['full rollout'] = full
    for name, norms in shares.items():
        row = norms[-1].square()
        resistance = row.sum() / row
        found[name] = _figures(resistance[1 : tokens - 1], received)
    return found


def _of_graph(A: Tensor, hops: float | None) -> Figures:
    last = len(A) - 1
    resistance = effective_resistance(A, hops=hops, rows=last)[1:last]
    null = effective_resistance(uniform_graph(len(A)), hops=hops, rows=last)
    null = null[1:last]
    place = torch.arange(1, last)
    return {
        **_figures(resistance, received_attention(A)),
        'uniform_graph_with_place': spearman(null, place),
        'ratio_to_uniform_with_place': spearman(resistance / null, place),
    }


def _figures(resistance: Tensor, received: Tensor) -> Figures:
    """For sources from 1 to the last but one."""
    heard = received[1 : len(resistance) + 1]
    place = torch.arange(len(resistance))
    return {
        'with_place': spearman(resistance, place),
        'with_received': spearman(resistance, heard),
        'with_received_given_place': partial_spearman(
            resistance, heard, [place]
        ),
    }
