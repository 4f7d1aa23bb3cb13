"""From the masks of transformers to the pairs of a token graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnbridge.models.slots import Pairs
from gnnbridge.nn.plan import AttentionPlan


def make_pairs(
    batch: Tensor,
    query: Tensor,
    key: Tensor,
    shape: tuple[int, int, int, int],
    off: Tensor | None = None,
) -> Pairs:
    """Pairs of one call and the block-diagonal graph that they form."""
    num_sequences, _, num_queries, num_keys = shape
    edge_index = torch.stack(
        [batch * num_keys + key, batch * num_queries + query]
    )
    size = (num_sequences * num_keys, num_sequences * num_queries)
    # In range and unique by construction: no need for plan_attention's checks.
    return Pairs(batch, query, key, AttentionPlan(edge_index, size), off)


def mask_pairs(
    mask: Tensor | None,
    shape: tuple[int, int, int, int],
    *,
    causal: bool,
    device: torch.device,
) -> Pairs:
    """The pairs that a mask of transformers allows.

    Args:
        mask: Boolean keep-mask or additive float mask ``[B | 1, H | 1, Q, K]``;
            None allows every pair, or the causal ones.
        shape: ``(batch, heads, queries, keys)``.
        causal: Whether a missing mask means a causal one.
        device: Device of the pairs.

    Raises:
        ValueError: If the mask does not fit the shape.
    """
    num_sequences, heads, num_queries, num_keys = shape
    if mask is None:
        keep = torch.ones(
            (1, 1, num_queries, num_keys), dtype=torch.bool, device=device
        )
        keep = keep.tril(num_keys - num_queries) if causal else keep
    else:
        keep = keep_of(mask)
        if (
            keep.dim() != 4
            or any(
                have not in (1, want)
                for have, want in zip(keep.shape[:2], shape[:2], strict=True)
            )
            or keep.shape[2:] != (num_queries, num_keys)
        ):
            raise ValueError(
                f'Expected an attention mask of shape [{num_sequences}, 1 or '
                f'{heads}, {num_queries}, {num_keys}] (got '
                f'{list(mask.shape)}).'
            )
    used = keep.any(dim=1).expand(num_sequences, -1, -1)
    batch, query, key = used.nonzero(as_tuple=True)
    off = None
    if keep.size(1) > 1:
        off = ~gather_pairs(keep, batch, query, key, shape)
        off = off if off.any() else None
    return make_pairs(batch, query, key, shape, off)


def keep_of(mask: Tensor) -> Tensor:
    """The pairs that a mask keeps; a float mask excludes by huge negatives."""
    if mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2


def gather_pairs(
    dense: Tensor,  # [B | 1, H | 1, Q | 1, K]
    batch: Tensor,
    query: Tensor,
    key: Tensor,
    shape: tuple[int, int, int, int],
) -> Tensor:  # [E, H]
    """Entries of a dense per-head tensor at given pairs."""
    return dense.expand(shape).permute(0, 2, 3, 1)[batch, query, key]


def pair_bias(
    mask: Tensor | None,
    position_bias: Tensor | None,
    pairs: Pairs,
    shape: tuple[int, int, int, int],
) -> Tensor | None:
    """The bias of each pair and head: float masks, position bias, switches."""
    bias = None if pairs.bias is None else pairs.bias.unsqueeze(1)
    is_float = mask is not None and mask.dtype != torch.bool
    for dense in (mask if is_float else None, position_bias):
        if dense is not None:
            more = gather_pairs(
                dense, pairs.batch, pairs.query, pairs.key, shape
            )
            bias = more if bias is None else bias + more
    if pairs.off is not None:
        if bias is None:
            bias = torch.zeros(pairs.off.shape, device=pairs.off.device)
        bias = bias.masked_fill(pairs.off, float('-inf'))
    return bias


def check_heads(heads: Sequence[int], num_heads: int) -> list[int]:
    """The chosen heads, each counted from the first.

    Raises:
        ValueError: If a head does not exist, or none is chosen.
    """
    bad = [head for head in heads if not -num_heads <= head < num_heads]
    if bad or len(heads) == 0:
        raise ValueError(
            f"Expected 'heads' to choose from {num_heads} heads (got "
            f'{list(heads)}).'
        )
    return [head % num_heads for head in heads]


def dense_weights(
    alpha: Tensor,  # [E, H]
    pairs: Pairs,
    shape: tuple[int, int, int, int],
) -> Tensor:  # [B, H, Q, K]
    """Attention weights in the shape in which transformers returns them."""
    num_sequences, heads, num_queries, num_keys = shape
    out = alpha.new_zeros(num_sequences, num_queries, num_keys, heads)
    out = out.index_put((pairs.batch, pairs.query, pairs.key), alpha)
    return out.permute(0, 3, 1, 2)
