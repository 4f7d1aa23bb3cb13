"""From the masks of transformers to the pairs of a token graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gnnbridge.models.masks import StructuralMask
from gnnbridge.models.slots import Pairs
from gnnbridge.nn.plan import Structure, plan_attention

_Shape: TypeAlias = tuple[int, int, int, int]


def make_pairs(
    batch: Tensor,
    query: Tensor,
    key: Tensor,
    shape: _Shape,
    backend: str = 'auto',
) -> Pairs:
    """Pairs of one call and the block-diagonal graph that they form."""
    num_sequences, _, num_queries, num_keys = shape
    edge_index = torch.stack(
        [batch * num_keys + key, batch * num_queries + query]
    )
    size = (num_sequences * num_keys, num_sequences * num_queries)
    plan = plan_attention(
        edge_index, size, backend=backend, num_graphs=num_sequences
    )
    return Pairs(plan, shape)


def mask_pairs(
    mask: Tensor | None,
    shape: _Shape,
    *,
    causal: bool,
    device: torch.device,
    backend: str = 'auto',
) -> Pairs:
    """The pairs that a mask of transformers allows; they are not listed.

    Args:
        mask: Boolean keep-mask or additive float mask ``[B | 1, H | 1, Q, K]``;
            None allows every pair, or the causal ones.
        shape: ``(batch, heads, queries, keys)``.
        causal: Whether a missing mask means a causal one.
        device: Device of the pairs.
        backend: Kernel to run them by.

    Raises:
        ValueError: If the mask does not fit the shape.
    """
    num_sequences, heads, num_queries, num_keys = shape
    if mask is not None and (
        mask.dim() != 4
        or any(
            have not in (1, want)
            for have, want in zip(mask.shape, shape, strict=True)
        )
    ):
        raise ValueError(
            f'Expected an attention mask of shape [{num_sequences}, 1 or '
            f'{heads}, {num_queries}, {num_keys}], or 1 in place of any (got '
            f'{list(mask.shape)}).'
        )
    if mask is None or isinstance(mask, StructuralMask):
        structure: Structure = 'causal' if causal else 'full'
        if isinstance(mask, StructuralMask):
            structure = mask.structure
        size = (num_sequences * num_keys, num_sequences * num_queries)
        plan = plan_attention(
            structure, size, backend=backend, num_graphs=num_sequences
        )
        return Pairs(plan.to(device), shape)
    keep = keep_of(mask).expand(-1, -1, num_queries, num_keys)
    used = keep.any(dim=1) if keep.size(1) > 1 else keep[:, 0]
    plan = plan_attention(used.expand(num_sequences, -1, -1), backend=backend)
    return Pairs(plan, shape, keep if keep.size(1) > 1 else None)


def keep_of(mask: Tensor) -> Tensor:
    """The pairs that a mask keeps; a float mask excludes by huge negatives."""
    if mask.dtype == torch.bool:
        return mask
    return mask > torch.finfo(mask.dtype).min / 2


def intersect(mask: Tensor | None, keep: Tensor) -> Tensor:
    """A mask of transformers with all pairs closed that are not to be kept."""
    if mask is None:
        return keep
    if mask.dtype == torch.bool:
        return mask & keep
    return mask.masked_fill(~keep, torch.finfo(mask.dtype).min)


def pair_bias(
    mask: Tensor | None, position_bias: Tensor | None, pairs: Pairs
) -> Tensor | None:
    """The bias of all pairs ``[B | 1, H | 1, Q, K]``, or None.

    Float masks and position biases add up; pairs that a head does not use get
    ``-inf``.
    """
    bias = None
    stands_in = isinstance(mask, StructuralMask)
    if mask is not None and mask.is_floating_point() and not stands_in:
        bias = mask
    if position_bias is not None:
        bias = position_bias if bias is None else bias + position_bias
    if pairs.head_keep is not None:
        if bias is None:
            bias = torch.zeros((), device=pairs.head_keep.device)
        bias = bias.masked_fill(~pairs.head_keep, float('-inf'))
    return bias


def allows(
    own: Pairs, batch: Tensor, query: Tensor, key: Tensor
) -> Tensor:  # [E]
    """Which of some pairs are among a layer's own, without listing these."""
    _, _, num_queries, num_keys = own.shape
    inside = (key >= 0) & (key < num_keys)
    plan = own.plan
    if plan.structure == 'full':
        return inside
    if plan.structure == 'causal':
        return inside & (key <= query + num_keys - num_queries)
    return inside & plan.mask[batch, query, key.clamp(0, num_keys - 1)]


def own_rows(own: Pairs, batch: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Own pairs of some rows: position of the row among them, and key."""
    _, _, num_queries, num_keys = own.shape
    plan = own.plan
    if plan.structure is None:
        row, key = plan.mask[batch, query].nonzero(as_tuple=True)
        return row, key
    count = torch.full_like(query, num_keys)
    if plan.structure == 'causal':
        count = query + num_keys - num_queries + 1
    row = torch.repeat_interleave(count)
    first = count.cumsum(0) - count
    return row, torch.arange(row.numel(), device=row.device) - first[row]


def mask_of(
    pairs: Pairs, first: int = 0, last: int | None = None
) -> Tensor:  # [B, last - first, K]
    """The pairs of some queries as a mask, without a list of any edges."""
    plan, (sequences, _, queries, keys) = pairs.plan, pairs.shape
    last = queries if last is None else last
    if plan.structure is None:
        return plan.mask[:, first:last]
    mask = torch.ones(last - first, keys, dtype=torch.bool, device=plan.device)
    if plan.structure == 'causal':
        mask = mask.tril(keys - queries + first)
    return mask.expand(sequences, -1, -1)


def rows_of_pairs(pairs: Pairs, first: int, last: int) -> Pairs:
    """The pairs of the queries from ``first`` up to ``last``."""
    sequences, heads, _, keys = pairs.shape
    mask = mask_of(pairs, first, last)
    keep = pairs.head_keep
    return Pairs(
        plan_attention(mask, backend='dense'),
        (sequences, heads, last - first, keys),
        None if keep is None else keep[:, :, first:last],
    )


def seen_keys(own: Pairs) -> Tensor:  # [B, K]
    """The keys that some query of a sequence may see."""
    own = own.before_choice or own
    num_sequences, _, _, num_keys = own.shape
    if own.plan.structure is None:
        return own.plan.mask.any(dim=1)
    return torch.ones(
        num_sequences, num_keys, dtype=torch.bool, device=own.plan.device
    )


def first_seen(own: Pairs) -> Tensor:  # [B]
    """The first key of each sequence that some query may see, else 0."""
    seen = seen_keys(own)
    return seen.long().argmax(dim=1).where(seen.any(dim=1), 0)


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
) -> Tensor:  # [B, H, Q, K]
    """Attention weights in the shape in which transformers returns them."""
    num_sequences, heads, num_queries, num_keys = pairs.shape
    out = alpha.new_zeros(num_sequences, num_queries, num_keys, heads)
    out = out.index_put((pairs.batch, pairs.query, pairs.key), alpha)
    return out.permute(0, 3, 1, 2)
