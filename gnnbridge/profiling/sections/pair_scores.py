"""Scores of the influence between tokens that need no backward pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.agreement import agreement
from gnnbridge.diagnostics.runway import path_counts
from gnnbridge.graph.dense import as_attention
from gnnbridge.models.capture import capture
from gnnbridge.models.gains import path_gains
from gnnbridge.models.stack import unconverted
from gnnbridge.profiling.sampling import Subject
from gnnbridge.spectral.layered import envelope_hitting, layered_influence
from gnnbridge.spectral.layers import renormalized
from gnnbridge.spectral.resistance import effective_resistance
from gnnbridge.spectral.rollout import attention_rollout

# Tokens up to which paths through gains are followed exactly.
_EXACT = 256


def pair_scores(subject: Subject, ids: Tensor) -> dict[str, Tensor]:
    """Scores ``[N, N]``, row = receiver, larger for more influence.

    Where the mixing of a layer is not known, those that need it are left out;
    path gains where a block is not of a form whose derivative is known.

    Args:
        subject: The model.
        ids: The tokens ``[N]``.
    """
    graphs = capture(subject.model, ids, device='cpu')
    layers = torch.stack([_attention(graph) for graph in graphs])
    size, depth = len(ids), len(graphs)
    scores: dict[str, Tensor] = {}
    if all('mixing' in graph for graph in graphs):
        mixing = torch.stack([graph.mixing.double() for graph in graphs])
        share = mixing.mean(1)
        scores['rollout'], scores['token visits V'] = layered_influence(
            layers, mixing
        )
        scores['conductance'] = effective_resistance(
            layers.mean(0), hops=float(share.sum()), conductance=True
        )
        uniform = renormalized(torch.ones(size, size).double().tril())
        scores['uniform rollout'] = attention_rollout(
            uniform.expand(depth, size, size), share
        )
    scores['envelope h*'] = envelope_hitting(layers)
    gains = _path_gains(subject, ids)
    if gains is not None:
        scores['path gains'] = gains
    place = torch.arange(size)
    distance = place.unsqueeze(1) - place
    ways = [math.log10(count) for count in path_counts(size, depth)[::-1]]
    scores['path count'] = torch.tensor(ways).double()[distance.clamp(min=0)]
    scores['-distance'] = -distance.double()
    return scores


def score_samples(
    scores: Mapping[str, Tensor], norm: np.ndarray
) -> dict[str, np.ndarray]:
    """Samples: the last row of each score, and its agreement with norms.

    Rows of scores that are not negative are made to sum to one; path counts
    are logarithms, and distances distances.
    """
    samples: dict[str, np.ndarray] = {}
    for name, score in scores.items():
        values = score.double().cpu().numpy()
        row = values[-1]
        if name not in ('path count', '-distance'):
            row = row / row.sum() if row.sum() > 0 else row
        found = agreement(values, norm)
        start = f'squashing/proxy/{name}'
        samples[f'{start}/last'] = row[None]
        samples[f'{start}/all'] = np.array([found.pairs])
        samples[f'{start}/per_receiver'] = np.array([found.per_receiver])
        samples[f'{start}/partial'] = np.array([found.partial])
    return samples


def _attention(graph: Data) -> Tensor:
    """The mean over heads, with rows that sum to one."""
    A = as_attention(graph.edge_index, graph.edge_weight, graph.num_nodes)
    return renormalized(A.double())


def _path_gains(subject: Subject, ids: Tensor) -> Tensor | None:
    try:
        with unconverted(subject.model) as model:
            device = model.device if model.device.type != 'meta' else 'cpu'
            gains = path_gains(model, ids.unsqueeze(0).to(device))
    except NotImplementedError:
        return None
    if len(ids) <= _EXACT:
        return gains.rollout()
    return gains.rollout(method='rademacher')
