"""Attention over row windows by batched dense attention, on any device.

The queries of a block see few keys in all: these are put side by side, and
the blocks become a batch of small dense problems.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.typing import OptTensor

from gnnbridge.nn.formats import Rows, Windows
from gnnbridge.nn.kernels import dense


def attention(
    query: Tensor,  # [Nq, H, D]
    key: Tensor,  # [Nk, Hkv, D]
    value: Tensor,  # [Nk, Hkv, Dv]
    windows: Windows,
    rows: Rows | None,
    *,
    scale: float,
    edge_bias: OptTensor = None,  # [E, 1 | H], in the order of the rows
    softcap: Optional[float] = None,
    s_aux: OptTensor = None,  # [Nq, H]
    dropout: float = 0.0,
    return_weights: bool = False,
    differentiable: bool = False,
) -> tuple[Tensor, OptTensor]:
    """Attention over windows with everything that a graph may ask for.

    Args:
        query: Queries.
        key: Keys, of heads that divide those of the queries.
        value: Values, one for each key.
        windows: The graph.
        rows: Its edges, needed with ``edge_bias`` and ``return_weights`` only.
        scale: Factor of the scores.
        edge_bias: Added to the scores; ``-inf`` switches an edge off.
        softcap: Scores become ``softcap * tanh(score / softcap)``.
        s_aux: Logit of one further key, whose value is zero.
        dropout: Probability with which a weight is dropped.
        return_weights: Whether to return the weights before dropout.
        differentiable: Whether only operations with derivatives of any order
            and in forward mode may be used.

    Returns:
        The output ``[Nq, H, Dv]`` in the dtype of ``value``, and the weights
        ``[E, H]`` in the order of the rows or None.
    """
    num_queries = query.size(0)
    blocks = windows.cover_start.size(0)
    keys, mask = _compacted(windows)  # [blocks, W], [blocks, R, W]
    missing = blocks * windows.rows - num_queries
    bias = places = None
    if edge_bias is not None or return_weights:
        assert rows is not None  # set by the caller
        places = _places(windows, rows)
    if edge_bias is not None and places is not None:
        # In the dtype of the bias, one value for each pair of a block.
        bias = edge_bias.new_zeros(*mask.shape, edge_bias.size(1))
        bias = bias.index_put(places, edge_bias).permute(0, 3, 1, 2)
    if s_aux is not None:
        s_aux = F.pad(s_aux, (0, 0, 0, missing))
        s_aux = s_aux.unflatten(0, (blocks, windows.rows)).transpose(1, 2)
    out, weights = dense.attention(
        F.pad(query, (0, 0, 0, 0, 0, missing))
        .unflatten(0, (blocks, windows.rows))
        .transpose(1, 2),
        key[keys].transpose(1, 2),
        value[keys].transpose(1, 2),
        scale=scale,
        mask=mask.unsqueeze(1),
        bias=bias,
        softcap=softcap,
        s_aux=s_aux,
        dropout=dropout,
        return_weights=return_weights,
        differentiable=differentiable,
    )
    out = out.transpose(1, 2).flatten(0, 1)[:num_queries]
    if weights is None or places is None:
        return out, None
    return out, weights.permute(0, 2, 3, 1)[places]


def _compacted(windows: Windows) -> tuple[Tensor, Tensor]:
    """The keys of each block side by side, and which of them a row sees."""
    start, stop = windows.cover_start.long(), windows.cover_stop.long()
    length = stop - start
    before = length.cumsum(dim=1) - length
    slot = torch.arange(
        int(length.sum(dim=1).max()) if len(length) else 0,
        device=start.device,
    )
    within = slot - before.unsqueeze(-1)  # [blocks, R, W]
    inside = (within >= 0) & (within < length.unsqueeze(-1))
    key = ((start.unsqueeze(-1) + within) * inside).sum(dim=1)
    missing = len(start) * windows.rows - windows.num_queries
    low, high = (
        F.pad(x, (0, 0, 0, missing)).unflatten(0, (len(start), windows.rows))
        for x in (windows.start, windows.stop)
    )
    seen = key.view(len(start), 1, 1, -1)
    seen = (seen >= low.unsqueeze(-1)) & (seen < high.unsqueeze(-1))
    return key, seen.any(dim=2) & inside.any(dim=1).unsqueeze(1)


def _places(windows: Windows, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Block, row within it and slot of each edge."""
    block = rows.query // windows.rows
    start = windows.cover_start[block].long()
    length = windows.cover_stop[block].long() - start
    before = length.cumsum(dim=1) - length
    within = rows.key.long().unsqueeze(1) - start
    inside = (within >= 0) & (within < length)
    slot = ((before + within) * inside).sum(dim=1)
    return block, rows.query % windows.rows, slot
