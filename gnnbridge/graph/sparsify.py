"""Keep the heaviest edges of each query."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnnbridge.graph.checks import (
    at_least_float32,
    check_edge_index,
    check_size,
)
from gnnbridge.graph.schema import select_edges, sort, validate


def sparsify(
    data: Data,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    threshold: float | None = None,
    renormalize: bool = False,
) -> Data:
    r"""Keep the heaviest edges of each query, by exactly one of three rules.

    A query with edges keeps at least its heaviest one. Edges of equal weight
    rank by source, the smaller first, so the result is deterministic.

    Args:
        data: A graph with non-negative ``edge_weight``; the edges are ranked
            by it, whatever the heads in ``edge_attr`` say. The graphs of a
            batch are sparsified one by one.
        top_k: Keep the ``top_k`` heaviest edges.
        top_p: Keep the smallest set of heaviest edges whose weight reaches
            the share ``top_p`` (0 < p <= 1) of the query's weight. A set that
            falls short by no more than the rounding of the weights' dtype
            counts as reaching it, unless ``top_p`` is 1.
        threshold: Keep the edges of at least this weight.
        renormalize: Whether the kept edges are scaled so that the query keeps
            the total weight it had (one, unless attention leaks to a sink
            logit). With ``edge_attr`` this is done per head, as masking the
            model's softmax would, and ``edge_weight`` is again the head mean;
            a head that had all its weight on dropped edges keeps none.

    Returns:
        A new graph, sorted, with the edge-level tensors of the kept edges
        and ``discarded_mass [N]``: what each query lost in ``edge_weight`` by
        this call, before renormalising. ``edge_weight`` and
        ``discarded_mass`` are in float32 or float64, and so is ``edge_attr``
        if renormalised.

    Raises:
        ValueError: If not exactly one rule is given, a rule is out of range,
            the graph has no ``edge_weight``, or ``renormalize`` meets an
            ``edge_weight`` that is not the head mean of ``edge_attr``.
    """
    keep = _rule(top_k, top_p, threshold)
    if isinstance(data, Batch):
        return Batch.from_data_list(
            [
                _sparsify(graph, keep, renormalize)
                for graph in data.to_data_list()
            ]
        )
    return _sparsify(data, keep, renormalize)


# Places for an edge in a table of rows, up to which it is worth to make one.
_FILLED = 4
_Keep = Callable[[Tensor, Tensor, Tensor], Tensor]


def _rule(
    top_k: int | None, top_p: float | None, threshold: float | None
) -> _Keep:
    given = [top_k is not None, top_p is not None, threshold is not None]
    if sum(given) != 1:
        raise ValueError(
            "Expected exactly one of 'top_k', 'top_p' and 'threshold' "
            f'(got top_k={top_k}, top_p={top_p}, threshold={threshold}).'
        )
    if top_k is not None:
        return partial(_keep_top_k, check_size('top_k', top_k))
    if top_p is not None:
        if not 0 < top_p <= 1:
            raise ValueError(f"Expected 'top_p' to be in (0, 1] (got {top_p}).")
        return partial(_keep_top_p, float(top_p))
    if threshold is None or not threshold >= 0:
        raise ValueError(
            f"Expected 'threshold' to be at least 0 (got {threshold})."
        )
    return partial(_keep_threshold, float(threshold))


def _keep_top_k(
    top_k: int, weight: Tensor, rank: Tensor, total: Tensor
) -> Tensor:
    return rank < top_k


def _keep_threshold(
    threshold: float, weight: Tensor, rank: Tensor, total: Tensor
) -> Tensor:
    return weight >= threshold


def _keep_top_p(
    top_p: float, weight: Tensor, rank: Tensor, total: Tensor
) -> Tensor:
    # Weights such as 0.7 are off by half an ulp, so a set that adds up to p on
    # paper may miss it in binary.
    slack = 0.0 if top_p == 1 else 2 * torch.finfo(weight.dtype).eps
    weight = weight.double()
    before = _running_sum(weight, rank) - weight
    return before < (top_p - slack) * total


def _sparsify(data: Data, keep: _Keep, renormalize: bool) -> Data:
    if data.get('edge_weight') is None:
        raise ValueError(
            "Expected a graph with 'edge_weight' (got none). Use "
            "'gnnbridge.graph.from_attention' to make one."
        )
    data = validate(_sorted(data))
    data.edge_weight = at_least_float32(data.edge_weight)
    target, weight = data.edge_index[1], data.edge_weight
    order, rank = _rank(target, weight.detach())
    total = _row_sum(weight.detach().double(), target, data.num_nodes)
    ranked = weight.detach()[order]
    # The order stays within rows, so `target` is also that of `ranked`.
    chosen = keep(ranked, rank, total[target]) | (rank == 0)
    kept = torch.zeros_like(target, dtype=torch.bool)
    kept[order] = chosen

    out = select_edges(data, kept)
    out.discarded_mass = _row_sum(weight[~kept], target[~kept], data.num_nodes)
    return _renormalize(out, data) if renormalize else out


def _sorted(data: Data) -> Data:
    """A copy of the graph, sorted; its tensors are not to be changed."""
    check_edge_index(data.edge_index)
    source, target = data.edge_index
    key = target * max(data.num_nodes or 0, 1) + source
    if (key[1:] >= key[:-1]).all():
        return copy.copy(data)
    return sort(data)


def _rank(target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The order by target, then weight, then source, and the rank in a row."""
    degree = torch.bincount(target)
    first = degree.cumsum(0) - degree
    rank = torch.arange(len(target), device=target.device) - first[target]
    # The edges come sorted by source within a target, and stay so if equal.
    used = degree > 0
    rows, longest = int(used.sum()), int(degree.max())
    if rows * longest > _FILLED * len(target):
        order = weight.argsort(descending=True, stable=True)
        return order[target[order].argsort(stable=True)], rank
    # Row by row is faster than all edges at once, if rows are of one length.
    table = weight.new_full((rows, longest), float('-inf'))
    table[(used.cumsum(0) - 1)[target], rank] = weight
    place = table.argsort(dim=1, descending=True, stable=True)
    real = torch.arange(longest, device=target.device) < degree[used, None]
    return (first[used, None] + place)[real], rank


def _running_sum(weight: Tensor, rank: Tensor) -> Tensor:
    """Sums within each row up to each edge, by doubling the stretch summed.

    A cumulative sum over all edges would carry the rounding of the rows above.
    """
    total, stretch = weight.clone(), 1
    longest = int(rank.max()) + 1
    while stretch < longest:
        reach = rank[stretch:] >= stretch
        shifted = total[:-stretch].where(reach, 0)
        total = torch.cat([total[:stretch], total[stretch:] + shifted])
        stretch *= 2
    return total


def _row_sum(value: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    out = value.new_zeros((num_nodes, *value.shape[1:]))
    return out.index_add(0, target, value)


def _renormalize(out: Data, data: Data) -> Data:
    if data.get('edge_attr') is None:
        out.edge_weight = _restore_mass(out, data, 'edge_weight')
        return out
    mean = at_least_float32(data.edge_attr).mean(dim=1)
    # Half precision heads give a mean of three digits.
    tolerance = 4 * max(
        torch.finfo(data.edge_attr.dtype).eps,
        torch.finfo(data.edge_weight.dtype).eps,
    )
    if not torch.allclose(
        mean, data.edge_weight.to(mean), tolerance, tolerance
    ):
        raise ValueError(
            "Expected 'edge_weight' to be the mean of 'edge_attr' over heads "
            '(got another). Use a graph without '
            "'edge_attr', or renormalize=False."
        )
    out.edge_attr = _restore_mass(out, data, 'edge_attr')
    out.edge_weight = out.edge_attr.mean(dim=1)
    return out


def _restore_mass(out: Data, data: Data, name: str) -> Tensor:
    """Scale the kept edges so that each row has the sum that it had."""
    kept, full = at_least_float32(out[name]), at_least_float32(data[name])
    before = _row_sum(full, data.edge_index[1], data.num_nodes)
    after = _row_sum(kept, out.edge_index[1], data.num_nodes)
    ratio = before / after.where(after > 0, 1)
    return kept * ratio[out.edge_index[1]]
