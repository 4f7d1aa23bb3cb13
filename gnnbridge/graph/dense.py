r"""Between edges and the dense attention matrix.

In ``edge_index`` row 0 is the source (key :math:`j`) and row 1 the target
(query :math:`i`). In the attention matrix ``A[i, j]`` the row is the
receiver. PyG's ``to_dense_adj`` gives the transpose of ``A``. No other file
of the package converts between the two.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import (
    at_least_float32,
    check_edge_index,
    check_edges,
    check_entries,
    check_num_edges,
    check_num_nodes,
    is_integer,
)
from gnnbridge.typing import OptTensor, Weights


def edges_to_dense(
    edge_index: Tensor,  # shape: [2, E]
    edge_weight: OptTensor,  # shape: [E] or [E, H]
    num_nodes: int,
) -> Tensor:  # shape: [N, N] or [H, N, N]
    r"""The matrix of a weighted edge list.

    .. math::
        A_{ij} = \sum_{e : j \to i} w_e

    Differentiable in the weights. The weights are not inspected: see
    :func:`as_attention` for the checked form.

    Args:
        edge_index: Sources and targets, int64; duplicates add up.
        edge_weight: One weight per edge, or per edge and head; ones if
            ``None``.
        num_nodes: The number of nodes :math:`N`.

    Returns:
        ``A`` in float32, or in float64 if the weights are.
    """
    check_edge_index(edge_index, check_num_nodes(num_nodes))
    num_edges = edge_index.size(1)
    if edge_weight is None:
        edge_weight = torch.ones(num_edges, device=edge_index.device)
    if edge_weight.dim() not in (1, 2) or edge_weight.size(0) != num_edges:
        raise ValueError(
            "Expected 'edge_weight' to have shape [E] or [E, H] with "
            f'E = {num_edges} (got {list(edge_weight.shape)}).'
        )
    weight = at_least_float32(edge_weight)
    shape = (num_nodes, num_nodes, *weight.shape[1:])
    source, target = edge_index
    A = weight.new_zeros(shape).index_put(
        (target, source), weight, accumulate=True
    )
    return A.movedim(-1, 0).contiguous() if A.dim() == 3 else A


def dense_to_edges(
    A: Tensor,  # shape: [N, N] or [H, N, N]
    *,
    mask: OptTensor = None,  # shape: [N, N]
) -> tuple[Tensor, Tensor]:  # shapes: [2, E]; [E] or [E, H]
    r"""The edges of a matrix, sorted by target then source.

    Args:
        A: The matrix, or one per head.
        mask: Entries to keep, ``bool``, row = receiver. Exactly these become
            edges, zero or not. By default the entries that are non-zero in
            any head.

    Returns:
        ``edge_index`` int64 and the entries, in float32 or float64.
    """
    _check_square(A)
    if A.dim() not in (2, 3):
        raise ValueError(
            "Expected 'A' to have shape [N, N] or [H, N, N] "
            f'(got {list(A.shape)}).'
        )
    if mask is None:
        mask = A != 0
        mask = mask.any(dim=0) if A.dim() == 3 else mask
    elif mask.dtype != torch.bool or mask.shape != A.shape[-2:]:
        raise ValueError(
            f"Expected 'mask' to be bool of shape {list(A.shape[-2:])} "
            f'(got {mask.dtype}, {list(mask.shape)}).'
        )
    target, source = mask.nonzero(as_tuple=True)
    weight = at_least_float32(A[..., target, source])
    weight = weight.movedim(0, -1).contiguous() if A.dim() == 3 else weight
    return torch.stack([source, target]), weight


def as_attention(
    edge_index_or_A: Tensor,  # shape: [2, E] integer or [..., N, N] floating
    edge_weight: OptTensor = None,  # shape: [E] or [E, H]
    num_nodes: int | None = None,
    *,
    weights: Weights = 'nonnegative',
) -> Tensor:  # shape: [..., N, N]
    r"""The attention matrix of edges, or a dense one checked.

    The door of every function that takes either form. Integers are edges, a
    floating tensor is ``A`` itself. Differentiable in the weights.

    Args:
        edge_index_or_A: ``edge_index`` ``[2, E]`` int64, or dense ``A``
            ``[..., N, N]``, row = receiver.
        edge_weight: The weights of the edges; ones if ``None``. Not with a
            dense ``A``.
        num_nodes: The number of nodes; for edges the largest index plus one
            if ``None``.
        weights: ``'nonnegative'``, or ``'signed'`` to allow negative weights.

    Returns:
        ``A[..., i, j]`` in float32, or float64 if that came in; ``[H, N, N]``
        from ``edge_weight`` ``[E, H]``.

    Raises:
        ValueError: If an edge is out of range, a weight is NaN, infinite or
            negative, ``A`` is not square, or the graph has no node or edge.
        TypeError: If the first argument is neither integer nor floating.
    """
    if not isinstance(edge_index_or_A, Tensor):
        raise TypeError(
            "Expected 'edge_index' or a dense 'A' as a tensor "
            f'(got {type(edge_index_or_A).__name__}).'
        )
    if is_integer(edge_index_or_A):
        return _from_edges(edge_index_or_A, edge_weight, num_nodes, weights)
    A = edge_index_or_A
    if not A.is_floating_point():
        raise TypeError(
            "Expected an integer 'edge_index' or a floating 'A' "
            f'(got {A.dtype}).'
        )
    if edge_weight is not None:
        raise ValueError(
            "Expected no 'edge_weight' with a dense 'A' (got both). "
            "Use an integer 'edge_index' with weights, or 'A' alone."
        )
    _check_square(A)
    if num_nodes is not None and num_nodes != A.size(-1):
        raise ValueError(
            f"Expected 'num_nodes' to be {A.size(-1)}, the size of 'A' "
            f'(got {num_nodes}).'
        )
    check_entries(A, weights)
    return at_least_float32(A)


def to_attention(data: Data, *, per_head: bool = False) -> Tensor:
    r"""The attention matrix ``A[i, j]`` of a token graph, row = receiver.

    Args:
        data: The graph. Of a batch the result is block-diagonal; of a
            bipartite cache graph the rows of nodes that do not query are
            zero.
        per_head: Whether to return one matrix per head from ``edge_attr``
            ``[E, H]``, instead of one from ``edge_weight`` (ones if absent).

    Shapes:
        - **output:** ``[N, N]``, or ``[H, N, N]`` with ``per_head``

    Returns:
        Float32, or float64 if the weights are. Weights are taken as they are,
        signed ones too.

    Raises:
        ValueError: If an edge is out of range, a weight is NaN or infinite,
            or ``per_head`` finds no ``edge_attr`` of shape ``[E, H]``.
    """
    weight = data.get('edge_attr' if per_head else 'edge_weight')
    if per_head and (weight is None or weight.dim() != 2):
        raise ValueError(
            "Expected 'edge_attr' of shape [E, H] for 'per_head' (got "
            f'{None if weight is None else list(weight.shape)}). '
            'Use per_head=False for the head mean.'
        )
    num_nodes = check_num_nodes(data.num_nodes)
    return _from_edges(data.edge_index, weight, num_nodes, 'signed')


def from_attention(
    A: Tensor,  # shape: [N, N] or [H, N, N]
    *,
    mask: OptTensor = None,  # shape: [N, N]
    weights: Weights = 'nonnegative',
) -> Data:
    r"""The token graph of an attention matrix ``A[i, j]``, row = receiver.

    Differentiable in ``A``.

    Args:
        A: One matrix, or one per head.
        mask: Entries that become edges, ``bool``, even where ``A`` is zero
            (an attention weight may underflow); all others are left out. By
            default the entries that are non-zero in any head.
        weights: ``'nonnegative'``, or ``'signed'`` to allow negative entries.

    Returns:
        ``edge_index``, ``edge_weight`` ``[E]`` (the mean over heads),
        ``num_nodes``, ``position`` and, for per-head input, ``edge_attr``
        ``[E, H]`` and ``num_heads``. Weights in float32 or float64.

    Example:
        >>> data = from_attention(torch.tensor([[1.0, 0.0], [0.3, 0.7]]))
        >>> data.edge_index.tolist()
        [[0, 0, 1], [0, 1, 1]]
    """
    A = as_attention(_floating(A), weights=weights)
    edge_index, weight = dense_to_edges(A, mask=mask)
    check_num_edges(edge_index)
    num_nodes = A.size(-1)
    data = Data(
        edge_index=edge_index,
        edge_weight=weight if A.dim() == 2 else weight.mean(dim=1),
        num_nodes=num_nodes,
        position=torch.arange(num_nodes, device=A.device),
    )
    if A.dim() == 3:
        data.edge_attr = weight
        data.num_heads = A.size(0)
    return data


def _from_edges(
    edge_index: Tensor,
    edge_weight: OptTensor,
    num_nodes: int | None,
    weights: Weights,
) -> Tensor:
    num_nodes = check_edges(edge_index, edge_weight, num_nodes, weights)
    return edges_to_dense(edge_index, edge_weight, num_nodes)


def _floating(A: Tensor) -> Tensor:
    if not isinstance(A, Tensor) or not A.is_floating_point():
        got = A.dtype if isinstance(A, Tensor) else type(A).__name__
        raise TypeError(
            f"Expected 'A' to be a floating tensor (got {got}). "
            "Use 'gnnbridge.graph.from_mask' for a bool mask."
        )
    return A


def _check_square(A: Tensor) -> None:
    if A.dim() < 2 or A.size(-1) != A.size(-2) or A.numel() == 0:
        raise ValueError(
            "Expected a square 'A' of shape [..., N, N] with N >= 1, "
            f'row = receiver (got {list(A.shape)}).'
        )
