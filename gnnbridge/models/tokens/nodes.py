"""Inserted tokens as nodes of token graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gnnbridge.models.tokens.hooks import layout_of
from gnnbridge.models.tokens.layout import TokenLayout
from gnnbridge.models.tokens.module import InsertedTokens, tokens_of
from gnnbridge.models.tokens.prompts import Request


def token_layout(
    model: nn.Module,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    prompt_length: int | Tensor | None = None,
    labels: Tensor | None = None,
) -> TokenLayout:
    """Where the tokens of a sequence stand once others are inserted.

    The graphs of :func:`gnnbridge.capture` have a node for every token:
    ``layout.nodes(layout.inserted)`` are those of inserted tokens ``[B, n]``,
    ``layout.nodes(layout.original)`` those of original ones ``[B, T]``. Their
    ``token_id`` is -1 for learned tokens, else the id of the token in the
    vocabulary.

    Args:
        model: A model with tokens of :func:`gnnbridge.add_tokens`.
        input_ids: Token ids ``[T]`` or ``[B, T]``.
        attention_mask: Padding mask of the same shape.
        prompt_length: As the model is given it.
        labels: As the model is given them.

    Returns:
        The places, for a batch (of one sequence).

    Raises:
        ValueError: If the model has no inserted tokens, or a prompt is too
            short for the position of a token.
    """
    tokens = tokens_of(model)
    if tokens is None:
        raise ValueError(
            f'Expected a model with inserted tokens (got '
            f"'{type(model).__name__}' without). Add some with "
            f'gnnbridge.add_tokens.'
        )
    batch = [input_ids, attention_mask, labels]
    ids, mask, labels = (
        x.unsqueeze(0) if x is not None and x.dim() == 1 else x for x in batch
    )
    assert ids is not None  # it was given
    return layout_of(tokens, ids, mask, Request(prompt_length, labels))


def node_ids(model: nn.Module, inputs: dict[str, Any]) -> Tensor | None:
    """Ids of the tokens that a model will run on, inserted ones too.

    Args:
        model: A model, or the part of it that is run.
        inputs: Its inputs.

    Returns:
        ``input_ids [B, T]`` themselves where nothing is inserted, else
        ``[B, n + T]``. None if there are no ids.
    """
    ids, tokens = inputs.get('input_ids'), tokens_of(model)
    if ids is None or tokens is None:
        return ids
    given = ('attention_mask', 'prompt_length', 'labels')
    layout = token_layout(
        model, ids, **{name: inputs.get(name) for name in given}
    )
    return layout.extend(_own_ids(tokens, ids), ids)


def _own_ids(tokens: InsertedTokens, like: Tensor) -> Tensor:
    """Ids of the inserted tokens ``[B, n]``."""
    ids = torch.tensor(
        tokens.settings.ids, dtype=like.dtype, device=like.device
    )
    return ids.expand(len(like), -1)
