"""How alike the token representations of a layer have become."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.diagnostics.ranks import effective_rank as effective_rank
from gnnbridge.diagnostics.ranks import mean_cosine as mean_cosine
from gnnbridge.diagnostics.ranks import rank_collapse as rank_collapse
from gnnbridge.diagnostics.ranks import stable_rank as stable_rank
from gnnbridge.diagnostics.sequences import (
    Graphs,
    as_layers,
    node_sequence,
    sequence_starts,
    sum_into,
    tensor_of,
)
from gnnbridge.graph.checks import (
    at_least_float32,
    check_edge_index,
    check_weights,
    is_integer,
)
from gnnbridge.graph.dense import as_attention

_CHUNK = 2**20  # numbers held at once for the differences along edges
# Nodes up to which inner products of all pairs are taken in place of
# differences along edges, if there are at least one in so many edges.
_MOST_DENSE, _SPARE = 4096, 16


def dirichlet_energy(
    x: Tensor | Graphs,
    edge_index: Tensor | None = None,
    edge_weight: Tensor | None = None,
    *,
    normalized: bool = False,
) -> Tensor:
    r"""Dirichlet energy of the hidden states on the directed token graph.

    .. math::
        E(X) = \frac{1}{2N} \sum_{i,j} A_{ij} \lVert x_i - x_j \rVert^2

    the mean over receivers of the squared distance to the sources that they
    attend to, weighted by the attention, and halved. Both orders of a pair
    count, each with its own weight; no degree is divided out, since the rows
    of attention already sum to one. It is zero if all tokens are equal. On a
    symmetric graph it is :math:`\mathrm{tr}(X^\top (D - A) X) / N`.

    With `normalized` it is divided by the mean squared norm
    :math:`\lVert X \rVert_F^2 / N`, so that it does not grow with the
    residual stream and compares across layers.

    Args:
        x: Hidden states, or the token graph of each layer with hidden states
            in ``x`` and attention in ``edge_weight`` (a batch per layer for
            several sequences), or a single one.
        edge_index: For hidden states: the edges, source first and receiver
            second, or the matrix :math:`A` itself. Not for graphs.
        edge_weight: The weight of each edge; ones if not given. Not for
            graphs.
        normalized: Whether to divide by the mean squared norm.

    Shapes:
        - **hidden states:** :math:`(N, d)` with edges :math:`(2, E)`, or
          :math:`(*, N, d)` with a matrix :math:`(*, N, N)`
        - **output:** :math:`(L)` for graphs, otherwise :math:`(*)`

    Returns:
        The energies, in float32 or the wider dtype of the inputs; for graphs
        the mean over the sequences of a layer.

    Raises:
        TypeError: If `x` is neither a tensor nor graphs.
        ValueError: If an argument is missing, is not for this kind of input,
            or does not fit in shape.
    """
    if isinstance(x, Tensor):
        if edge_index is None:
            raise ValueError(
                "Expected 'edge_index' or a matrix along with hidden states "
                '(got None).'
            )
        return _tensor_energy(x, edge_index, edge_weight, normalized)
    if edge_index is not None or edge_weight is not None:
        raise ValueError(
            "Expected no 'edge_index' and 'edge_weight' with graphs, which "
            'hold their own (got one).'
        )
    energies = []
    for layer, graph in enumerate(as_layers(x)):
        states = tensor_of(graph, 'x', layer, 2)
        weight = tensor_of(graph, 'edge_weight', layer, 1)
        starts = sequence_starts(graph)
        energies.append(
            _energy(states, graph.edge_index, weight, starts, normalized)
        )
    return torch.stack([energy.mean() for energy in energies])


def _tensor_energy(
    x: Tensor,
    graph: Tensor,
    edge_weight: Tensor | None,
    normalized: bool,
) -> Tensor:
    x = at_least_float32(x)
    if is_integer(graph):
        _check_states(x, None)
        check_edge_index(graph, x.size(0))
        if edge_weight is None:
            edge_weight = x.new_ones(graph.size(1))
        starts = torch.tensor([0, x.size(0)], device=x.device)
        return _energy(x, graph, edge_weight, starts, normalized)[0]
    A = as_attention(graph, edge_weight)
    _check_states(x, A)
    # Differences, not inner products: those lose what a collapse leaves.
    apart = torch.cdist(x, x, compute_mode='donot_use_mm_for_euclid_dist')
    energy = (A * apart.square()).sum((-2, -1)) / (2 * x.size(-2))
    return _over_norm(energy, x.square().sum(-1).mean(-1), normalized)


def _energy(
    x: Tensor,
    edge_index: Tensor,
    weight: Tensor,
    starts: Tensor,
    normalized: bool,
) -> Tensor:
    """Energy of each sequence of one layer, ``[B]``."""
    check_weights(weight, edge_index)
    if weight.dim() != 1:
        raise ValueError(
            f'Expected one weight per edge (got shape {tuple(weight.shape)}).'
        )
    sequence = node_sequence(starts)
    size = starts.diff().to(x.dtype)
    per_edge = _squared_differences(x, edge_index) * weight
    # One float32 sum over all edges of a sequence loses digits.
    total = sum_into(
        len(size), sequence[edge_index[1]], per_edge.to(torch.float64)
    ).to(per_edge.dtype)
    norm = sum_into(len(size), sequence, x.square().sum(-1)) / size
    return _over_norm(total / (2 * size), norm, normalized)


def _squared_differences(x: Tensor, edge_index: Tensor) -> Tensor:
    """Squared distance along each edge ``[E]``."""
    size = x.size(0)
    if size <= _MOST_DENSE and size**2 <= _SPARE * edge_index.size(1):
        return _by_products(x, edge_index)
    chunk = max(_CHUNK // max(x.size(-1), 1), 1)
    return torch.cat(
        [
            (x[target] - x[source]).square().sum(-1)
            for source, target in edge_index.split(chunk, dim=1)
        ]
    )


def _by_products(x: Tensor, edge_index: Tensor) -> Tensor:
    """The same of many edges, from inner products.

    These lose what a collapse leaves, but for states without their mean, and
    in float64: of those little is left as well.
    """
    centred = x.to(torch.float64)
    centred = centred - centred.mean(0)
    source, target = edge_index
    norm = centred.square().sum(-1)
    product = (centred @ centred.mT)[target, source]
    apart = norm[source] + norm[target] - 2 * product
    return apart.clamp(min=0).to(x.dtype)


def _over_norm(energy: Tensor, norm: Tensor, normalized: bool) -> Tensor:
    return energy / norm.masked_fill(norm == 0, 1.0) if normalized else energy


def _check_states(x: Tensor, A: Tensor | None) -> None:
    if A is None:
        wanted, fits = '[N, d] with edges', x.dim() == 2
    else:
        wanted = f'[..., {A.size(-1)}, d]'
        fits = x.dim() >= 2 and x.size(-2) == A.size(-1)
    if not fits or x.numel() == 0:
        raise ValueError(
            f'Expected hidden states of shape {wanted} (got {tuple(x.shape)}).'
        )
