"""The compressed-row kernel on the CPU: shares of the work and their memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from gnnbridge.nn.kernels import (
    loops_csr,
    loops_csr_backward,
    loops_rows,
    memory,
)
from gnnbridge.nn.kernels.emitter import lanes_of
from gnnbridge.nn.kernels.strided import Strided, strided, whole_vectors
from gnnbridge.nn.kernels.threads import run_parallel

# Numbers of keys that the edges of all heads read, up to which other threads
# take longer to wake than the work takes.
_SMALL = 1 << 21
# Bytes of one head's keys up to which heads are run one after the other, each
# from a copy in which its keys lie side by side: they then stay in a cache.
# Beyond, all heads of a row are run together, since they share lines of memory;
# so they are where all the work is done in one call.
_CACHE = 1 << 23
# Rows of a block, where all heads are run together and where they are not.
_FEW, _MANY = 16, 2048


def forward(
    query: Tensor,  # [Nq, H, D]
    key: Tensor,  # [Nk, Hkv, D]
    value: Tensor,  # [Nk, Hkv, Dv]
    rowptr: Tensor,  # [Nq + 1]
    col: Tensor,  # [E]
    *,
    scale: float,
    edge_bias: OptTensor,  # [E, 1 | H]
    softcap: float | None,
    s_aux: OptTensor,  # [Nq, H]
    keep: OptTensor,  # [E, H]
    return_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output ``[Nq, H, Dv]``, row sums ``[Nq, H]`` and weights ``[E, H]``."""
    out = empty_output(query, key, value, memory.empty)
    heads, wanted = query.size(1), value.size(2)
    threads = _threads(query, col)
    shared = threads == 1 or _is_shared(key)
    query, key, value = (whole_vectors(x) for x in (query, key, value))
    target = out
    if value.size(2) != wanted:
        target = empty_output(query, key, value, memory.empty)
    lse = query.new_empty(heads, query.size(0)).t()
    num_edges = col.numel() if return_weights else 0
    alpha = query.new_empty(heads, num_edges).t()
    sizes = _sizes(query, key, value)
    rows = _FEW if shared else _MANY
    options = (
        float(scale), float(softcap or 0.0), edge_bias is not None,
        s_aux is not None, keep is not None, return_weights,
        rows if shared else 0, rows,
    )  # fmt: skip
    arguments = (
        strided(query), strided(key), strided(value), strided(target),
        strided(lse), strided(alpha), _per_edge(edge_bias, query, heads),
        _per_edge(s_aux, query, heads), _per_edge(keep, query, heads),
        rowptr.numpy(), col.numpy(), sizes, options,
    )  # fmt: skip
    works = _works(rowptr, (0, heads), shared, threads)
    rooms = _copies(key, value, shared)
    rooms += [_block(rowptr, rows, query), rows]
    _run(loops_csr.forward, arguments, works, rooms, query.dtype, threads)
    if target is not out:
        out.copy_(target[..., :wanted])
    return out, lse, alpha


def backward(
    grad_out: Tensor,
    grad_alpha: OptTensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lse: Tensor,
    rowptr: Tensor,
    col: Tensor,
    colptr: Tensor,  # [Nk + 1]
    row: Tensor,  # [E]
    edge: Tensor,  # [E]
    *,
    scale: float,
    edge_bias: OptTensor,
    softcap: float | None,
    s_aux: OptTensor,
    keep: OptTensor,
    bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, OptTensor, Tensor]:
    """Gradients of queries, keys, values and bias, and the rows' ``delta``."""
    given = (query, key, value)
    (num_queries, heads, _), num_edges = query.shape, col.numel()
    threads = _threads(query, col)
    shared = threads == 1 or _is_shared(key)
    grad_out, query, key, value = (
        whole_vectors(x) for x in (grad_out, query, key, value)
    )
    groups = heads // key.size(1)
    dq = memory.empty(query.shape, query.dtype)
    dk, dv = (memory.empty(x.shape, x.dtype) for x in (key, value))
    delta = query.new_empty(num_queries, heads)
    db = query.new_empty(heads, num_edges if bias_grad else 0).t()
    sizes = _sizes(query, key, value)
    bias, kept, to_alpha = (
        _per_edge(x, query, heads) for x in (edge_bias, keep, grad_alpha)
    )
    # Two numbers per edge and head wait for the keys' pass: as many heads at
    # a time as fit into the space of the queries.
    many = query.numel() // max(2 * num_edges, 1)
    many = max(min(many, heads) // groups, 1) * groups
    start, other, starts = rowptr.numpy(), col.numpy(), colptr.numpy()
    rows = _FEW if shared else _MANY
    block = _block(rowptr, rows, query)
    of_rows = [*_copies(key, value, shared), block, block]
    of_rows += [block if softcap else 0]
    of_keys = [*_copies(query, grad_out, shared), _block(colptr, 1, query)]
    for first in range(0, heads, many):
        these = (first, min(first + many, heads))
        p, ds = (
            _scratch(query, num_edges, these[1] - first, shared)
            for _ in range(2)
        )
        options = (
            float(scale), float(softcap or 0.0), edge_bias is not None,
            keep is not None, grad_alpha is not None, bias_grad,
            rows if shared else 0, rows, first,
        )  # fmt: skip
        arguments = (
            strided(grad_out), strided(query), strided(key), strided(value),
            strided(lse), bias, kept, to_alpha, p, ds, strided(dq),
            strided(db), strided(delta), start, other, sizes, options,
        )  # fmt: skip
        works = _works(rowptr, these, shared, threads)
        _run(
            loops_csr_backward.backward_rows, arguments, works, of_rows,
            query.dtype, threads,
        )  # fmt: skip
        to_keys = (
            strided(grad_out), strided(query), p, ds, strided(dk), strided(dv),
            starts, row.numpy(), edge.numpy(), sizes,
            (float(scale), rows if shared else 0, rows, first),
        )  # fmt: skip
        works = _works(colptr, these, shared, threads, groups)
        _run(
            loops_csr_backward.backward_keys, to_keys, works, of_keys,
            query.dtype, threads,
        )  # fmt: skip
    dq, dk, dv = (
        x[..., : like.size(2)].to(like.dtype)
        for x, like in zip((dq, dk, dv), given, strict=True)
    )
    bias_out = db if bias_grad else None
    if (
        bias_out is not None
        and edge_bias is not None
        and edge_bias.size(1) == 1
    ):
        bias_out = bias_out.sum(dim=1, keepdim=True)
    return dq, dk, dv, bias_out, delta


def _sizes(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, ...]:
    groups = query.size(1) // key.size(1)
    return query.size(0), key.size(0), groups, query.size(2), value.size(2)


def _copies(first: Tensor, second: Tensor, shared: bool) -> list[int]:
    """Numbers of copies of one head of two tensors, none if not needed."""
    return [
        0 if shared or x.stride(0) == x.size(2) else x[:, 0].numel()
        for x in (first, second)
    ]


def _block(start: Tensor, rows: int, like: Tensor) -> int:
    """Numbers of the largest block of rows, each row in whole vectors."""
    longest = int(start.diff().max()) if start.numel() > 1 else 0
    rows = min(rows, start.numel() - 1)
    edges = min(max(longest, loops_rows.EDGES), int(start[-1]))
    return edges + rows * lanes_of(strided(like).data.itemsize)


def _run(
    loop: Callable[..., None],
    arguments: tuple[Any, ...],
    works: list[tuple[int, int, int, int]],
    rooms: list[int],
    dtype: torch.dtype,
    threads: int,
) -> None:
    """Runs a loop over its works, each with memory of given sizes."""

    def call(work: tuple[int, int, int, int]) -> None:
        loop(*arguments, work, memory.rooms(rooms, dtype))

    run_parallel(call, [(work,) for work in works], threads)


def empty_output(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    empty: Callable[..., Tensor],
) -> Tensor:
    """An output ``[Nq, H, Dv]`` in the layout in which it is written.

    ``empty`` makes it, of a shape and a dtype.
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    (num_queries, heads, _), width = query.shape, value.size(2)
    if _is_shared(key):
        return empty((num_queries, heads, width), dtype=dtype)
    return empty((heads, num_queries, width), dtype=dtype).transpose(0, 1)


def _threads(query: Tensor, col: Tensor) -> int:
    numbers = col.numel() * query.size(1) * query.size(2)
    return 1 if numbers <= _SMALL else torch.get_num_threads()


def _is_shared(key: Tensor) -> bool:
    return key.size(0) * key.size(2) * max(key.element_size(), 4) > _CACHE


def _per_edge(x: OptTensor, like: Tensor, heads: int) -> Strided:
    if x is None:
        return strided(like.new_empty(0, 0))
    return strided(x.to(like.dtype).expand(-1, heads))


def _scratch(like: Tensor, edges: int, heads: int, shared: bool) -> Strided:
    shape = (edges, heads) if shared else (heads, edges)
    x = memory.empty(shape, like.dtype)
    return strided(x if shared else x.t())


def _works(
    start: Tensor,
    heads: tuple[int, int],
    shared: bool,
    threads: int,
    groups: int = 1,
) -> list[tuple[int, int, int, int]]:
    """Shares of the work, of about as many edges each.

    ``groups`` heads in a row are never given to two threads: they add to the
    same key.
    """
    first, last = heads
    teams = 1 if shared else (last - first) // groups
    parts = -(-threads // teams)
    if shared and threads > 1:
        parts = 4 * threads
    # A row costs something besides its edges.
    size = start.numel() - 1
    cost = start.numpy() + 4 * np.arange(size + 1)
    cuts = np.searchsorted(cost, np.linspace(0, cost[-1], parts + 1))
    cuts[0], cuts[-1] = 0, size
    step = (last - first) // teams
    return [
        (int(low), int(high), head, head + step)
        for head in range(first, last, step)
        for low, high in pairwise(cuts)
        if high > low
    ]
