"""Over-smoothing: how alike token states become with depth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.oversmoothing import dirichlet_energy
from gnnbridge.diagnostics.ranks import (
    effective_rank_of,
    mean_cosine,
    rank_collapse,
    singular_values,
    stable_rank_of,
)
from gnnbridge.graph.checks import at_least_float32
from gnnbridge.graph.schema import is_causal
from gnnbridge.models.ablation import Ablation, ablated
from gnnbridge.models.stack import block_states
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.layer_samples import sequences_of, stacked
from gnnbridge.profiling.settings import ProfileSettings

_KINDS: tuple[Ablation, ...] = get_args(Ablation)
# Sequences that the ablated models read.
_ABLATED = 2
_RANKS: dict[str, Callable[[Tensor], Tensor]] = {
    'effective_rank': effective_rank_of,
    'stable_rank': stable_rank_of,
}
_PLAIN = (*_RANKS, 'rank_collapse', 'mean_cosine')
_PER_STATE = (
    'dirichlet_energy',
    'dirichlet_uniform',
    *_PLAIN,
    'effective_rank_centered',
    'stable_rank_centered',
    'mean_cosine_centered',
)


class Smoothing:
    """The states that enter each layer, and those that leave the last."""

    name = 'smoothing'
    meaning = (
        'The closer the states of all tokens come to each other from layer to '
        'layer, the less they can say apart: attention averages them, and '
        'residual connections and MLPs keep them different.'
    )

    def sampler(self, settings: ProfileSettings) -> StateSampler:
        """A fresh listener for one batch."""
        return StateSampler()

    def tasks(self, subject: Subject) -> list[Task]:
        """The model without residual connections, MLPs, or both."""
        sequences = subject.sequences[:_ABLATED]
        tokens = sum(map(len, sequences))
        width = getattr(subject.model.config, 'hidden_size', 0) or 0
        return [
            Task(
                f'smoothing/{kind}',
                partial(_ablation, kind),
                # Each block runs once with and once without attention.
                2.0 * tokens,
                4 * tokens * int(width) * (subject.num_layers + 1),
            )
            for kind in _KINDS
        ]

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """What was found."""
        own = tally.under('smoothing/')
        if 'number' not in own:
            return None
        layers = own.mean('number').astype(int).tolist()
        found: dict[str, Any] = {
            'state': [
                *(f'before layer {layer}' for layer in layers),
                'after the last block',
            ],
            'mixing': _mean(own, 'mixing'),
        }
        for name in _PER_STATE:
            found[name] = _mean(own, name)
        reasons = [own.reasons[kind] for kind in _KINDS if kind in own.reasons]
        return {
            **found,
            'ablations': {kind: _ablated_means(own, kind) for kind in _KINDS},
            'ablation_reason': reasons[0] if reasons else None,
        }

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """Full collapse: all tokens have the same state."""
        return {
            'dirichlet_energy': 0.0,
            'effective_rank': 1.0,
            'stable_rank': 1.0,
            'rank_collapse': 0.0,
            'mean_cosine': 1.0,
        }


class StateSampler:
    """Measures the states of a batch of sequences."""

    def __init__(self) -> None:
        self._layers: list[list[dict[str, Any]]] = []
        self._states: list[list[dict[str, Any]]] = []
        self._sizes: list[int] = []
        self._causal = True

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer."""
        sequences = sequences_of(graph)
        self._sizes = [int(part.num_nodes or 0) for part in sequences]
        self._causal = is_causal(graph)
        self._layers.append([_of_layer(part) for part in sequences])
        self._states.append([self._of_states(part) for part in sequences])

    def result(self, outgoing: list[Tensor]) -> Samples:
        """Samples of the batch, of its states one more than of its layers."""
        last: list[dict[str, Any]] = [{} for _ in self._sizes]
        # Some models give them in another form, in which they are left out.
        if [len(x) for x in outgoing] == self._sizes:
            last = [self._of_states(Data(x=x)) for x in outgoing]
        samples = stacked(self._layers) | stacked([*self._states, last])
        return {f'smoothing/{name}': rows for name, rows in samples.items()}

    def _of_states(self, graph: Data) -> dict[str, Any]:
        x = graph.get('x')
        if x is None or x.dim() != 2:  # several vectors for each token
            return {}
        x = at_least_float32(x)
        found = {
            **_plain(x),
            'mean_cosine_centered': mean_cosine(x, centered=True),
            'dirichlet_uniform': uniform_energy(x, causal=self._causal),
        }
        sigma = singular_values(x, centered=True)
        for name, rank in _RANKS.items():
            found[f'{name}_centered'] = rank(sigma)
        if 'edge_weight' in graph:
            energy = dirichlet_energy(graph, normalized=True)[0]
            found['dirichlet_energy'] = energy
        return found


def uniform_energy(x: Tensor, *, causal: bool) -> Tensor:
    r"""Normalised Dirichlet energy of states on uniform attention.

    What :func:`~gnnbridge.diagnostics.dirichlet_energy` gives for attention
    that is even over all tokens, or all up to the receiver, from running
    sums: :math:`O(N d)`. It compares states that no attention reads, or that
    different attention does.

    Args:
        x: The states ``[N, d]``.
        causal: Whether later tokens are left out.
    """
    x = x.double()
    size = x.square().sum(-1).mean()
    # Without what all tokens share nothing is lost by taking differences.
    x = x - x.mean(0)
    square = x.square().sum(-1)
    energy = square.mean()
    if causal:
        count = torch.arange(1, len(x) + 1, device=x.device)
        mean = x.cumsum(0) / count.unsqueeze(1)
        apart = square + square.cumsum(0) / count - 2 * (x * mean).sum(-1)
        energy = apart.mean() / 2
    return energy.clamp(min=0) / size.masked_fill(size == 0, 1.0)


def _of_layer(graph: Data) -> dict[str, Any]:
    found: dict[str, Any] = {'number': int(graph.layer)}
    if 'mixing' in graph:
        found['mixing'] = graph.mixing.mean()
    return found


def _plain(x: Tensor) -> dict[str, Any]:
    """What the states of the whole and of the ablated models compare by."""
    sigma = singular_values(x)
    return {
        **{name: rank(sigma) for name, rank in _RANKS.items()},
        'rank_collapse': rank_collapse(x),
        'mean_cosine': mean_cosine(x),
    }


def _ablation(kind: Ablation, subject: Subject) -> Samples:
    """The states of some sequences in a model that is taken apart."""
    found: list[list[dict[str, Any]]] = []
    with ablated(subject.model, kind) as model:
        for ids in subject.sequences[:_ABLATED]:
            states = [x[0] for x in block_states(model, ids)]
            found.append([_plain(at_least_float32(x).cpu()) for x in states])
    layers = list(zip(*found, strict=True))
    return {
        f'smoothing/{kind}/{name}': rows
        for name, rows in stacked(layers).items()
    }


def _ablated_means(own: Tally, kind: str) -> dict[str, Any] | None:
    if f'{kind}/{_PLAIN[0]}' not in own:
        return None
    return {name: _mean(own, f'{kind}/{name}') for name in _PLAIN}


def _mean(own: Tally, name: str) -> list[Any] | None:
    return own.mean(name).tolist() if name in own else None
