"""Calls of a model with inserted tokens that would go silently wrong."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache

from gnnbridge.models.tokens.module import InsertedTokens
from gnnbridge.models.tokens.prompts import Request
from gnnbridge.models.tokens.settings import TokenSettings

# Inputs of one value per token that are extended by inserted tokens.
_EXTENDED = ('input_ids', 'attention_mask', 'position_ids')


def refuse_inputs(call: dict[str, Any]) -> None:
    """Refuses inputs that cannot be extended by inserted tokens.

    Raises:
        NotImplementedError: For a static cache, a mask of pairs, and inputs
            per token other than ids, mask and positions.
    """
    cache = call.get('past_key_values')
    is_dynamic = isinstance(cache, Cache) and not cache.is_compileable
    if cache is not None and not is_dynamic:
        raise NotImplementedError(
            f"Expected a KV cache that grows (got '{type(cache).__name__}'). "
            f"Leave out 'cache_implementation', or pass a DynamicCache."
        )
    for name in ('attention_mask', 'position_ids'):
        value = call.get(name)
        if value is not None and getattr(value, 'ndim', None) != 2:
            kind = getattr(value, 'shape', type(value).__name__)
            raise NotImplementedError(
                f"Expected '{name}' of shape [B, T] (got {kind}). A graph "
                f'for the attention can be given with gnnbridge.rewire.'
            )
    ids = call.get('input_ids')
    shape = (call['inputs_embeds'] if ids is None else ids).shape[:2]
    for name, value in call.items():
        per_token = isinstance(value, Tensor) and value.shape == shape
        if per_token and name not in _EXTENDED and 'encoder' not in name:
            raise NotImplementedError(
                f'Expected token ids, a mask and positions as inputs per '
                f"token (got '{name}' too). Leave it out, or remove the "
                f'tokens with gnnbridge.remove_tokens.'
            )


def refuse_length(tokens: InsertedTokens, size: int) -> None:
    """Refuses sequences that the model has no positions for.

    Args:
        tokens: The tokens of the model.
        size: Number of original tokens, padding counted.

    Raises:
        ValueError: If they and the inserted ones are too many.
    """
    count = tokens.settings.num_tokens
    if tokens.context is not None and size + count > tokens.context:
        raise ValueError(
            f'Expected at most {tokens.context} tokens, the context of the '
            f'model (got {size} and {count} inserted ones). Shorten the '
            f'sequences or, where positions are rotary, raise '
            f"'config.max_position_embeddings' before adding tokens."
        )


def refuse_packed(position_ids: Tensor) -> None:
    """Refuses several sequences in one row.

    Raises:
        NotImplementedError: If positions do not simply count up.
    """
    if (position_ids.diff(dim=1) != 1).any():
        raise NotImplementedError(
            "Expected one sequence in each row (got 'position_ids' that do "
            'not count up one by one). Unpack the sequences, or pass an '
            "'attention_mask'."
        )


def refuse_generation(
    settings: TokenSettings, request: Request, call: dict[str, Any]
) -> None:
    """Refuses ways of generating that do not show where a prompt ends.

    ``generate()`` calls the model for the logits of the last token alone.
    Without a KV cache each of its steps looks like a longer prompt, and in a
    prefill in chunks each chunk looks like a whole one.

    Raises:
        NotImplementedError: If the place of a token depends on that end.
        ValueError: If labels are given for outputs at all positions.
    """
    if request.all_positions and request.labels is not None:
        raise ValueError(
            "Expected no 'labels' with 'all_positions' (got both): they are "
            'those of the original positions. Leave one out.'
        )
    generating = (
        call.get('return_dict') is True and call.get('logits_to_keep') == 1
    )
    if not generating or not settings.depends_on_end:
        return
    if call.get('use_cache') is False and request.prompt_length is None:
        raise NotImplementedError(
            "Expected generation with a KV cache (got 'use_cache=False'): "
            'tokens placed by the end of the prompt would move with every '
            "step. Leave out 'use_cache'."
        )
    cache, ids = call.get('past_key_values'), call.get('input_ids')
    if (
        isinstance(cache, Cache)
        and not getattr(cache, '_is_user_defined', False)
        and ids is not None
        and ids.size(1) > 1
        and int(cache.get_seq_length()) > 0
    ):
        raise NotImplementedError(
            'Expected a prompt that is read in one piece (got one in chunks): '
            'tokens placed by its end would stand in its middle. Leave out '
            "'prefill_chunk_size'."
        )
