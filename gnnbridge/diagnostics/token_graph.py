"""What a causal token graph lets through, in a few numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.curvature.balanced_forman import balanced_forman
from gnnbridge.graph.checks import check_num_nodes
from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.graph.schema import is_causal
from gnnbridge.spectral.layers import renormalized
from gnnbridge.spectral.resistance import effective_resistance
from gnnbridge.spectral.spectrum import spectral_gap
from gnnbridge.transforms.ties import smallest_best

# Multiplications above which the curvature of a dense graph is left out; some
# 4e8 are done in a second.
_MOST_WORK = 1 << 32


@dataclass(frozen=True)
class ResistanceMetrics:
    """Causal resistance over all pairs of a token and a later receiver.

    Attributes:
        total: The sum over the pairs; infinite if one is out of reach.
        worst: The largest; 0 for a single token.
        worst_pair: Where it is, ``(source, receiver)``; of equal ones the
            smallest pair, and ``None`` for a single token.
        hops: The depth for which it was taken; ``None`` if unlimited.
    """

    total: float
    worst: float
    worst_pair: tuple[int, int] | None
    hops: float | None


@dataclass(frozen=True)
class TokenGraphMetrics:
    """The metrics of a causal token graph; see :func:`token_graph_metrics`.

    Attributes:
        num_tokens: The number of tokens.
        num_edges: The number of edges, self-loops included.
        edges_per_token: The same by token.
        unreachable_pairs: The pairs of a token and a later receiver without a
            path from the one to the other.
        diameter: The longest shortest path, over pairs that have one.
        resistance: The causal resistance.
        gap: The spectral gap without directions.
        mean_curvature: The mean of the balanced Forman curvature without
            directions; ``None`` without edges, or if it takes too long.
        least_curvature: The least of it.
    """

    num_tokens: int
    num_edges: int
    edges_per_token: float
    unreachable_pairs: int
    diameter: int
    resistance: ResistanceMetrics
    gap: float
    mean_curvature: float | None
    least_curvature: float | None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return dataclasses.asdict(self)


def token_graph_metrics(
    graph: Data, *, hops: float | None = None
) -> TokenGraphMetrics:
    r"""Edges, reach, resistance, spectral gap and curvature of a causal graph.

    - Reach and diameter are those of directed paths, along which information
      flows, from a token to all later ones.
    - Resistance is the causal one
      (:func:`gnnbridge.spectral.effective_resistance`).
    - A causal graph has no spectral gap of its own: its eigenvalues are its
      diagonal. Taken is the second smallest eigenvalue of the normalised
      Laplacian of :math:`(A + A^\top) / 2`.
    - Curvature is the balanced Forman curvature
      (:func:`gnnbridge.curvature.balanced_forman`) of the edges without
      directions and weights, which does not grow with the degrees: near 1 in
      dense surroundings, down to -2 for bottlenecks. The directed form takes
      :math:`O(N^4)` on dense graphs. It is left out where it would still take
      more than some ten seconds; of the graph of all pairs it is
      :math:`N / (N - 1)`.

    :math:`O(N^3)`, and memory for a few matrices :math:`N \times N`.

    Args:
        graph: A token graph; its attention ``edge_weight [E]``, or attention
            that is even over the edges of each token.
        hops: The expected number of attention hops for which resistances are
            matched; unlimited if not given.

    Raises:
        ValueError: If the graph is not causal, or has no node.
    """
    A = _attention(graph)
    num_tokens = A.size(0)
    length = path_lengths(graph)
    later = torch.ones_like(length, dtype=torch.bool).tril(-1)
    reached = later & (length >= 0)
    mean, least = _curvature(graph)
    return TokenGraphMetrics(
        num_tokens=num_tokens,
        num_edges=graph.edge_index.size(1),
        edges_per_token=graph.edge_index.size(1) / num_tokens,
        unreachable_pairs=int(later.sum() - reached.sum()),
        diameter=int(length[reached].max()) if reached.any() else 0,
        resistance=resistance_metrics(graph, hops=hops),
        gap=float(spectral_gap(A)),
        mean_curvature=mean,
        least_curvature=least,
    )


def resistance_metrics(
    graph: Data, *, hops: float | None = None
) -> ResistanceMetrics:
    """Total and worst causal resistance; see :func:`token_graph_metrics`."""
    R = effective_resistance(_attention(graph), hops=hops)
    # Row = source, so that the smallest pair has the smallest source.
    above = R.T.masked_fill(torch.ones_like(R, dtype=torch.bool).tril(), -1.0)
    if len(R) < 2:
        return ResistanceMetrics(0.0, 0.0, None, hops)
    infinite = above.isinf()
    ranked = infinite.double() if infinite.any() else above
    pair = smallest_best(ranked)
    assert pair is not None  # there are candidates
    return ResistanceMetrics(
        total=float(R.tril(-1).sum()),
        worst=float(above[pair]),
        worst_pair=pair,
        hops=hops,
    )


def resistance_by_distance(
    graph: Data,
    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95),
    *,
    hops: float | None = None,
) -> Tensor:
    """Quantiles of the causal resistance over the pairs at each distance.

    Args:
        graph: A causal token graph, as for :func:`token_graph_metrics`.
        quantiles: Which; always the resistance of some pair, the next one
            above.
        hops: The expected number of attention hops; unlimited if not given.

    Returns:
        ``[Q, N - 1]`` float64: distances 1, 2, ...; infinite where so many
        pairs are out of reach.
    """
    R = effective_resistance(_attention(graph), hops=hops)
    wanted = R.new_tensor(quantiles)
    rows = [
        R.diagonal(-distance).quantile(wanted, interpolation='higher')
        for distance in range(1, len(R))
    ]
    return torch.stack(rows, 1) if rows else R.new_zeros(len(quantiles), 0)


def path_lengths(graph: Data) -> Tensor:
    """Lengths of the shortest directed paths of a causal graph.

    Args:
        graph: A causal graph.

    Returns:
        ``[N, N]`` int64, row = receiver: edges on the way from the source to
        it; -1 where there is no way.
    """
    _check(graph)
    num_nodes = int(graph.num_nodes or 0)
    source, target = graph.edge_index.cpu().numpy()
    order = np.argsort(target, kind='stable')
    ends = np.searchsorted(target[order], np.arange(num_nodes + 1))
    far = num_nodes
    length = np.full((num_nodes, num_nodes), far, dtype=np.int32)
    # The way into a token goes through one of those that it attends to.
    for i in range(num_nodes):
        sources = np.unique(source[order[ends[i] : ends[i + 1]]])
        sources = sources[sources < i]
        if sources.size == i:
            length[i, :i] = 1
        elif sources.size > 0:
            length[i, :i] = 1 + length[sources, :i].min(axis=0)
        length[i, i] = 0
    length[length >= far] = -1
    return torch.from_numpy(length).long()


def _check(graph: Data) -> None:
    check_num_nodes(graph.num_nodes)
    if not is_causal(graph):
        raise ValueError(
            'Expected a causal graph, without edges from a later to an '
            'earlier token (got one with some). Use '
            "'gnnbridge.spectral.effective_resistance' with kind='escape' "
            'for the resistances of other graphs.'
        )


def _attention(graph: Data) -> Tensor:
    """The matrix ``[N, N]`` in float64, even where there are no weights."""
    _check(graph)
    weight = graph.get('edge_weight')
    A = edges_to_dense(
        graph.edge_index,
        None if weight is None else weight.double(),
        int(graph.num_nodes or 0),
    ).double()
    return renormalized(A) if weight is None else A


def _curvature(graph: Data) -> tuple[float | None, float | None]:
    """Mean and least curvature over the pairs with an edge."""
    num_nodes = int(graph.num_nodes or 0)
    source, target = graph.edge_index
    proper = source != target
    key = (source * num_nodes + target)[proper].unique()
    pairs = torch.stack([key // num_nodes, key % num_nodes])
    count = pairs.size(1)
    if count == 0:
        return None, None
    if count == num_nodes * (num_nodes - 1) // 2:
        value = num_nodes / (num_nodes - 1) if num_nodes > 2 else 0.0
        return value, value
    if _work(pairs, num_nodes) > _MOST_WORK:
        return None, None
    both = torch.cat([pairs, pairs.flip(0)], dim=1)
    values = balanced_forman(both, num_nodes=num_nodes)[:count]
    return float(values.mean()), float(values.min())


def _work(pairs: Tensor, num_nodes: int) -> float:
    """Multiplications for the neighbours of neighbours of all pairs."""
    both = pairs.flatten()
    degree = torch.bincount(both, minlength=num_nodes).double()
    around = degree.new_zeros(num_nodes)
    around.index_add_(0, both, degree[pairs.flip(0).flatten()])
    return float(around[both].sum())
