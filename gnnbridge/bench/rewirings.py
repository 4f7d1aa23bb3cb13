"""Rewiring as a factor of the benchmark: one name and one strength each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.bench.task import Splits
from gnnbridge.graph.causal import causal_graph, complete_graph
from gnnbridge.graph.schema import is_causal
from gnnbridge.transforms.afrc import AFRC
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.borf import BORF
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.diffusion import Diffusion
from gnnbridge.transforms.expander import Expander
from gnnbridge.transforms.fosr import FoSR
from gnnbridge.transforms.gtr import GTR
from gnnbridge.transforms.laser import LASER
from gnnbridge.transforms.random_edges import RandomEdges
from gnnbridge.transforms.resistance import ResistanceRewiring
from gnnbridge.transforms.sdrf import SDRF
from gnnbridge.transforms.virtual_node import VirtualNode

# Beyond it all pairs of nodes do not fit into memory.
MOST_NODES_COMPLETE = 4096
Change: TypeAlias = Callable[[Data], Data]
_SHARES = (0.1, 0.25, 0.5)
# No task has as many graphs: seeds of two trials have no graph's in common.
_APART = 1_000_000


@dataclass(frozen=True)
class RewiringKind:
    """One way to rewire the graphs of a task.

    Attributes:
        about: What it does, and its source.
        strengths: What a search draws its strength from.
        strength_is: What the strength means.
        make: From a graph, a strength and a seed to the transform.
        relations: How many types of edges there are with it; more than one
            where the method keeps its edges apart from those of the graph, as
            relations of an R-GCN.
    """

    about: str
    strengths: tuple[float, ...]
    strength_is: str
    make: Callable[[Data, float, int], Change]
    relations: int = 1


class Complete:
    """All edges: every node hears of every other, or of all before it.

    The fully adjacent layer of `"On the Bottleneck of Graph Neural Networks"
    <https://arxiv.org/abs/2006.05205>`_, here as a relation of its own. A
    causal graph gets all edges to later nodes.
    """

    def __call__(self, data: Data) -> Data:
        """The graph with all edges; ``edge_type`` is 1 for the added ones.

        Raises:
            ValueError: If the graph is too large.
        """
        size = int(data.num_nodes or 0)
        if size > MOST_NODES_COMPLETE:
            raise ValueError(
                f'Expected a graph of at most {MOST_NODES_COMPLETE} nodes for '
                f"'complete' (got {size}). Use 'expander' or 'virtual_node'."
            )
        causal = is_causal(data)
        every = (causal_graph if causal else complete_graph)(size).edge_index
        every = every[:, every[0] != every[1]]
        every = every.to(data.edge_index.device)
        known = torch.zeros(size * size, dtype=torch.bool, device=every.device)
        known[_pairs(data.edge_index, size)] = True
        return _with_edges(data, every[:, ~known[_pairs(every, size)]])


def _pairs(edge_index: Tensor, size: int) -> Tensor:
    return edge_index[0] * size + edge_index[1]


def _with_edges(data: Data, added: Tensor) -> Data:
    """The graph with more edges, whose attributes are zero."""
    out = data.clone()
    count, more = data.edge_index.size(1), added.size(1)
    for name in data.edge_attrs():
        if name == 'edge_index':
            continue
        value = data[name]
        fill = 1 if name == 'edge_weight' else 0
        pad = value.new_full((more, *value.shape[1:]), fill)
        out[name] = torch.cat([value, pad])
    out.edge_index = torch.cat([data.edge_index, added], dim=1)
    out.edge_type = (
        (torch.arange(count + more) >= count).long().to(added.device)
    )
    return out


def _count(data: Data, share: float) -> int:
    """A number of edges as a share of the nodes, at least one."""
    return max(round(share * int(data.num_nodes or 0)), 1)


def _random(data: Data, share: float, seed: int) -> RandomEdges:
    return RandomEdges(_count(data, share), seed=seed)


def _diffusion(data: Data, alpha: float, seed: int) -> Diffusion:
    """With twice as many edges as there are."""
    degree = data.edge_index.size(1) / max(int(data.num_nodes or 0), 1)
    return Diffusion(alpha=alpha, avg_degree=max(round(2 * degree), 2))


def _virtual_node(data: Data, strength: float, seed: int) -> VirtualNode:
    """At the start of causal graphs, where later nodes can hear of it."""
    return VirtualNode(at='start' if is_causal(data) else 'end')


def _resistance(data: Data, share: float, seed: int) -> ResistanceRewiring:
    """As many edges removed as added, by the causal resistance if causal."""
    count = _count(data, share)
    kind = 'causal' if is_causal(data) else 'undirected'
    return ResistanceRewiring(count, count, kind=kind)  # type: ignore[arg-type]


_EDGES = 'added edges over nodes'
REWIRINGS: dict[str, RewiringKind] = {
    'none': RewiringKind(
        'The graph as it is.',
        (0.0,),
        'nothing',
        lambda data, strength, _: copy.copy,
    ),
    'random': RewiringKind(
        'As many edges drawn at random: a control for the methods below.',
        _SHARES,
        _EDGES,
        _random,
    ),
    'random_relation': RewiringKind(
        'The same edges as a relation of their own: a control for the methods '
        'below that have relations.',
        _SHARES,
        _EDGES,
        _random,
        relations=2,
    ),
    'fosr': RewiringKind(
        'First-order spectral rewiring (arXiv 2210.11790).',
        _SHARES,
        _EDGES,
        lambda data, share, seed: FoSR(_count(data, share), seed=seed),
        relations=2,
    ),
    'gtr': RewiringKind(
        'Greedy total resistance (arXiv 2302.06835).',
        _SHARES,
        _EDGES,
        lambda data, share, _: GTR(_count(data, share)),
        relations=2,
    ),
    'sdrf': RewiringKind(
        'Stochastic discrete Ricci flow, removing edges of curvature above '
        '0.5 (arXiv 2111.14522).',
        _SHARES,
        _EDGES,
        lambda data, share, _: SDRF(_count(data, share), removal_bound=0.5),
    ),
    'borf': RewiringKind(
        'Batch Ollivier-Ricci flow, 4 edges added and 2 removed in a batch '
        '(arXiv 2211.15779).',
        _SHARES,
        _EDGES,
        lambda data, share, _: BORF(_count(data, share), batch_remove=2),
    ),
    'afrc': RewiringKind(
        'Augmented Forman-Ricci curvature, AFR-3 (arXiv 2309.09384).',
        _SHARES,
        _EDGES,
        lambda data, share, seed: AFRC(_count(data, share), seed=seed),
    ),
    'diffusion': RewiringKind(
        'Personalised PageRank in place of the edges, twice as many '
        '(arXiv 1911.05485).',
        (0.05, 0.15, 0.3),
        'the chance to return',
        _diffusion,
    ),
    'expander': RewiringKind(
        'A Cayley graph beside the edges (arXiv 2210.02997).',
        (4.0,),
        'its degree',
        lambda data, strength, _: Expander('cayley'),
        relations=2,
    ),
    'laser': RewiringKind(
        'Locality-aware rewiring up to distance 3 (arXiv 2310.01668).',
        _SHARES,
        'the share of each orbit',
        lambda data, share, _: LASER(3, share),
        relations=3,
    ),
    'virtual_node': RewiringKind(
        'A node that is joined to all (arXiv 1704.01212).',
        (1.0,),
        'the number of nodes',
        _virtual_node,
        relations=3,
    ),
    'resistance': RewiringKind(
        'Edges of the largest resistance added, as many of the smallest '
        'removed (arXiv 2603.11944).',
        _SHARES,
        _EDGES,
        _resistance,
    ),
    'complete': RewiringKind(
        'All pairs of nodes, which is full attention (arXiv 2006.05205).',
        (1.0,),
        'all edges',
        lambda data, strength, _: Complete(),
        relations=2,
    ),
}


def strengths(name: str) -> tuple[float, ...]:
    """What a search draws the strength of a rewiring from.

    Raises:
        ValueError: If there is none of this name.
    """
    return _kind(name).strengths


def rewired(
    name: str, splits: Splits, strength: float, seed: int = 0
) -> tuple[Splits, int]:
    """The graphs of a task, rewired one by one.

    Args:
        name: A name of :data:`REWIRINGS`.
        splits: The graphs; they are not changed.
        strength: How strongly, in the sense of the method.
        seed: Of methods that draw; with another one they choose other edges
            for the same graph.

    Returns:
        The rewired graphs, with ``edge_type`` if the method has relations,
        and the number of relations.

    Raises:
        ValueError: If there is none of this name, or a graph is no input for
            it.
    """
    kind = _kind(name)
    if name == 'none':
        return splits, 1
    known: dict[tuple[int, int], tuple[Tensor, Change]] = {}

    def one(data: Data) -> Data:
        # The parts of a task on one graph share its edges.
        key = (data.edge_index.data_ptr(), int(data.num_nodes or 0))
        if key not in known:
            transform = kind.make(data, strength, seed * _APART + len(known))
            known[key] = (data.edge_index, _change(transform, data))
        out = _with_relations(known[key][1](data), kind.relations)
        # One row for each answer, which a transform that adds nodes takes for
        # one for each node where all of them are asked.
        out.y = data.get('y')
        return out

    parts = [[one(data) for data in part] for part in splits]
    return Splits(*parts), kind.relations


def _change(transform: Change, data: Data) -> Change:
    """What a transform does to this graph, for any with the same edges."""
    if not isinstance(transform, Rewiring):
        return transform
    changes: Changes = transform.rewire(data)[1]
    return changes.apply


def _with_relations(data: Data, count: int) -> Data:
    """With types of edges if there are several, and without if not."""
    out = copy.copy(data)
    if count == 1:
        if 'edge_type' in out:
            del out.edge_type
    elif 'edge_type' not in out:  # nothing was added
        out.edge_type = data.edge_index.new_zeros(data.edge_index.size(1))
    return out


def _kind(name: str) -> RewiringKind:
    if name not in REWIRINGS:
        raise ValueError(
            f"Expected a rewiring of {', '.join(REWIRINGS)} (got '{name}')."
        )
    return REWIRINGS[name]
