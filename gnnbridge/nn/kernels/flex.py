"""Row-window attention on CUDA by PyTorch's block-sparse flex attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    AuxRequest,
    BlockMask,
    flex_attention,
)

# Without `fullgraph`, too many shapes would silently fall back to the eager
# form, which holds every score.
_compiled = torch.compile(flex_attention, fullgraph=True)


def block_mask(
    start: Tensor, stop: Tensor, num_keys: int, block: int = 128
) -> BlockMask:
    r"""Lists the blocks of the attention matrix that a graph of windows fills.

    Query :math:`i` attends to the keys of :math:`\bigcup_r
    [\mathrm{start}_{ir}, \mathrm{stop}_{ir})`. Whether a block of queries and
    keys is empty, partly filled or full follows from the number of pairs in
    it, and these from the ends of the intervals alone: nothing is larger than
    the intervals or the table of blocks. Build it once per graph.

    Args:
        start: First key of each interval :obj:`[Q, R]`, an integer type.
        stop: The key after the last one :obj:`[Q, R]`; an interval that ends
            before it starts is empty. Overlaps count once.
        num_keys: Number of keys.
        block: Queries and keys of a block; on CUDA a multiple of 128.

    Returns:
        A mask of ``Q`` queries and ``num_keys`` keys for :func:`attention`,
        on the device of ``start``.

    Raises:
        ValueError: If shapes differ, an interval leaves the keys, or there is
            no query or no key.
    """
    if start.dim() != 2 or start.shape != stop.shape:
        raise ValueError(
            f"Expected 'start' and 'stop' of the same shape [Q, R] (got "
            f'{list(start.shape)} and {list(stop.shape)}).'
        )
    if start.size(0) == 0 or num_keys == 0:
        raise ValueError(
            f'Expected at least one query and one key (got {start.size(0)} '
            f'and {num_keys}). Attention without either needs no kernel.'
        )
    ends = torch.stack([start, stop]).long()
    if ((ends < 0) | (ends > num_keys)).any():
        raise ValueError(
            f'Expected intervals of keys between 0 and {num_keys} (got ends '
            f'from {int(ends.min())} to {int(ends.max())}).'
        )

    start, stop = _disjoint(ends[0], ends[1])
    pairs = _pairs_below(stop, num_keys, block)
    pairs -= _pairs_below(start, num_keys, block)
    full = pairs == block * block
    partial = (pairs > 0) & ~full
    return BlockMask.from_kv_blocks(
        *_listed(partial),
        *_listed(full),
        BLOCK_SIZE=block,
        mask_mod=_windows(start, stop),
        seq_lengths=(start.size(0), num_keys),
    )


def attention(
    query: Tensor,  # [B, H, Q, D]
    key: Tensor,  # [B, Hkv, K, D]
    value: Tensor,  # [B, Hkv, K, Dv]
    mask: BlockMask,
    *,
    scale: float,
    softcap: Optional[float] = None,
    s_aux: Optional[Tensor] = None,  # [Q, H]
) -> Tensor:  # [B, H, Q, Dv]
    r"""Attention over windows of keys, block by block.

    It is the kernel of `"Flex Attention" <https://arxiv.org/abs/2412.05496>`_.
    With :math:`\ell_i` the log-sum-exp of a row's scores, a sink logit
    :math:`\sigma` scales the row by :math:`e^{\ell_i} / (e^{\ell_i} +
    e^{\sigma_i})`, the logistic function of their difference. A query without
    keys gets zeros.

    On CUDA the kernel is compiled at the first call and differentiable.
    PyTorch asks there for ``D`` and ``Dv`` of at least 16 and, for gradients,
    one dtype for all three; float32 products follow
    :func:`torch.set_float32_matmul_precision`. On the CPU it runs uncompiled,
    holds every score, and has no gradients.

    Args:
        query: Queries :obj:`[B, H, Q, D]`.
        key: Keys :obj:`[B, Hkv, K, D]`; ``Hkv`` divides ``H``.
        value: Values :obj:`[B, Hkv, K, Dv]`.
        mask: The graph, from :func:`block_mask`.
        scale: Factor of the scores.
        softcap: Scores become ``softcap * tanh(score / softcap)``.
        s_aux: Sink logit of each query and head :obj:`[Q, H]`.

    Returns:
        The output :obj:`[B, H, Q, Dv]` in the dtype of ``value``.

    Raises:
        NotImplementedError: If gradients are asked for on the CPU, or the
            rows are too short for CUDA.
    """
    _check(query, key, value)
    kernel: Callable[..., Any] = _compiled if query.is_cuda else flex_attention
    out, aux = kernel(
        query,
        key,
        value,
        score_mod=None if softcap is None else _capped(softcap),
        block_mask=mask,
        scale=scale,
        enable_gqa=query.size(1) != key.size(1),
        return_aux=AuxRequest(lse=True),
    )
    if s_aux is None:
        return out
    # A row without keys is zero already; -inf would make a NaN of its sink.
    lse = aux.lse.masked_fill(aux.lse == float('-inf'), 0.0)
    part = torch.sigmoid(lse - s_aux.t())
    return (out * part.unsqueeze(-1)).to(out.dtype)


def _disjoint(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Intervals in order with the same union, and no key in two of them."""
    start, order = start.sort(dim=1)
    stop = stop.gather(1, order)
    reached = stop.cummax(dim=1).values.roll(1, dims=1)
    reached[:, :1] = 0
    start = torch.maximum(start, reached)
    return start, torch.maximum(stop, start)


def _pairs_below(limit: Tensor, num_keys: int, block: int) -> Tensor:
    """Pairs of a query and a key below its limit, for each block.

    A limit fills the blocks to the left of its own, and part of its own.
    """
    rows, columns = -(-limit.size(0) // block), -(-num_keys // block)
    row = torch.arange(limit.size(0), device=limit.device) // block
    own = (row[:, None] * (columns + 1) + limit // block).flatten()
    zeros = limit.new_zeros(rows * (columns + 1))
    limits = zeros.index_add(0, own, torch.ones_like(own))
    parts = zeros.index_add(0, own, (limit % block).flatten())
    limits = limits.view(rows, columns + 1)
    right = limits.sum(dim=1, keepdim=True) - limits.cumsum(dim=1)
    return (right * block + parts.view(rows, columns + 1))[:, :columns]


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Number and indices of the blocks of each row, as a `BlockMask` has."""
    count = blocks.sum(dim=1, dtype=torch.int32)
    order = blocks.byte().argsort(dim=1, descending=True, stable=True)
    return count[None, None], order.int()[None, None]


def _windows(start: Tensor, stop: Tensor) -> Callable[..., Tensor]:
    start, stop = (x.t().int().contiguous() for x in (start, stop))

    def inside(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        found = j < 0
        for r in range(start.size(0)):
            found = found | ((start[r, i] <= j) & (j < stop[r, i]))
        return found

    return inside


def _capped(softcap: float) -> Callable[..., Tensor]:
    def cap(
        score: Tensor, batch: Tensor, head: Tensor, i: Tensor, j: Tensor
    ) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


def _check(query: Tensor, key: Tensor, value: Tensor) -> None:
    if query.is_cuda and min(query.size(-1), value.size(-1)) < 16:
        raise NotImplementedError(
            f'Expected queries, keys and values of width 16 or more on CUDA '
            f'(got {query.size(-1)} and {value.size(-1)}). Use another kernel '
            f'for narrow heads.'
        )
    wanted = any(x.requires_grad for x in (query, key, value))
    if query.device.type == 'cpu' and wanted:
        raise NotImplementedError(
            'Expected queries, keys and values that need no gradient (got some '
            'that do, on the CPU, where flex attention has none). Use another '
            'kernel to train on the CPU.'
        )
