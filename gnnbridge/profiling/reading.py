"""What a model reads, and whether message passing reads it the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnbridge.datasets.text import sample_text
from gnnbridge.profiling.measures import SINK_TOKENS

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

_TOLERANCE = 1e-3


@dataclass
class Reading:
    """What the model reads."""

    input_ids: Tensor  # shape: [1, N]
    text: dict[str, Any]
    sink_tokens: int
    notes: list[str]
    sink_notes: list[str]


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
    source = 'the text given' if text is not None else 'the sample text'
    text = sample_text() if text is None else text
    config = model.config.get_text_config()
    context = getattr(config, 'max_position_embeddings', None) or max_tokens
    limit = min(max_tokens, context) if context > 0 else max_tokens
    # One more than is read, to see whether the text goes on.
    ids = tokenizer(text, truncation=True, max_length=limit + 1)['input_ids']
    cut, ids = len(ids) > limit, ids[:limit]
    if not text.strip() or len(ids) < 2:
        raise ValueError(
            'Expected a text of at least two tokens '
            f'(got {len(ids) if text.strip() else "an empty text"}).'
        )
    known = getattr(model.get_input_embeddings(), 'num_embeddings', None)
    if known is not None and max(ids) >= known:
        raise ValueError(
            f"Expected tokens below {known}, the size of the model's "
            f'vocabulary (got {max(ids)}). The tokenizer belongs to another '
            'model.'
        )
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
        sink_tokens=min(SINK_TOKENS, len(ids)),
        notes=_reading_notes(len(ids), cut, limit < max_tokens),
        sink_notes=_sink_notes(len(ids)),
    )


def _reading_notes(count: int, cut: bool, by_context: bool) -> list[str]:
    if not cut:
        return []
    why = "the model's context" if by_context else 'max_tokens'
    return [f'The text was cut to its first {count} tokens ({why}).']


def _sink_notes(count: int) -> list[str]:
    if count >= SINK_TOKENS:
        return []
    return [
        f'The text has {count} tokens, fewer than the {SINK_TOKENS} at which '
        'sink rates are compared: they are taken over all of it, and are '
        'higher than they would be over more.'
    ]


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
