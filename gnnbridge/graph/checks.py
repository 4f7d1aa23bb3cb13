"""Checks on edges and weights, shared by everything that reads a graph.

Each one raises an error that names the first offending edge or row.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, get_args

import torch
from torch import Tensor
from torch_geometric.edge_index import EdgeIndex

from gnnbridge.typing import Weights

_INTEGER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def at_least_float32(value: Tensor) -> Tensor:
    """Upcast to float32; float64 stays float64."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def is_integer(value: Any) -> bool:
    """Whether it is a tensor of integers (``bool`` does not count)."""
    return isinstance(value, Tensor) and value.dtype in _INTEGER


def describe_edge(edge_index: Tensor, edge: int) -> str:
    """The edge as errors show it: its number, source and target."""
    source, target = edge_index[:, edge].tolist()
    return f'edge {edge} ({source} -> {target})'


def first(mask: Tensor) -> int:
    """The first true position of a one-dimensional mask."""
    return int(mask.nonzero()[0])


def check_size(name: str, value: Any, minimum: int = 1) -> int:
    """Check that an argument is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"Expected '{name}' to be an integer "
            f'(got {value!r} of type {type(value).__name__}).'
        )
    if value < minimum:
        raise ValueError(
            f"Expected '{name}' to be at least {minimum} (got {value})."
        )
    return int(value)


def check_edge_index(edge_index: Any, num_nodes: int | None = None) -> None:
    """Check type, dtype and shape, and the range if ``num_nodes`` is given."""
    if not isinstance(edge_index, Tensor) or isinstance(edge_index, EdgeIndex):
        raise TypeError(
            "Expected 'edge_index' to be a plain tensor "
            f'(got {type(edge_index).__name__}). An EdgeIndex gives one by '
            "'as_tensor()'."
        )
    if edge_index.dtype != torch.int64:
        raise TypeError(
            "Expected 'edge_index' to have dtype torch.int64 "
            f"(got {edge_index.dtype}). Use 'edge_index.long()' instead."
        )
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            "Expected 'edge_index' to have shape [2, E] "
            f'(got {list(edge_index.shape)}).'
        )
    if num_nodes is None:
        return
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
    if outside.any():
        raise ValueError(
            f'Expected edges between the {num_nodes} nodes 0 to '
            f'{num_nodes - 1} '
            f'(got {describe_edge(edge_index, first(outside))}).'
        )


def check_num_nodes(num_nodes: int | None) -> int:
    """Check that a graph has nodes."""
    if not num_nodes:
        raise ValueError(
            f'Expected a graph with at least one node (got {num_nodes}).'
        )
    return num_nodes


def check_num_edges(edge_index: Tensor) -> None:
    """Check that a graph has edges."""
    if edge_index.size(1) == 0:
        raise ValueError('Expected a graph with at least one edge (got none).')


def check_edges(
    edge_index: Any,
    edge_weight: Tensor | None,
    num_nodes: int | None,
    weights: Weights = 'nonnegative',
) -> int:
    """Check edges and their weights; returns the number of nodes."""
    check_edge_index(edge_index)
    check_num_edges(edge_index)
    if num_nodes is None:
        num_nodes = int(edge_index.max()) + 1
    check_edge_index(edge_index, check_num_nodes(num_nodes))
    if edge_weight is not None:
        check_weights(edge_weight, edge_index, weights=weights)
    return num_nodes


def check_weights(
    weight: Tensor,  # shape: [E, ...]
    edge_index: Tensor,  # shape: [2, E]
    *,
    name: str = 'edge_weight',
    weights: Weights = 'nonnegative',
) -> None:
    """Check length, dtype, finiteness and, unless signed, the sign."""
    check_weights_option(weights)
    if weight.dim() == 0 or weight.size(0) != edge_index.size(1):
        raise ValueError(
            f"Expected '{name}' to have one row for each of the "
            f'{edge_index.size(1)} edges (got shape {list(weight.shape)}).'
        )
    if not weight.is_floating_point():
        raise TypeError(
            f"Expected '{name}' to have a floating dtype (got {weight.dtype})."
        )
    if _all_good(weight, weights):
        return
    for bad, what in _bad_entries(weight, weights):
        rows = bad.reshape(bad.size(0), -1).any(dim=1)
        if rows.any():
            edge = first(rows)
            raise ValueError(
                f"Expected '{name}' to be {what} "
                f'(got {weight[edge].tolist()} on '
                f'{describe_edge(edge_index, edge)}).{_HINT[what]}'
            )


def check_entries(
    A: Tensor,  # shape: [..., N, N]
    weights: Weights = 'nonnegative',
) -> None:
    """The same for the entries of a dense attention matrix."""
    check_weights_option(weights)
    if _all_good(A, weights):
        return
    for bad, what in _bad_entries(A, weights):
        if bad.any():
            entry = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"Expected the entries of 'A' to be {what} (got "
                f'{A[entry].item()} at {list(entry)}).{_HINT[what]}'
            )


def check_weights_option(weights: Any) -> None:
    """Check that ``weights`` is one of its two values."""
    if weights not in get_args(Weights):
        raise ValueError(
            "Expected 'weights' to be 'nonnegative' or 'signed' "
            f'(got {weights!r}).'
        )


_HINT = {
    'finite': '',
    'non-negative': " Signed ones need a function with weights='signed'.",
}


def _all_good(value: Tensor, weights: Weights) -> bool:
    """The same in one pass: NaN is not between any bounds."""
    if value.numel() == 0:
        return True
    low, high = torch.aminmax(value.detach())
    above = low > -math.inf if weights == 'signed' else low >= 0
    return bool(above & (high < math.inf))


def _bad_entries(value: Tensor, weights: Weights) -> list[tuple[Tensor, str]]:
    bad = [(~value.isfinite(), 'finite')]
    if weights == 'nonnegative':
        bad.append((value < 0, 'non-negative'))
    return bad
