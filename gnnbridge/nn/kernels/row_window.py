"""Attention over row windows by batched dense attention, on any device.

The queries of a block see few keys in all: these are put side by side, and
the blocks become a batch of small dense problems.
"""

from __future__ import annotations

from typing import Optional

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
    keys, mask = windows.compacted  # [blocks, W], [blocks, rows, W]
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
