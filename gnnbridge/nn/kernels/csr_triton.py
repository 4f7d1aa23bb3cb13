"""Sparse attention on CUDA: fused Triton kernels over a graph in CSR form.

A forward pass runs over the rows (queries); for the gradients one pass runs
over the rows and one over the columns (keys), both of which recompute the
scores from the log-sum-exp of each row. Every number has one writer and a
fixed order of summation: there are no atomics, and results repeat to the bit.

Memory beside inputs and results is :obj:`[Nq, H]`; the gradient of a bias that
the heads share takes :obj:`[E, 8]` more (:obj:`[E, H / Hkv]` when more than
eight query heads share a key head). Nothing of size ``E * H * D`` exists.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnnbridge.nn.kernels.csr_triton_kernels import (
    Shape,
    columns_kernel,
    forward_kernel,
    rows_kernel,
    weights_kernel,
)

# Query heads of one key head that a program of a row pass takes at a time, and
# heads for which a shared bias' gradient is held before they are summed.
_HEADS = 8


def forward(
    query: Tensor,  # [Nq, H, D]
    key: Tensor,  # [Nk, Hkv, D]
    value: Tensor,  # [Nk, Hkv, Dv]
    rowptr: Tensor,  # [Nq + 1]
    col: Tensor,  # [E]
    *,
    scale: float,
    edge_bias: Optional[Tensor],  # [E, 1] or [E, H]
    softcap: Optional[float],
    s_aux: Optional[Tensor],  # [Nq, H]
    keep: Optional[Tensor],  # [E, H]
    return_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Attention over the edges of a graph in CSR form.

    With :math:`\gamma` the scale, :math:`c` the cap (none: the identity),
    :math:`b` the bias, :math:`\sigma` the sink and :math:`m` the multipliers,

    .. math::
        s_{ij} = c \tanh (\gamma \, \mathbf{q}_i^{\top} \mathbf{k}_j / c)
        + b_{ij}, \quad
        \ell_i = \log \Big( e^{\sigma_i} + \sum_j e^{s_{ij}} \Big), \quad
        \alpha_{ij} = e^{s_{ij} - \ell_i}, \quad
        \mathbf{o}_i = \sum_j \alpha_{ij} m_{ij} \mathbf{v}_j.

    A row that holds nothing has zeros, and :math:`\ell_i = -\infty`.

    Args:
        query: Queries :obj:`[Nq, H, D]`, in any strides.
        key: Keys :obj:`[Nk, Hkv, D]`; ``Hkv`` divides ``H``.
        value: Values :obj:`[Nk, Hkv, Dv]`.
        rowptr: int64; row :math:`i` has the edges from ``rowptr[i]`` up to
            ``rowptr[i + 1]``.
        col: int32, the key of each edge.
        scale: Factor of the scores.
        edge_bias: Bias per edge, or per edge and head; ``-inf`` switches an
            edge off.
        softcap: Cap of the scores, before the bias.
        s_aux: Sink logit of each query and head.
        keep: Dropout multiplier of each weight.
        return_weights: Also return :math:`\alpha`.

    Returns:
        The output :obj:`[Nq, H, Dv]` in the dtype of ``value``; the
        log-sum-exp :obj:`[Nq, H]` and the weights, :obj:`[E, H]` or else
        :obj:`[0, H]`, in float32 (float64 for doubles).
    """
    query, key, value = _rows(query), _rows(key), _rows(value)
    num_queries, heads = query.shape[:2]
    dtype = torch.promote_types(query.dtype, torch.float32)
    out = value.new_empty(num_queries, heads, value.size(2))
    lse = query.new_empty(num_queries, heads, dtype=dtype)
    weights = col.size(0) if return_weights else 0
    alpha = query.new_empty(weights, heads, dtype=dtype)
    if lse.numel() == 0:
        return out, lse, alpha

    degree = col.size(0) / num_queries
    shape, warps = _shape(query, key, value, edge_bias, softcap, degree, 4096)
    padded = triton.next_power_of_2(heads)
    with torch.cuda.device_of(query):
        forward_kernel[_row_grid(num_queries, shape)](
            (query, key, value),
            _strides(query, key, value),
            (rowptr, col),
            (_dense(edge_bias), _dense(s_aux), _dense(keep)),
            (out, lse, alpha if return_weights else None),
            scale,
            softcap or 1.0,
            shape,
            num_warps=warps,
            enable_fp_fusion=True,
        )
        if weights > 0:
            # Scores become weights once the sums of all rows are there.
            weights_kernel[(num_queries,)](
                alpha,
                lse,
                rowptr,
                heads,
                padded,
                max(1024 // padded, 1),
                enable_fp_fusion=True,
            )
    return out, lse, alpha


def backward(
    grad_out: Tensor,  # [Nq, H, Dv]
    grad_alpha: Optional[Tensor],  # [E, H]
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lse: Tensor,  # [Nq, H]
    rowptr: Tensor,
    col: Tensor,
    colptr: Tensor,  # [Nk + 1]
    row: Tensor,  # [E]
    edge: Tensor,  # [E]
    *,
    scale: float,
    edge_bias: Optional[Tensor],
    softcap: Optional[float],
    s_aux: Optional[Tensor],
    keep: Optional[Tensor],
    bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Optional[Tensor], Tensor]:
    r"""Gradients of :func:`forward`, of which it takes the inputs.

    With :math:`g_{ij} = m_{ij} \, \dot{\mathbf{o}}_i^{\top} \mathbf{v}_j +
    \dot{\alpha}_{ij}` the gradient of a weight, that of its score is

    .. math::
        \dot{s}_{ij} = \alpha_{ij} (g_{ij} - \delta_i), \qquad
        \delta_i = \sum_j \alpha_{ij} g_{ij}.

    It is the bias' gradient as well; a sink's is :math:`-e^{\sigma_i - \ell_i}
    \delta_i` and is left to the caller, as its logit may be shared.

    Args:
        grad_out: Gradient :math:`\dot{\mathbf{o}}` of the output.
        grad_alpha: Gradient :math:`\dot{\alpha}` of the weights.
        query: Queries.
        key: Keys.
        value: Values.
        lse: The log-sum-exp that came with the output.
        rowptr: Rows of the graph.
        col: Key of each edge.
        colptr: int64; key :math:`j` has the edges from ``colptr[j]`` up to
            ``colptr[j + 1]`` of the next two, sorted by key, then query.
        row: int32, the query of each of them.
        edge: int32, the place of each of them in ``col``.
        scale: Factor of the scores.
        edge_bias: Bias of the edges.
        softcap: Cap of the scores.
        s_aux: Sink logits; ``lse`` says all that is needed of them.
        keep: Dropout multipliers.
        bias_grad: Whether the bias' gradient is wanted.

    Returns:
        Gradients of query, key and value in their dtypes, that of the bias in
        its shape and dtype or None, and :math:`\delta` :obj:`[Nq, H]` in the
        dtype of ``lse``.
    """
    query, key, value = _rows(query), _rows(key), _rows(value)
    grad_out, lse = _rows(grad_out), lse.contiguous()
    columns = edge_bias.size(1) if bias_grad and edge_bias is not None else 0
    grad_query, delta = query.new_empty(query.shape), torch.empty_like(lse)
    degree = col.size(0) / max(query.size(0), 1)
    shape, warps = _shape(query, key, value, edge_bias, softcap, degree, 2048)
    inputs = (
        (query, grad_out),
        (key, value),
        _strides(query, grad_out),
        _strides(key, value),
    )
    extras = (_dense(edge_bias), _dense(keep), _dense(grad_alpha))
    with torch.cuda.device_of(query):
        if delta.numel() > 0:
            rows_kernel[_row_grid(query.size(0), shape)](
                *inputs,
                (rowptr, col),
                extras,
                lse,
                (grad_query, delta),
                scale,
                softcap or 1.0,
                shape,
                num_warps=warps,
                enable_fp_fusion=True,
            )
        degree = col.size(0) / max(key.size(0), 1)
        tile = _shape(query, key, value, edge_bias, softcap, degree, 2048)
        grad_key, grad_value, grad_bias = _column_pass(
            inputs,
            ((colptr, row, edge), extras, lse, delta),
            (scale, softcap or 1.0),
            tile,
            columns,
        )
    if edge_bias is not None and grad_bias is not None:
        grad_bias = grad_bias.to(edge_bias.dtype)
    return grad_query, grad_key, grad_value, grad_bias, delta


def _column_pass(
    inputs: tuple[Any, ...],
    sparse: tuple[Any, ...],
    scalars: tuple[float, float],
    tile: tuple[Shape, int],
    columns: int,
) -> tuple[Tensor, Tensor, Optional[Tensor]]:
    """Gradients of keys, values, and a bias of so many columns (0: none)."""
    key, value = inputs[1]
    lse, num_edges = sparse[2], sparse[0][1].size(0)
    (num_keys, kv_heads), group = key.shape[:2], tile[0].group
    grads = key.new_empty(key.shape), value.new_empty(value.shape)
    width = 1 if columns == 1 else kv_heads * group
    grad_bias = lse.new_zeros(num_edges, width) if columns > 0 else None
    # Heads that share a bias are summed a few at a time, to hold few of them.
    step = max(_HEADS // group, 1) if columns == 1 else kv_heads
    for first in range(0, kv_heads if num_keys > 0 else 0, step):
        count = min(step, kv_heads - first)
        part = grad_bias
        if columns == 1:
            part = lse.new_empty(num_edges, count * group)
        columns_kernel[(num_keys * count,)](
            *inputs,
            *sparse,
            (*grads, part),
            first,
            *scalars,
            count,
            tile[0],
            num_warps=tile[1],
            enable_fp_fusion=True,
        )
        if grad_bias is not None and part is not None and columns == 1:
            grad_bias += part.sum(dim=1, keepdim=True)
    return *grads, grad_bias


def _shape(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Optional[Tensor],
    softcap: Optional[float],
    degree: float,
    numbers: int,
) -> tuple[Shape, int]:
    """Shapes of the problem and of a tile for rows of this degree, and warps.

    A tile has at most so many numbers: 32 per thread in the forward pass, 16
    where two sums are kept, half of that for doubles. Shorter rows take a
    smaller tile and fewer warps: fewer lanes idle and more rows are in flight.
    Less than one load per thread would gain nothing.
    """
    double = query.dtype == torch.float64
    numbers = numbers // 2 if double else numbers
    group = query.size(1) // key.size(1)
    padded = triton.next_power_of_2(query.size(2))
    value_padded = triton.next_power_of_2(value.size(2))
    # A lane has indices and scalars beside its row, which count as well.
    wide = max(padded, value_padded, 32)
    most = max(numbers // wide, 1)
    share = min(triton.next_power_of_2(group), _HEADS, most)
    lanes = triton.next_power_of_2(max(math.ceil(degree * group), 1))
    lanes = min(max(lanes, 256 // wide, share), most)
    shape = Shape(
        heads=query.size(1),
        group=group,
        share=share,
        lanes=lanes,
        width=query.size(2),
        padded=padded,
        value_width=value.size(2),
        value_padded=value_padded,
        bias_columns=1 if edge_bias is None else edge_bias.size(1),
        capped=softcap is not None,
        dtype=tl.float64 if double else tl.float32,
    )
    return shape, min(max(4 * lanes * wide // numbers, 1), 4)


def _row_grid(rows: int, shape: Shape) -> tuple[int]:
    chunks = -(-shape.group // shape.share)
    return (rows * (shape.heads // shape.group) * chunks,)


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(step for x in tensors for step in x.stride()[:2])


def _rows(x: Tensor) -> Tensor:
    """The same numbers, with rows that are contiguous."""
    return x if x.stride(-1) == 1 or x.size(-1) == 1 else x.contiguous()


def _dense(x: Optional[Tensor]) -> Optional[Tensor]:
    return None if x is None else x.contiguous()
