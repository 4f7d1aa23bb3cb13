r"""Sums over earlier rows of attention, in parallel over the rows.

A sum in which each row forgets a fixed share of what the rows before it left,

.. math::
    y_i = \sum_{m < i} g^{\,i - 1 - m} x_m,

is a matrix product with a lower triangular Toeplitz matrix. Rows are taken in
blocks, blocks of blocks and so on, so that the work is linear in their number
and no power of :math:`g` is ever divided by another: all terms are products
of numbers of at most one, and long sequences neither overflow nor cancel. The
scan over edges is that of Blelloch, "Prefix Sums and Their Applications"
(CMU-CS-90-190, section 1.4), in the order of Hillis and Steele.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gnnbridge.nn.plan import AttentionPlan


def decayed_sums(x: Tensor, decay: Tensor, *, block: int = 64) -> Tensor:
    """Sums of all earlier rows, each forgotten a little more than the next.

    Args:
        x: What is summed ``[B, Q, H, C]``.
        decay: What a row keeps of the rows before it ``[H]``, 0 to 1; at 1
            the sum is a plain one.
        block: Rows that one matrix product takes, at least two.

    Returns:
        ``[B, Q, H, C]``: for each row the sum over the rows before it, of
        which the last counts in full. Zero for the first row.
    """
    num_rows = x.size(1)
    block = max(min(block, num_rows), 2)
    x = F.pad(x, (0, 0, 0, 0, 0, -num_rows % block))
    x = x.unflatten(1, (-1, block))
    row = torch.arange(block, device=x.device)
    power = row.unsqueeze(-1) - 1 - row
    toeplitz = powers(decay, power.clamp(min=0)) * (power >= 0).unsqueeze(-1)
    out = torch.einsum('rch,bnchd->bnrhd', toeplitz, x)
    if x.size(1) > 1:
        total = torch.einsum('ch,bnchd->bnhd', powers(decay, row.flip(0)), x)
        before = decayed_sums(total, decay**block, block=block)
        out = out + torch.einsum('rh,bnhd->bnrhd', powers(decay, row), before)
    return out.flatten(1, 2)[:, :num_rows]


def powers(decay: Tensor, exponent: Tensor) -> Tensor:
    """``decay`` ``[H]`` to powers ``[...]``, as ``[..., H]``."""
    return decay ** exponent.unsqueeze(-1).to(decay.dtype)


def earlier_on_edges(
    plan: AttentionPlan,
    weight: Tensor,  # [E, H]
    decay: Tensor,  # [H]
    received: Tensor | None = None,  # [B, K, H]
) -> Tensor:  # [E, H]
    r"""What the key of each edge received from the rows before the edge's.

    .. math::
        H_{ij} = \sum_{m < i,\, j \to m} g^{\,i - 1 - m} S_{mj}

    The edges that leave a key are one chain of a scan, so that memory and work
    follow the number of edges: nothing of the size of all pairs is made.

    Args:
        plan: The graph; rows are those of each of its graphs.
        weight: The map :math:`S` on the edges, in their order.
        decay: What a row keeps of the rows before it, 0 to 1.
        received: What keys, from the first one on, received from rows before
            the graph's first; nothing by default.
    """
    if plan.num_edges == 0:
        return weight
    rows, columns = plan.rows, plan.rows.columns
    row, degree = columns.query.long(), columns.start.diff()
    first = torch.zeros_like(row, dtype=torch.bool)
    first[columns.start[:-1][degree > 0]] = True
    gap = row.diff(prepend=row[:1]).masked_fill(first, 1)
    first = first.unsqueeze(-1)

    chain = rows.sorted(weight)[columns.edge]
    factor = powers(decay, gap).masked_fill(first, 0.0)
    total = _Scan.apply(chain, factor, int(degree.max()))
    total = (powers(decay, gap - 1) * _shifted(total, 1)).masked_fill(first, 0)
    out = torch.empty_like(total).index_copy(0, columns.edge, total)
    out = rows.unsorted(out)
    if received is not None:
        graph, query, key = plan.places
        received = grown(received, plan.graph_size[0])
        out = out + powers(decay, query) * received[graph, key]
    return out


def received_by_keys(
    plan: AttentionPlan,
    weight: Tensor,  # [E, H]
    decay: Tensor,  # [H]
    received: Tensor | None = None,  # [B, K, H]
) -> Tensor:  # [B, K, H]
    """What each key has received when the last row of the graph is over.

    Args:
        plan: The graph.
        weight: The map on the edges, in their order.
        decay: What a row keeps of the rows before it, 0 to 1.
        received: What keys received before the graph's first row.
    """
    (num_keys, num_queries), (graph, query, key) = plan.graph_size, plan.places
    out = weight.new_zeros(plan.num_graphs, num_keys, weight.size(1))
    kept = powers(decay, num_queries - 1 - query) * weight
    out = out.index_put((graph, key), kept, accumulate=True)
    if received is not None:
        out = out + decay**num_queries * grown(received, num_keys)
    return out


def grown(received: Tensor, num_keys: int) -> Tensor:
    """The same ``[B, K, H]`` with zeros for keys that are new."""
    return F.pad(received, (0, 0, 0, num_keys - received.size(1)))


def _shifted(x: Tensor, steps: int) -> Tensor:
    """Each entry moved on along the first dimension; zeros come first."""
    return torch.cat([torch.zeros_like(x[:steps]), x[:-steps]])


class _Scan(torch.autograd.Function):
    """The recurrence ``y[e] = x[e] + a[e] y[e - 1]`` of :math:`[E, H]`.

    A function of its own, since autograd would keep every step of the scan.
    The transposed recurrence is the same one from the end, so that derivatives
    of any order, and in forward mode, are further scans.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: Tensor, longest: int) -> Tensor:
        """Runs over chains of at most ``longest`` edges, each from a 0."""
        step = 1
        while step < longest:
            x = x + factor * _shifted(x, step)
            factor = factor * _shifted(factor, step)
            step *= 2
        return x.clone() if longest <= 1 else x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keeps two tensors, however long the chains."""
        _, factor, ctx.longest = inputs
        ctx.save_for_backward(factor, output)
        ctx.save_for_forward(factor, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """The same recurrence from the last edge to the first."""
        factor, total = ctx.saved_tensors
        following = _shifted(factor.flip(0), 1)
        grad = _Scan.apply(grad.flip(0), following, ctx.longest).flip(0)
        return grad, grad * _shifted(total, 1), None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, factor: Tensor, _: None) -> Tensor:
        """The derivative of the recurrence is one in the tangents."""
        a, total = ctx.saved_tensors
        return _Scan.apply(x + factor * _shifted(total, 1), a, ctx.longest)
