"""How well each token is heard by later ones: resistances beside Jacobians.

Everything is a conductance, the inverse of a resistance, so that sources out
of reach do no harm: large where much of a source arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Generator, Tensor
from transformers import PreTrainedModel

import gnnbridge as gb
from gnnbridge.diagnostics.agreement import partial_spearman, spearman
from gnnbridge.diagnostics.jacobian import jacobian_norms
from gnnbridge.graph.dense import to_attention
from gnnbridge.models.stack import block_stack
from gnnbridge.spectral import (
    commute_time,
    effective_resistance,
    layered_influence,
)
from gnnbridge.spectral.resistance import Kind

# Above so many numbers in the states of a sequence norms are estimated.
_EXACT_NUMBERS = 2**11
_PROBES = 16

Figures = dict[str, float]
Matrices = dict[str, Tensor]


@dataclass(frozen=True)
class Graphs:
    """Attention of a model on several sequences, in float64.

    Attributes:
        layers: The mean over heads ``[B, L, T, T]``, row = receiver.
        mixing: The share of attention in the stream ``[B, L, T]``.
    """

    layers: Tensor
    mixing: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over layers ``[B, T, T]``."""
        return self.layers.mean(1)

    @property
    def hops(self) -> float:
        """The expected number of attention hops, of all sequences.

        The sum over layers of the mixing, by Theorem H. One number for a
        model, so that a graph that is the same for all sequences has the same
        resistances for all.
        """
        return float(self.mixing.mean((0, 2)).sum())


def graphs_of(model: PreTrainedModel, ids: Tensor) -> Graphs:
    """Attention and mixing of sequences ``[B, T]``."""
    layers, mixing = [], []
    for graph in gb.capture(model, ids):
        A = torch.stack([to_attention(one) for one in graph.to_data_list()])
        layers.append(A.double() / A.double().sum(-1, keepdim=True))
        mixing.append(graph.mixing.double().view(ids.shape))
    return Graphs(torch.stack(layers, 1), torch.stack(mixing, 1))


def uniform(graphs: Graphs) -> Graphs:
    """The same mixing, and attention alike to all earlier tokens."""
    tokens = graphs.layers.size(-1)
    A = torch.ones(tokens, tokens, dtype=torch.float64).tril()
    A = A / A.sum(-1, keepdim=True)
    return replace(graphs, layers=A.expand_as(graphs.layers))


def shuffled(graphs: Graphs, generator: Generator) -> Graphs:
    """What each row gives to earlier tokens, dealt out anew among them.

    Layer by layer; what a token gives to itself stays, and with it how much
    leaves it.
    """
    A = graphs.layers
    earlier = torch.ones(A.shape[-2:], dtype=torch.bool).tril(-1)
    chance = torch.rand(A.shape, generator=generator)
    order = chance.masked_fill(~earlier, 2.0).argsort(dim=-1, stable=True)
    return replace(graphs, layers=A.gather(-1, order))


def conductances(graphs: Graphs) -> Matrices:
    """From every source to every receiver ``[B, T, T]``, by kind.

    Commute times are undefined where a walk cannot come back: the two kinds
    of restart start it again from a token that is drawn uniformly. The
    unrolled graph has the layers one behind the other.
    """
    mean, hops = graphs.mean, graphs.hops

    def of(kind: Kind, hops: float | None) -> Tensor:
        return effective_resistance(
            mean, kind=kind, hops=hops, conductance=True
        )

    return {
        'direct': mean,
        'unlimited': of('causal', None),
        'matched': of('causal', hops),
        'restart': of('restart', None),
        'restart, matched': of('restart', hops),
        'unrolled': torch.stack(
            [
                layered_influence(layers, mixing)[0]
                for layers, mixing in zip(
                    graphs.layers, graphs.mixing, strict=True
                )
            ]
        ),
    }


def with_gains(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The unrolled graph with the gains of its edges ``[B, T, T]``."""
    found = [gb.path_gains(model, row[None]).rollout() for row in ids]
    return _relative(torch.stack(found))


@torch.no_grad()
def jacobians(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Norms of last states by embeddings ``[B, T, T]``, row = receiver.

    Relative to all that a receiver hears, itself included.
    """
    found = []
    for row in ids:
        with block_stack(model, row[None]) as stack:
            exact = stack.states.numel() <= _EXACT_NUMBERS
            found.append(
                jacobian_norms(
                    *stack,
                    method='exact' if exact else 'hutchinson',
                    probes=_PROBES,
                    prefix=stack.prefix,
                ).norm
            )
    return _relative(torch.stack(found))


def _relative(norms: Tensor) -> Tensor:
    return norms / norms.norm(dim=-1, keepdim=True)


def later(pairs: Tensor) -> Tensor:
    """The mean over later receivers, of all but the last ``[*, T - 1]``."""
    count = torch.arange(pairs.size(-1) - 1, 0, -1)
    return total(pairs) / count


def total(pairs: Tensor) -> Tensor:
    """The sum over later receivers, of all but the last ``[*, T - 1]``."""
    return pairs.tril(-1).sum(-2)[..., :-1]


def last(pairs: Tensor) -> Tensor:
    """What the last token hears of each other ``[*, T - 1]``."""
    return pairs[..., -1, :-1]


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {'later': later, 'last': last}


def received(A: Tensor) -> Tensor:
    """The attention that later tokens give, over what uniform ones would.

    Mean over later receivers ``[*, T - 1]``; one for all if attention is
    uniform.
    """
    width = torch.arange(1, A.size(-1) + 1, dtype=A.dtype)
    # Ranks of rounding errors would be a pattern.
    return later(A * width.unsqueeze(-1)).round(decimals=9)


def commute(graphs: Graphs) -> Tensor:
    """Mean commute time with all other tokens, with restarts.

    Of all but the last ``[B, T - 1]``.
    """
    time = commute_time(graphs.mean)
    return (time.sum(-1) / (time.size(-1) - 1))[..., :-1]


def earliness(values: Tensor) -> float:
    """Whether early tokens have large values, mean over sequences."""
    places = -np.arange(values.size(-1))
    return float(np.mean([spearman(row, places) for row in values.numpy()]))


def earliness_at_distance(pairs: Tensor) -> float:
    """The same of pairs ``[B, T, T]`` that are equally far apart.

    Mean over distances up to half of the tokens, without token 0: the mean
    over later tokens is one over near ones alone for late sources.
    """
    far = pairs.size(-1) // 2
    found = [
        earliness(pairs.diagonal(-distance, -2, -1)[:, 1:])
        for distance in range(1, far + 1)
    ]
    return float(np.mean(found))


def together(first: Tensor, second: Tensor) -> Figures:
    """How two figures of tokens ``[B, T']`` go together.

    Returns:
        Rank correlations, means over sequences: plain; given the rank of the
        place; and within places, of all sequences together, of ranks among
        the tokens at one place, which leaves nothing of it whatever its form.
    """
    rows = list(zip(first.numpy(), second.numpy(), strict=True))
    place = np.arange(first.size(-1))
    ranks = [stats.rankdata(one.numpy(), axis=0) for one in (first, second)]
    centred = [(one - one.mean(0)).ravel() for one in ranks]
    flat = min(one.std() for one in centred) < 1e-6
    return {
        'plain': float(np.mean([spearman(x, y) for x, y in rows])),
        'given_place': float(
            np.mean([partial_spearman(x, y, [place]) for x, y in rows])
        ),
        'within_place': 0.0 if flat else float(np.corrcoef(*centred)[0, 1]),
    }
