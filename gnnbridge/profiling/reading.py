"""What a model reads, and whether message passing reads it the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnbridge.datasets.text import sample_text
from gnnbridge.models.convert import (
    conversion_mode,
    convert,
    is_converted,
    restore,
)
from gnnbridge.models.slots import slots_of
from gnnbridge.remedies.base import applied

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

_TOLERANCE = 1e-3


@dataclass
class Reading:
    """What the model reads of one text."""

    input_ids: Tensor  # shape: [1, N]
    text: dict[str, Any]
    notes: list[str]


def read(
    model: PreTrainedModel,
    tokenizer: Any,
    text: str | None,
    max_tokens: int,
) -> Reading:
    """Tokenises a text as far as the model and ``max_tokens`` allow.

    Raises:
        ValueError: If fewer than two tokens are left, or the model does not
            know them.
        NotImplementedError: If the model is an encoder-decoder.
    """
    limit = reading_limit(model, max_tokens)
    source = 'the text given' if text is not None else 'the sample text'
    text = sample_text() if text is None else text
    # One more than is read, to see whether the text goes on.
    ids = tokenizer(text, truncation=True, max_length=limit + 1)['input_ids']
    cut, ids = len(ids) > limit, ids[:limit]
    if not text.strip() or len(ids) < 2:
        raise ValueError(
            'Expected a text of at least two tokens '
            f'(got {len(ids) if text.strip() else "an empty text"}).'
        )
    check_vocabulary(ids, known_tokens(model))
    bos = getattr(tokenizer, 'bos_token_id', None)
    return Reading(
        input_ids=torch.tensor([ids], device=model.device),
        text={
            'source': source,
            'num_tokens': len(ids),
            'truncated': cut,
            'bos': bos is not None and ids[0] == bos,
            'tokens': [tokenizer.decode([token]) for token in ids],
            'token_ids': ids,
            'excerpt': tokenizer.decode(ids),
        },
        notes=cut_notes(cut, len(ids), limit < max_tokens),
    )


def cut_notes(cut: int, count: int, by_context: bool) -> list[str]:
    """That texts were cut, and what by."""
    if not cut:
        return []
    why = "the model's context" if by_context else 'max_tokens'
    what = 'The text was' if cut == 1 else f'{cut:,} texts were'
    their = 'its' if cut == 1 else 'their'
    return [f'{what} cut to {their} first {count} tokens ({why}).']


def reading_limit(model: PreTrainedModel, max_tokens: int) -> int:
    """The longest sequence that is read.

    Raises:
        ValueError: If it is less than two tokens.
        NotImplementedError: If the model is an encoder-decoder.
    """
    if model.config.is_encoder_decoder:
        raise NotImplementedError(
            'Expected a model with one stack of layers (got the '
            f"encoder-decoder '{type(model).__name__}'). Use "
            'gnnbridge.capture instead.'
        )
    if max_tokens < 2:
        raise ValueError(
            f"Expected 'max_tokens' to be at least 2 (got {max_tokens})."
        )
    config = model.config.get_text_config()
    context = (
        getattr(config, 'max_position_embeddings', None)
        or getattr(config, 'max_seq_len', None)  # MPT
        or max_tokens
    )
    return min(max_tokens, context) if context > 0 else max_tokens


def known_tokens(model: PreTrainedModel) -> int | None:
    """The size of a model's vocabulary, if it has one."""
    return getattr(model.get_input_embeddings(), 'num_embeddings', None)


def check_vocabulary(ids: list[int], known: int | None) -> None:
    """Refuses tokens that a model does not know."""
    if known is not None and max(ids) >= known:
        raise ValueError(
            f"Expected tokens below {known}, the size of the model's "
            f'vocabulary (got {max(ids)}). The tokenizer belongs to another '
            'model.'
        )


def is_changed(model: PreTrainedModel) -> bool:
    """Whether a model came rewired, or converted with remedies in it."""
    rewired = any(slot.source is not None for slot in slots_of(model).values())
    return rewired or (is_converted(model) and bool(applied(model)))


@contextmanager
def as_message_passing(
    model: PreTrainedModel, input_ids: Tensor
) -> Iterator[dict[str, Any] | None]:
    """Converts a model for the time of a context, and checks it.

    Args:
        model: A model, converted or not; on leaving it is as it came.
        input_ids: The tokens ``[1, N]`` to compare it on.

    Yields:
        How far the outputs are from the original's; ``None`` for a model that
        came rewired or with remedies, whose outputs are meant to be others.

    Raises:
        NotImplementedError: If it cannot be converted, and did not come
            converted with ``mode='mask'``.
        RuntimeError: If it gives other outputs.
    """
    if is_changed(model):
        yield None
        return
    arrived = is_converted(model)
    mode = conversion_mode(model) or 'messages'
    try:
        if arrived:
            restore(model)
        expected = outputs(model, input_ids)
        convert(model, mode=mode)
        yield compare(expected, outputs(model, input_ids))
    finally:
        if is_converted(model) != arrived:
            if arrived:
                convert(model, mode=mode)
            else:
                restore(model)


def outputs(model: PreTrainedModel, input_ids: Tensor) -> tuple[str, Tensor]:
    """The name and the value ``[N, ...]`` of what a model gives."""
    mask = torch.ones_like(input_ids)
    with torch.no_grad():
        found = model(input_ids=input_ids, attention_mask=mask)
    name = 'logits' if 'logits' in found else 'last_hidden_state'
    return name, found[name][0]


def compare(
    expected: tuple[str, Tensor], found: tuple[str, Tensor]
) -> dict[str, Any]:
    """How far two runs of a model are apart.

    Raises:
        RuntimeError: If it is too far for rounding.
    """
    name, original = expected
    # In half precision, two kernels differ by a few units in the last place.
    tolerance = max(_TOLERANCE, 8 * torch.finfo(original.dtype).eps)
    original, other = original.float(), found[1].float()
    error = float((other - original).abs().max())
    scale = float(original.abs().max())
    relative = error / scale if scale else error
    if not relative <= tolerance:
        raise RuntimeError(
            f"Expected message passing to give the original's {name} to "
            f'{tolerance:.0e} of their scale (got {relative:.1e}). The '
            'measures of this model would not be those of the original.'
        )
    same = (other.argmax(-1) == original.argmax(-1)).float().mean()
    return {
        'outputs': name.replace('_', ' '),
        'max_abs_error': error,
        'scale': scale,
        'relative_error': relative,
        'tolerance': tolerance,
        'same_prediction': float(same) if name == 'logits' else None,
    }
