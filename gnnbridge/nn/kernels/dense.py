"""Attention over all pairs, with a mask: torch's own kernel where it can.

:func:`torch.nn.functional.scaled_dot_product_attention` knows neither softcap
nor learned sinks, and gives no weights. What it does not know is computed with
one matrix of scores per head.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.typing import OptTensor


def attention(
    query: Tensor,  # [B, H, Q, D]
    key: Tensor,  # [B, Hkv, K, D]
    value: Tensor,  # [B, Hkv, K, Dv]
    *,
    scale: float,
    causal: bool = False,
    mask: OptTensor = None,  # [B | 1, H | 1, Q, K] bool
    bias: OptTensor = None,  # [B | 1, H | 1, Q, K]
    softcap: Optional[float] = None,
    s_aux: OptTensor = None,  # [B | 1, H, Q | 1]
    dropout: float = 0.0,
    return_weights: bool = False,
    differentiable: bool = False,
) -> tuple[Tensor, OptTensor]:
    """Dense attention with everything that a graph may ask for.

    Args:
        query: Queries.
        key: Keys, of heads that divide those of the queries.
        value: Values, one for each key.
        scale: Factor of the scores.
        causal: Whether query ``i`` sees keys up to ``i + K - Q`` only.
        mask: True where a pair is kept.
        bias: Added to the scores; ``-inf`` switches a pair off.
        softcap: Scores become ``softcap * tanh(score / softcap)``.
        s_aux: Logit of one further key, whose value is zero.
        dropout: Probability with which a weight is dropped.
        return_weights: Whether to return the weights before dropout.
        differentiable: Whether only operations with derivatives of any order
            and in forward mode may be used.

    Returns:
        The output ``[B, H, Q, Dv]`` in the dtype of ``value``, and the weights
        ``[B, H, Q, K]`` in at least float32, or None. A query that sees no key
        gets zeros.
    """
    num_queries, num_keys = query.size(2), key.size(2)
    fast = softcap is None and s_aux is None and not return_weights
    fast = fast and num_keys > 0
    if num_queries == 1:
        # The last query sees all keys.
        causal = False
    if causal and (
        not fast
        or differentiable
        or bias is not None
        or mask is not None
        or num_queries != num_keys
    ):
        lower = torch.ones(
            num_queries, num_keys, dtype=torch.bool, device=query.device
        ).tril(num_keys - num_queries)
        mask = lower if mask is None else mask & lower
        causal = False
    if not fast or differentiable:
        score_bias = _as_bias(mask, bias, query)
        return _explicit(
            query, key, value, scale, score_bias, softcap, s_aux, dropout,
            return_weights,
        )  # fmt: skip
    additive: OptTensor = mask
    if bias is not None:
        bias = bias.to(query.dtype)
        additive = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    out = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=additive,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=query.size(1) != key.size(1),
    )
    return out, None


def _as_bias(mask: OptTensor, bias: OptTensor, query: Tensor) -> OptTensor:
    if mask is None:
        return bias
    if bias is None:
        bias = torch.zeros((), device=query.device, dtype=query.dtype)
    bias = bias.to(torch.promote_types(bias.dtype, torch.float32))
    return bias.masked_fill(~mask, float('-inf'))


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    bias: OptTensor,
    softcap: Optional[float],
    s_aux: OptTensor,
    dropout: float,
    return_weights: bool,
) -> tuple[Tensor, OptTensor]:
    """The same by matrix products and a softmax, in at least float32."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    groups = query.size(1) // key.size(1)
    # Grouped queries share a key: more rows of one product, not more products.
    rows = query.to(dtype).unflatten(1, (key.size(1), groups)).flatten(2, 3)
    score = rows @ key.to(dtype).transpose(-1, -2)
    score = score.unflatten(2, (groups, query.size(2))).flatten(1, 2) * scale
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    if bias is not None:
        score = score + bias
    # One more entry, since there may be no key at all.
    peak = F.pad(score.detach(), (0, 1), value=float('-inf'))
    peak = peak.amax(dim=-1, keepdim=True)
    if s_aux is not None:
        s_aux = s_aux.to(dtype).unsqueeze(-1).expand_as(peak)
        peak = torch.maximum(peak, s_aux.detach())
    # A row of -inf has no maximum; any finite shift will do.
    peak = peak.masked_fill(peak == float('-inf'), 0.0)
    weight = (score - peak).exp()
    total = weight.sum(dim=-1, keepdim=True)
    if s_aux is not None:
        total = total + (s_aux - peak).exp()
    weight = weight / total.masked_fill(total == 0, 1.0)
    kept = torch.dropout(weight, dropout, True) if dropout > 0 else weight
    rows = kept.unflatten(1, (key.size(1), groups)).flatten(2, 3)
    out = rows @ value.to(dtype)
    out = out.unflatten(2, (groups, query.size(2))).flatten(1, 2)
    return out.to(value.dtype), weight if return_weights else None
