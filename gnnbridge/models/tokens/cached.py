"""Forward passes that go on from a KV cache with inserted tokens in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from gnnbridge.models.tokens.layout import TokenLayout, merge
from gnnbridge.models.tokens.module import InsertedTokens
from gnnbridge.models.tokens.prompts import Request
from gnnbridge.models.tokens.refusals import refuse_length

_ATTRIBUTE = '_gnnbridge_tokens'


@dataclass(frozen=True, eq=False)
class Entered:
    """What entered a cache with its prompt.

    Attributes:
        order: What fills each slot of the prompt ``[B, n + T]``, as in
            :class:`TokenLayout`.
        num_tokens: Number of inserted tokens.
    """

    order: Tensor
    num_tokens: int


def mark_cache(cache: Cache, layout: TokenLayout) -> None:
    """Notes on a cache which of its slots hold inserted tokens.

    The note stays on the object, so that a copy of a cache has it too.
    """
    setattr(cache, _ATTRIBUTE, Entered(layout.order, len(layout.kinds)))


def continue_cache(
    tokens: InsertedTokens, request: Request, call: dict[str, Any]
) -> None:
    """Counts inserted tokens in the mask and the positions of a later call.

    Args:
        tokens: The tokens; none is inserted again.
        request: What the caller asks for.
        call: Arguments of the call, changed in place.

    Raises:
        ValueError: If the cache was not filled with these tokens, or the mask
            or the positions do not go on from it.
    """
    cache = call['past_key_values']
    entered = getattr(cache, _ATTRIBUTE, None)
    if entered is None or entered.num_tokens != tokens.settings.num_tokens:
        raise ValueError(
            f'Expected a KV cache that this model has filled together with '
            f'its {tokens.settings.num_tokens} inserted tokens (got another). '
            f'Run the whole sequence once with an empty cache.'
        )
    if request.prompt_length is not None:
        raise ValueError(
            f"Expected 'prompt_length' with an empty KV cache only (got "
            f'{request.prompt_length}). The tokens of this one have their '
            f'places.'
        )
    given = call.get('input_ids')
    new = (call['inputs_embeds'] if given is None else given).size(1)
    seen = int(cache.get_seq_length()) - entered.num_tokens
    refuse_length(tokens, seen + new)
    mask, position_ids = call.get('attention_mask'), call.get('position_ids')
    if mask is not None:
        mask = _extended_mask(entered, mask, seen + new)
        call['attention_mask'] = mask
    if not tokens.takes_positions:
        return
    if position_ids is not None:
        if mask is None and (position_ids[:, 0] != seen).any():
            raise ValueError(
                f'Expected positions that go on from the {seen} tokens in the '
                f'KV cache (got {int(position_ids[0, 0])}). Pass the new '
                f'tokens only, and an attention_mask for all.'
            )
        call['position_ids'] = position_ids + entered.num_tokens
    elif mask is not None:
        position = (mask.long().cumsum(1) - 1).clamp_min(0)
        call['position_ids'] = position[:, -new:]


def _extended_mask(entered: Entered, mask: Tensor, size: int) -> Tensor:
    """The mask ``[B, size]`` of a whole sequence, for inserted tokens too."""
    if mask.size(1) != size or len(mask) != len(entered.order):
        raise ValueError(
            f"Expected an 'attention_mask' of shape "
            f'{[len(entered.order), size]}, for the tokens in the KV cache '
            f'and the new ones (got {list(mask.shape)}). Pass the new tokens '
            f'only, and a mask for all.'
        )
    prompt = entered.order.size(1) - entered.num_tokens
    ones = mask.new_ones(len(mask), entered.num_tokens)
    order = entered.order.to(mask.device)
    entered_mask = merge(order, ones, mask[:, :prompt])
    return torch.cat([entered_mask, mask[:, prompt:]], dim=1)
