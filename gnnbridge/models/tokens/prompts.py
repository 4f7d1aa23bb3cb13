"""How much of each sequence is its prompt, which tokens are placed by."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnbridge.models.tokens.settings import TokenSettings

_IGNORED = -100


@dataclass(frozen=True, eq=False)
class Request:
    """What the caller of a model asks of its tokens.

    Attributes:
        prompt_length: Number of real tokens in the prompt of all sequences or
            of each ``[B]``; None where it is not said.
        labels: Labels of the original tokens ``[B, T]``, or None.
        all_positions: Whether the outputs at inserted tokens are returned.
        training: Whether the model trains.
    """

    prompt_length: int | Tensor | None = None
    labels: Tensor | None = None
    all_positions: bool = False
    training: bool = False


def prompt_lengths(
    settings: TokenSettings, real: Tensor, request: Request
) -> Tensor:
    """Number of real tokens in the prompt of each sequence ``[B]``.

    Args:
        settings: The tokens that will be placed.
        real: Which tokens are no padding ``[B, T]``, bool.
        request: What the caller says about the prompt.

    Raises:
        ValueError: If a prompt does not fit its sequence, or is too short for
            the position of a token.
    """
    count = real.sum(1)
    if request.prompt_length is not None:
        length = _given(request.prompt_length, count)
    elif request.labels is not None:
        length = _unlabelled(request.labels, real)
        if request.training and settings.append > 0:
            _warn_if_unused(length, count)
    else:
        length = count
    _check_long_enough(settings, length)
    return length


def _given(prompt_length: int | Tensor, count: Tensor) -> Tensor:
    length = torch.as_tensor(prompt_length, device=count.device)
    if length.is_floating_point() or length.shape not in ((), count.shape):
        raise ValueError(
            f"Expected 'prompt_length' to be an int or ints of shape "
            f'{list(count.shape)} (got {list(length.shape)}, {length.dtype}). '
            f'Give the number of tokens in the prompt of each sequence.'
        )
    length = length.long().expand_as(count)
    outside = (length < 1) | (length > count)
    if outside.any():
        bad = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"Expected 'prompt_length' between 1 and the {int(count[bad])} "
            f'tokens of sequence {bad} (got {int(length[bad])}). Padding is '
            f'not counted.'
        )
    return length


def _unlabelled(labels: Tensor, real: Tensor) -> Tensor:
    """Real tokens before the first label, all where no token is without."""
    if labels.shape != real.shape:
        raise ValueError(
            f"Expected 'labels' of the shape of the tokens "
            f'{list(real.shape)} (got {list(labels.shape)}).'
        )
    has_label = (labels.to(real.device) != _IGNORED) & real
    before = (has_label.long().cumsum(1) == 0) & real
    length = before.sum(1)
    return torch.where(length > 0, length, real.sum(1))


def _warn_if_unused(length: Tensor, count: Tensor) -> None:
    if (length == count).all():
        warnings.warn(
            "Expected 'labels' that leave out a prompt (-100), or a "
            "'prompt_length', to train with appended tokens (got labels for "
            'whole sequences): tokens after the last label learn nothing.',
            stacklevel=2,
        )


def _check_long_enough(settings: TokenSettings, length: Tensor) -> None:
    if settings.min_length == 1:
        return
    short = length < settings.min_length
    if short.any():
        bad = int(short.nonzero()[0, 0])
        raise ValueError(
            f'Expected prompts of at least {settings.min_length} tokens for '
            f'sinks at {list(settings.sinks)} (got {int(length[bad])} in '
            f'sequence {bad}). Choose positions that every prompt has.'
        )
