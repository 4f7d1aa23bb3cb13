"""Scores of the influence of a source on a receiver, from a forward pass.

Every score is larger where more influence is expected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.graph.dense import as_attention
from gnnbridge.models.anatomy import read_blocks
from gnnbridge.models.capture import capture
from gnnbridge.models.gains import PathGains, gains_of, path_gains
from gnnbridge.spectral import (
    attention_rollout,
    effective_resistance,
    envelope_hitting,
    layered_influence,
    lyapunov_resistance,
    rms_rollout,
)

FULL = 'full rollout (+ query path)'
# What each score is. Baselines need none of the library; resistances need
# attention alone; the others also weights; controls have no graph.
KINDS = {
    '-distance': 'baseline',
    '-source index': 'baseline',
    'uniform-graph rollout': 'baseline',
    'direct attention': 'baseline',
    'direct attention, gains': 'baseline',
    'plain rollout, mixing 1/2': 'baseline',
    'T, measured mixing': 'resistance',
    'V, measured mixing': 'resistance',
    'causal conductance': 'resistance',
    '-restart resistance': 'resistance',
    'depth-matched conductance': 'resistance',
    'envelope h*': 'resistance',
    '-Lyapunov resistance': 'resistance',
    'rms rollout, gains': 'gains',
    '+ token gains': 'gains',
    '+ key path': 'gains',
    FULL: 'full',
    'full without key path': 'ablation',
    'full without MLP': 'ablation',
    'full, paths incoherent': 'ablation',
    'full on uniform attention': 'control',
}
KIND_OF_REFERENCE = 'measured, no proxy'
Scores = dict[str, Tensor]


@dataclass(frozen=True)
class Graphs:
    """Attention of a model on one sequence.

    Attributes:
        layers: The mean over heads ``[L, N, N]``, row = receiver.
        mixing: The share of attention in the stream ``[L, N]``.
    """

    layers: Tensor
    mixing: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over layers ``[N, N]``."""
        return self.layers.mean(0)

    @property
    def hops(self) -> float:
        """The expected number of attention hops through the layers."""
        return float(self.mixing.mean(1).sum())


def graphs_of(model: PreTrainedModel, ids: Tensor) -> Graphs:
    """Attention and mixing of one sequence ``[1, N]``, by `capture`."""
    layers, mixing = [], []
    for graph in capture(model, ids):
        A = as_attention(
            graph.edge_index, graph.edge_weight, graph.num_nodes
        ).double()
        layers.append(A / A.sum(-1, keepdim=True))
        mixing.append(graph.mixing.double())
    return Graphs(torch.stack(layers), torch.stack(mixing))


def uniform_graph(tokens: int) -> Tensor:
    """Attention that is the same for all earlier tokens."""
    A = torch.ones(tokens, tokens, dtype=torch.float64).tril()
    return A / A.sum(-1, keepdim=True)


def attention_scores(graphs: Graphs) -> Scores:
    """The scores that need attention alone."""
    layers, mean = graphs.layers, graphs.mean
    place = torch.arange(len(mean), dtype=torch.float64)
    ends, meets = layered_influence(layers, graphs.mixing)
    uniform = uniform_graph(len(mean)).expand_as(layers)
    return {
        '-distance': place - place.unsqueeze(-1),
        '-source index': -place.expand_as(mean),
        'uniform-graph rollout': attention_rollout(uniform),
        'direct attention': mean,
        'plain rollout, mixing 1/2': attention_rollout(layers),
        'T, measured mixing': ends,
        'V, measured mixing': meets,
        'causal conductance': effective_resistance(mean, conductance=True),
        '-restart resistance': -effective_resistance(mean, kind='restart'),
        'depth-matched conductance': effective_resistance(
            mean, hops=graphs.hops, conductance=True
        ),
        'envelope h*': envelope_hitting(layers),
        '-Lyapunov resistance': -lyapunov_resistance(mean),
    }


def gain_scores(model: PreTrainedModel, ids: Tensor) -> Scores:
    """The scores that also need weights.

    The diagonal of `edge_gains`, what a token changes by its query and by its
    own key, is taken as the query path and the rest as the key path, so that
    the third of the rollouts is the full one without the query path.
    """
    path = path_gains(model, ids)
    own = torch.diag_embed(path.edge_gains.diagonal(dim1=-2, dim2=-1))
    keys = path.edge_gains - own
    none = torch.zeros_like(keys)
    flat = torch.ones_like(path.token_gains)
    read = path.attentions * path.gains.unsqueeze(-2)
    return {
        'direct attention, gains': read.square().sum((0, 1)).sqrt(),
        'rms rollout, gains': rms_rollout(
            path.attentions, path.gains, method='exact'
        ),
        '+ token gains': replace(path, edge_gains=none).rollout(),
        '+ key path': replace(path, edge_gains=keys).rollout(),
        FULL: path.rollout(),
        'full without key path': replace(path, edge_gains=own).rollout(),
        'full without MLP': replace(path, token_gains=flat).rollout(),
        'full, paths incoherent': energy_rollout(path).sqrt(),
        'full on uniform attention': uniform_gains(model, ids).rollout(),
    }


def energy_of_blocks(path: PathGains) -> Tensor:
    """Squared gains of each block where no two paths add up ``[L, N, N]``."""
    read = path.attentions * path.gains.unsqueeze(-2)
    through = read.square().sum(1) + path.edge_gains.square()
    stays = path.token_gains.diagonal(dim1=-2, dim2=-1)
    if path.parallel:
        return through + torch.diag_embed(stays)
    eye = torch.eye(through.size(-1), dtype=through.dtype)
    return stays.unsqueeze(-1) * (through + eye)


def energy_rollout(path: PathGains) -> Tensor:
    """The squared full rollout if value paths were incoherent as well."""
    blocks = energy_of_blocks(path)
    total = torch.eye(blocks.size(-1), dtype=blocks.dtype)
    for block in blocks:
        total = block @ total
    return total


def uniform_gains(model: PreTrainedModel, ids: Tensor) -> PathGains:
    """The gains if every head attended uniformly.

    Of the same queries, keys, values and MLPs.
    """
    uniform = uniform_graph(ids.size(1))
    return gains_of(
        [
            replace(block, attention=uniform.expand_as(block.attention))
            for block in read_blocks(model, ids)
        ]
    )


def all_scores(model: PreTrainedModel, ids: Tensor) -> tuple[Scores, Graphs]:
    """Every score that the model's blocks allow, in the order of `KINDS`."""
    graphs = graphs_of(model, ids)
    scores = attention_scores(graphs)
    try:
        scores.update(gain_scores(model, ids))
    except NotImplementedError as error:
        print(f'Scores of attention alone: {error}')
    return {name: scores[name] for name in KINDS if name in scores}, graphs
