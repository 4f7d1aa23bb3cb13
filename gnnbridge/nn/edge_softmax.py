"""Softmax over the incoming edges of each query: the numerics of attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor


def edge_softmax(
    score: Tensor,  # [E, H]
    index: Tensor,  # [E]
    num_queries: int,
    *,
    s_aux: OptTensor = None,  # [H] or [Nq, H]
) -> Tensor:  # [E, H]
    r"""Normalises edge scores over the edges that enter each query.

    .. math::
        \alpha_e = \frac{\exp(s_e - m_i)}
        {\exp(\sigma - m_i) + \sum_{e' \to i} \exp(s_{e'} - m_i)}

    with :math:`i` the query of edge :math:`e`, :math:`m_i` the largest logit
    of its row and :math:`\sigma` the learned sink logit. The sink term is
    absent without ``s_aux``; with it a row sums to less than one, as in
    GPT-OSS (``transformers``, ``gpt_oss/modeling_gpt_oss.py``).

    It differs from :func:`torch_geometric.utils.softmax` in three ways: half
    precision is upcast to float32, nothing is added to the denominator, and a
    query whose scores are all ``-inf`` gets zeros instead of NaN.

    Args:
        score: Edge logits :obj:`[E, H]`; ``-inf`` switches an edge off for
            one head.
        index: Query of each edge :obj:`[E]`, in any order.
        num_queries: Number of queries.
        s_aux: Sink logit per head :obj:`[H]` or per query and head
            :obj:`[num_queries, H]`.

    Returns:
        Attention weights :obj:`[E, H]`, in float32 or the wider input dtype.

    Raises:
        ValueError: If shapes do not fit each other.
    """
    if score.dim() != 2 or index.shape != score.shape[:1]:
        raise ValueError(
            f"Expected 'score' [E, H] and 'index' [E] (got shapes "
            f'{list(score.shape)} and {list(index.shape)}).'
        )
    score = score.to(torch.promote_types(score.dtype, torch.float32))
    rows = index.unsqueeze(-1).expand_as(score)
    shape = (num_queries, score.size(1))
    if s_aux is not None and not fits_rows(s_aux, shape):
        raise ValueError(
            f"Expected 's_aux' of shape [{shape[1]}] or {list(shape)}, a logit "
            f'for each head or each query and head (got {list(s_aux.shape)}).'
        )

    # The shift by the row maximum cancels, so it carries no gradient.
    peak = score.new_full(shape, float('-inf'))
    peak = peak.scatter_reduce(0, rows, score.detach(), 'amax')
    if s_aux is not None:
        s_aux = s_aux.to(score.dtype).expand(shape)
        peak = torch.maximum(peak, s_aux.detach())
    # An empty or switched-off row has no maximum; any finite shift will do.
    peak = peak.masked_fill(peak == float('-inf'), 0.0)

    weight = (score - peak.index_select(0, index)).exp()
    total = weight.new_zeros(shape).scatter_add(0, rows, weight)
    if s_aux is not None:
        total = total + (s_aux - peak).exp()
    # Only rows without any mass have a zero denominator: they stay zero.
    total = total.masked_fill(total == 0, 1.0)
    return weight / total.index_select(0, index)


def fits_rows(s_aux: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether logits are ``[H]`` or ``[Nq, H]``; sizes may be symbols."""
    per_head = s_aux.dim() == 1 and s_aux.size(0) == shape[1]
    per_query = s_aux.dim() == 2 and (
        s_aux.size(0) == shape[0] and s_aux.size(1) == shape[1]
    )
    return per_head or per_query
