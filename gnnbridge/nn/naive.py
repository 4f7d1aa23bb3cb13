"""The dense twin of message-passing attention: plain, slow, easy to check."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor


def naive_attention(
    query: Tensor,  # [Nq, H, D]
    key: Tensor,  # [Nk, Hkv, D]
    value: Tensor,  # [Nk, Hkv, Dv]
    edge_index: Tensor,  # [2, E]
    *,
    scale: Optional[float] = None,
    edge_bias: OptTensor = None,  # [E] or [E, H]
    softcap: Optional[float] = None,
    s_aux: OptTensor = None,  # [H] or [Nq, H]
) -> tuple[Tensor, Tensor]:
    r"""Dense attention over the edges of a graph, one matrix per head.

    It is what :class:`AttentionConv` must equal, written with none of its
    means: keys are repeated for grouped queries, absent edges are ``-inf``,
    the sink is one more column, and :func:`torch.softmax` does the rest.

    Args:
        query: Queries :obj:`[Nq, H, D]`.
        key: Keys :obj:`[Nk, Hkv, D]`; ``Hkv`` divides ``H``.
        value: Values :obj:`[Nk, Hkv, Dv]`.
        edge_index: Edges :obj:`[2, E]`, key to query.
        scale: Factor of the scores, :math:`1/\sqrt{D}` by default.
        edge_bias: Added to the scores of each edge.
        softcap: Scores become ``softcap * tanh(score / softcap)`` before the
            bias is added.
        s_aux: Logit of one further key, whose value is zero, per head or per
            query and head.

    Returns:
        The output :obj:`[Nq, H, Dv]` and the attention :obj:`[H, Nq, Nk]`,
        both in the wider of float32 and the input's dtype.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    (num_queries, heads, width), num_keys = query.shape, key.size(0)
    groups = heads // key.size(1)
    key = key.to(dtype).repeat_interleave(groups, dim=1)
    value = value.to(dtype).repeat_interleave(groups, dim=1)

    score = torch.einsum('ihd,jhd->hij', query.to(dtype), key)
    score = score * (width**-0.5 if scale is None else scale)
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)

    bias = score.new_full((num_queries, num_keys, heads), float('-inf'))
    weight = score.new_zeros(edge_index.size(1), heads)
    if edge_bias is not None:
        weight = weight + edge_bias.to(dtype).view(edge_index.size(1), -1)
    bias = bias.index_put((edge_index[1], edge_index[0]), weight)
    score = score + bias.permute(2, 0, 1)

    if s_aux is not None:
        sink = s_aux.to(dtype).expand(num_queries, heads)
        score = torch.cat([score, sink.t().unsqueeze(-1)], dim=-1)
    # A row of -inf alone is NaN by softmax; attention to nothing is zero.
    empty = (score == float('-inf')).all(dim=-1, keepdim=True)
    attention = torch.softmax(score.masked_fill(empty, 0.0), dim=-1)
    attention = attention.masked_fill(empty, 0.0)[..., :num_keys]
    return torch.einsum('hij,jhd->ihd', attention, value), attention
