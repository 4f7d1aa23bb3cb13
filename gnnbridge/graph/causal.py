r"""Graphs that say which keys a query may see.

Every builder returns a :class:`torch_geometric.data.Data` with ``edge_index``
``[2, E]`` (int64; row 0 the key :math:`j`, row 1 the query :math:`i`; sorted
by target then source, without duplicates), ``num_nodes`` and ``position``
``[N]``. Self-loops are included: a token attends to itself. Memory is
proportional to the number of edges.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_size
from gnnbridge.graph.ranges import ranges_to_graph, window_ranges


def causal_graph(n: int, *, device: torch.device | str | None = None) -> Data:
    r"""The graph of a causal mask.

    .. math::
        j \to i \iff j \le i

    Args:
        n: The number of tokens.
        device: Where the tensors live.

    Example:
        >>> causal_graph(3).edge_index.tolist()
        [[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]]
    """
    i = _nodes(n, device)
    return ranges_to_graph(torch.zeros_like(i), i + 1, n)


def sliding_window_graph(
    n: int,
    window: int,
    sinks: int = 0,
    *,
    device: torch.device | str | None = None,
) -> Data:
    r"""A causal window, with the first tokens as attention sinks.

    After `"Efficient Streaming Language Models with Attention Sinks"
    <https://arxiv.org/abs/2309.17453>`_; without sinks, Mistral's window.

    .. math::
        j \to i \iff j \le i \text{ and } (i - j < w \text{ or } j < s)

    Args:
        n: The number of tokens.
        window: The number of keys :math:`w` in the window, the query itself
            included.
        sinks: The number of first tokens :math:`s` that every later query
            sees as well.
        device: Where the tensors live.
    """
    i = _nodes(n, device)
    check_size('window', window)
    check_size('sinks', sinks, minimum=0)
    return ranges_to_graph(*window_ranges(i, window, sinks), n)


def prefix_graph(
    n: int, prefix: int, *, device: torch.device | str | None = None
) -> Data:
    r"""The graph of a prefix language model: both ways inside the prefix.

    .. math::
        j \to i \iff j \le i \text{ or } (i < p \text{ and } j < p)

    Args:
        n: The number of tokens.
        prefix: The number of tokens :math:`p` in the prefix, 0 to ``n``.
        device: Where the tensors live.
    """
    i = _nodes(n, device)
    if check_size('prefix', prefix, minimum=0) > n:
        raise ValueError(
            f"Expected 'prefix' to be at most n = {n} (got {prefix})."
        )
    return ranges_to_graph(
        torch.zeros_like(i), torch.where(i < prefix, prefix, i + 1), n
    )


def dilated_graph(
    n: int,
    window: int,
    dilation: int,
    *,
    device: torch.device | str | None = None,
) -> Data:
    r"""A causal window with gaps between its keys.

    After `"Longformer: The Long-Document Transformer"
    <https://arxiv.org/abs/2004.05150>`_.

    .. math::
        j \to i \iff i - j \in \{0, d, 2d, \ldots, (w - 1) d\}

    Args:
        n: The number of tokens.
        window: The number of keys :math:`w`, the query itself included.
        dilation: The distance :math:`d` between neighbouring keys.
        device: Where the tensors live.
    """
    i = _nodes(n, device)
    check_size('window', window)
    check_size('dilation', dilation)
    count = (i // dilation + 1).clamp(max=window)
    return ranges_to_graph(i - (count - 1) * dilation, count, n, step=dilation)


def block_graph(
    n: int,
    block: int,
    *,
    causal: bool = True,
    device: torch.device | str | None = None,
) -> Data:
    r"""Attention within consecutive blocks of tokens.

    .. math::
        j \to i \iff \lfloor j / b \rfloor = \lfloor i / b \rfloor
        \text{ (and } j \le i \text{ if causal)}

    Each block is a closed class: with more than one block the graph has more
    than one root.

    Args:
        n: The number of tokens.
        block: The size :math:`b` of a block; the last one may be shorter.
        causal: Whether a query sees only the keys up to itself.
        device: Where the tensors live.
    """
    i = _nodes(n, device)
    check_size('block', block)
    start = i // block * block
    stop = i + 1 if causal else (start + block).clamp(max=n)
    return ranges_to_graph(start, stop - start, n)


def complete_graph(n: int, *, device: torch.device | str | None = None) -> Data:
    r"""The graph of attention without a mask: every query sees every key.

    Args:
        n: The number of tokens.
        device: Where the tensors live.
    """
    i = _nodes(n, device)
    return ranges_to_graph(torch.zeros_like(i), torch.full_like(i, n), n)


def _nodes(n: int, device: torch.device | str | None) -> Tensor:
    return torch.arange(check_size('n', n), device=device)
