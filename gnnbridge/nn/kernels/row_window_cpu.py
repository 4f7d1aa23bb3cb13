"""The row-window kernel on the CPU as an operation that torch knows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Optional

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from gnnbridge.nn.formats import Windows

# Products of all pairs of a query and a key, up to which other threads take
# longer to wake than the work takes.
_SMALL = 1 << 23


def attention(
    query: Tensor,  # [Nq, H, D]
    key: Tensor,  # [Nk, Hkv, D]
    value: Tensor,  # [Nk, Hkv, Dv]
    windows: Windows,
    *,
    scale: float,
    softcap: Optional[float] = None,
    s_aux: OptTensor = None,  # [Nq, H]
) -> Tensor:  # [Nq, H, Dv]
    """Attention over windows, forward and backward.

    Biases of edges, dropout and returned weights are not for this kernel:
    nothing that it computes has the size of the edges.
    """
    out, _ = _attention(
        query,
        key,
        value,
        windows.start,
        windows.stop,
        windows.cover_start,
        windows.cover_stop,
        windows.rows,
        s_aux,
        scale,
        softcap or 0.0,
    )
    return out.to(value.dtype)


@torch.library.custom_op('gnnbridge::row_window', mutates_args=())
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    start: Tensor,
    stop: Tensor,
    cover_start: Tensor,
    cover_stop: Tensor,
    rows: int,
    sink: Optional[Tensor],
    scale: float,
    softcap: float,
) -> tuple[Tensor, Tensor]:
    from gnnbridge.nn.kernels import loops_row_window as loops
    from gnnbridge.nn.kernels import memory
    from gnnbridge.nn.kernels.emitter import lanes_of
    from gnnbridge.nn.kernels.loops_tiles import (
        BLOCKS,
        forward_sizes,
        integers,
    )
    from gnnbridge.nn.kernels.strided import strided, whole_vectors
    from gnnbridge.nn.kernels.threads import run_parallel

    wanted = value.size(2)
    query, key, value = (whole_vectors(x) for x in (query, key, value))
    num_queries, heads, width = query.shape
    out = memory.empty((num_queries, heads, value.size(2)), query.dtype)
    lse = query.new_empty(num_queries, heads)
    sizes = (num_queries, heads, heads // key.size(1), width, value.size(2))
    options = (float(scale), float(softcap), sink is not None)
    tiles = _tiles(rows, start, stop, cover_start, cover_stop)
    sink = lse if sink is None else sink.to(query.dtype)
    arguments = (
        *(strided(x) for x in (query, key, value, out, lse, sink)),
        tiles, sizes, options,
    )  # fmt: skip
    # The last blocks of a causal graph have the most to do: they come first.
    threads = _threads(query, rows, cover_start, cover_stop)
    parts = 1 if threads == 1 else 8 * threads
    works = reversed(_shares(cover_start, cover_stop, parts, BLOCKS))
    lanes = lanes_of(query.element_size())
    ranges = cover_start.size(1)
    tile_sizes = forward_sizes(rows, width, value.size(2), lanes)

    def call(work: tuple[int, int]) -> None:
        room = integers(rows, ranges), memory.rooms(tile_sizes, query.dtype)
        loops.forward(*arguments, work, room)

    run_parallel(call, [(work,) for work in works], threads)
    if out.size(2) > wanted:
        out = out[..., :wanted].contiguous()
    return out, lse


@torch.library.custom_op('gnnbridge::row_window_backward', mutates_args=())
def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    start: Tensor,
    stop: Tensor,
    cover_start: Tensor,
    cover_stop: Tensor,
    rows: int,
    scale: float,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from gnnbridge.nn.kernels import loops_row_window as loops
    from gnnbridge.nn.kernels import memory
    from gnnbridge.nn.kernels.emitter import lanes_of
    from gnnbridge.nn.kernels.loops_tiles import backward_sizes, integers
    from gnnbridge.nn.kernels.strided import strided, whole_vectors
    from gnnbridge.nn.kernels.threads import run_parallel

    given = query, key, value
    grad, query, key, value, out = (
        whole_vectors(x) for x in (grad, query, key, value, out)
    )
    (num_queries, heads, width), kv_heads = query.shape, key.size(1)
    sizes = (num_queries, heads, heads // kv_heads, width, value.size(2))
    # A thread adds to keys and values of its own: to those of its heads, and
    # where there are fewer heads than threads, to a copy of them.
    threads = _threads(query, rows, cover_start, cover_stop)
    shares = _shares(cover_start, cover_stop, -(-threads // kv_heads))
    dq = memory.empty(query.shape, query.dtype)
    dk, dv = (
        memory.empty((len(shares), *x.shape), x.dtype).zero_()
        for x in (key, value)
    )
    delta = torch.empty_like(lse)
    tiles = _tiles(rows, start, stop, cover_start, cover_stop)
    given_back = [strided(x) for x in (grad, query, key, value, out, lse)]
    options = (float(scale), float(softcap))
    calls = [
        (
            *given_back,
            strided(dq),
            strided(dk[part]),
            strided(dv[part]),
            strided(delta),
            tiles,
            sizes,
            options,
            (*share, head, head + 1),
        )
        for part, share in enumerate(shares)
        for head in range(kv_heads)
    ]
    lanes = lanes_of(query.element_size())
    ranges = cover_start.size(1)
    tile_sizes = backward_sizes(rows, width, value.size(2), lanes)

    def call(*arguments: Any) -> None:
        room = integers(rows, ranges), memory.rooms(tile_sizes, query.dtype)
        loops.backward(*arguments, room)

    run_parallel(call, calls, threads)
    dq, dk, dv = (
        x[..., : like.size(2)].to(like.dtype).contiguous()
        for x, like in zip((dq, _sum(dk), _sum(dv)), given, strict=True)
    )
    return dq, dk, dv, delta


def _sum(parts: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else parts.sum(dim=0)


def _tiles(rows: int, *ranges: Tensor) -> Any:
    from gnnbridge.nn.kernels.loops_tiles import Tiles

    start, stop, cover_start, cover_stop = (x.numpy() for x in ranges)
    return Tiles(rows, start.ravel(), stop.ravel(), cover_start, cover_stop)


def _threads(
    query: Tensor, rows: int, cover_start: Tensor, cover_stop: Tensor
) -> int:
    pairs = rows * int((cover_stop - cover_start).sum())
    products = pairs * query.size(1) * query.size(2)
    return 1 if products <= _SMALL else torch.get_num_threads()


def _shares(
    cover_start: Tensor, cover_stop: Tensor, parts: int, together: int = 1
) -> list[tuple[int, int]]:
    """Blocks in parts of about the same number of pairs.

    So many as are run ``together`` stay so, whatever the number of parts:
    results do not depend on how many threads there are.
    """
    work = (cover_stop - cover_start).sum(dim=1).cumsum(0)
    blocks = len(work)
    if blocks == 0:
        return []
    goals = torch.linspace(0, float(work[-1]), parts + 1)[1:-1].ceil()
    cuts = torch.searchsorted(work, goals.to(work.dtype))
    cuts = (cuts + together) // together * together
    edges = sorted({0, blocks, *cuts.clamp(max=blocks).tolist()})
    return list(pairwise(edges))


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Any:
    dtype = torch.promote_types(query.dtype, torch.float32)
    shape = query.shape[:2]
    out = query.new_empty(*shape, value.size(2), dtype=dtype)
    return out, query.new_empty(shape, dtype=dtype)


@_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any
) -> Any:
    lse = rest[1]
    grads = (
        torch.empty_like(x, memory_format=torch.contiguous_format)
        for x in (query, key, value)
    )
    return (*grads, torch.empty_like(lse))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    query, key, value, *ranges, rows, sink, scale, softcap = inputs
    ctx.save_for_backward(query, key, value, *output, sink, *ranges)
    ctx.options = rows, scale, softcap


def _differentiate(ctx: Any, grad: Tensor, to_lse: Tensor) -> Any:
    query, key, value, out, lse, sink, *ranges = ctx.saved_tensors
    dq, dk, dv, delta = _backward(
        grad, query, key, value, out, lse, *ranges, *ctx.options
    )
    to_sink = None
    if sink is not None and ctx.needs_input_grad[8]:
        share = (sink.to(lse.dtype) - lse).exp()
        to_sink = (-share * delta).masked_fill(share.isnan(), 0.0)
        to_sink = to_sink.to(sink.dtype)
    return dq, dk, dv, *[None] * 5, to_sink, None, None


_attention.register_autograd(_differentiate, setup_context=_save)
