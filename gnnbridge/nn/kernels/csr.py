"""Attention over compressed rows as one operation that torch knows.

As a registered operation it can be compiled and differentiated like any
other; which kernel runs it is an argument.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Optional

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from gnnbridge.nn.formats import Rows


def attention(
    query: Tensor,  # [Nq, H, D]
    key: Tensor,  # [Nk, Hkv, D]
    value: Tensor,  # [Nk, Hkv, Dv]
    rows: Rows,
    *,
    engine: str,
    scale: float,
    edge_bias: OptTensor = None,  # [E, 1 | H], in the order of the rows
    softcap: Optional[float] = None,
    s_aux: OptTensor = None,  # [Nq, H]
    dropout: float = 0.0,
    return_weights: bool = False,
) -> tuple[Tensor, OptTensor]:
    """Attention over the edges of a graph.

    Args:
        query: Queries.
        key: Keys, of heads that divide those of the queries.
        value: Values, one for each key.
        rows: The edges by row.
        engine: ``'csr_cpu'`` or ``'csr_triton'``.
        scale: Factor of the scores.
        edge_bias: Added to the scores; ``-inf`` switches an edge off.
        softcap: Scores become ``softcap * tanh(score / softcap)``.
        s_aux: Logit of one further key, whose value is zero.
        dropout: Probability with which a weight is dropped.
        return_weights: Whether to return the weights before dropout.

    Returns:
        The output ``[Nq, H, Dv]`` in the dtype of ``value`` and the weights
        ``[E, H]`` in the order of the rows, float32 or wider, or None.
    """
    needs_grad = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad
        for x in (query, key, value, edge_bias, s_aux)
    )
    columns = rows.columns if needs_grad else None
    keep = None
    if dropout > 0:
        keep = torch.empty(rows.key.numel(), query.size(1), device=query.device)
        keep = keep.bernoulli_(1 - dropout).div_(1 - dropout)
    out, _, alpha = _attention(
        query,
        key,
        value,
        rows.start,
        rows.key,
        columns.start if columns else None,
        columns.query if columns else None,
        columns.edge if columns else None,
        edge_bias,
        s_aux,
        keep,
        scale,
        softcap or 0.0,
        return_weights,
        engine,
    )
    return out.to(value.dtype), alpha if return_weights else None


@torch.library.custom_op('gnnbridge::csr_attention', mutates_args=())
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    start: Tensor,
    other: Tensor,
    column_start: Optional[Tensor],
    column_query: Optional[Tensor],
    column_edge: Optional[Tensor],
    bias: Optional[Tensor],
    sink: Optional[Tensor],
    keep: Optional[Tensor],
    scale: float,
    softcap: float,
    weights: bool,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    out, lse, alpha = _kernel(engine).forward(
        query,
        key,
        value,
        start,
        other,
        scale=scale,
        edge_bias=bias,
        softcap=softcap or None,
        s_aux=sink,
        keep=keep,
        return_weights=weights,
    )
    return out, lse.contiguous(), alpha.contiguous()


@torch.library.custom_op('gnnbridge::csr_attention_backward', mutates_args=())
def _backward(
    grad_out: Tensor,
    grad_alpha: Optional[Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lse: Tensor,
    start: Tensor,
    other: Tensor,
    column_start: Tensor,
    column_query: Tensor,
    column_edge: Tensor,
    bias: Optional[Tensor],
    sink: Optional[Tensor],
    keep: Optional[Tensor],
    scale: float,
    softcap: float,
    bias_grad: bool,
    engine: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv, db, delta = _kernel(engine).backward(
        grad_out,
        grad_alpha,
        query,
        key,
        value,
        lse,
        start,
        other,
        column_start,
        column_query,
        column_edge,
        scale=scale,
        edge_bias=bias,
        softcap=softcap or None,
        s_aux=sink,
        keep=keep,
        bias_grad=bias_grad,
    )
    db = query.new_empty(0) if db is None else db
    return (*(x.contiguous() for x in (dq, dk, dv, db)), delta)


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Any:
    other, weights, engine = rest[1], rest[-2], rest[-1]
    number = torch.promote_types(query.dtype, torch.float32)
    if engine == 'csr_cpu':
        out = _kernel(engine).empty_output(query, key, value, value.new_empty)
    else:
        out = value.new_empty(*query.shape[:2], value.size(2))
    shape = other.size(0) if weights else 0, query.size(1)
    lse = query.new_empty(query.shape[:2], dtype=number)
    return out, lse, query.new_empty(shape, dtype=number)


@_backward.register_fake
def _(grad_out: Tensor, grad_alpha: Any, *rest: Any) -> Any:
    query, key, value, lse = rest[:4]
    bias, bias_grad = rest[9], rest[-2]
    db = torch.empty_like(bias) if bias_grad else query.new_empty(0)
    return (
        torch.empty_like(query, memory_format=torch.contiguous_format),
        torch.empty_like(key, memory_format=torch.contiguous_format),
        torch.empty_like(value, memory_format=torch.contiguous_format),
        db,
        lse.new_empty(query.shape[:2]),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    *tensors, scale, softcap, weights, engine = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.options = scale, softcap, weights, engine
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, to_out: Any, to_lse: Any, to_alpha: Any) -> Any:
    query, key, value, *graph, bias, sink, keep, lse = ctx.saved_tensors
    scale, softcap, weights, engine = ctx.options
    if to_out is None:
        shape = *query.shape[:2], value.size(2)
        to_out = query.new_zeros(shape, dtype=lse.dtype)
    bias_grad = bias is not None and ctx.needs_input_grad[8]
    dq, dk, dv, db, delta = _backward(
        to_out, to_alpha if weights else None, query, key, value, lse, *graph,
        bias, sink, keep, scale, softcap, bias_grad, engine,
    )  # fmt: skip
    to_sink = None
    if sink is not None and ctx.needs_input_grad[9]:
        # The sink is one more key whose value is zero.
        share = (sink.to(lse.dtype) - lse).exp()
        to_sink = (-share * delta).masked_fill(share.isnan(), 0.0)
        to_sink = to_sink.to(sink.dtype)
    return (
        dq, dk, dv, *[None] * 5, db.to(bias.dtype) if bias_grad else None,
        to_sink, *[None] * 5,
    )  # fmt: skip


_attention.register_autograd(_differentiate, setup_context=_save)


def _kernel(engine: str) -> ModuleType:
    # Each brings a compiler that takes its time to load.
    if engine == 'csr_cpu':
        from gnnbridge.nn.kernels import csr_cpu

        return csr_cpu
    from gnnbridge.nn.kernels import csr_triton

    return csr_triton
