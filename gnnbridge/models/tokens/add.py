"""Giving a model inserted tokens, and taking them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from gnnbridge.models.tokens.embeddings import (
    Embedding,
    check_embedding,
    given_ids,
    initial_embeddings,
)
from gnnbridge.models.tokens.entry import Entry, find_entry
from gnnbridge.models.tokens.module import InsertedTokens, tokens_of
from gnnbridge.models.tokens.probe import check_insertion
from gnnbridge.models.tokens.settings import (
    Position,
    TokenSettings,
    check_count,
    check_sinks,
)


def add_tokens(
    model: PreTrainedModel,
    *,
    prepend: int = 0,
    append: int = 0,
    sink: Position | Sequence[Position] | None = None,
    embedding: Embedding | Mapping[str, Embedding] = 'mean',
    shared: bool = True,
    freeze: bool = False,
    seed: int = 0,
) -> PreTrainedModel:
    """Inserts pause and sink tokens into every sequence of a model, in place.

    Pause tokens (Goyal et al. 2024, https://arxiv.org/abs/2310.02226) give a
    model more steps before it answers, sink tokens (Gu et al. 2025,
    https://arxiv.org/abs/2410.10781) a place for attention that is to go
    nowhere. They enter as embeddings next to real tokens, never into padding;
    the vocabulary is not resized, and positions count them. Places are those
    of the *prompt*: what ``generate()`` is given; in a forward pass the first
    ``prompt_length`` tokens (a keyword that the model takes from now on, an
    int or ``[B]``), else those before the first label that is not -100, else
    all. Whatever follows the prompt follows the appended tokens.

    Outputs are those of the original positions, and labels too: logits
    ``[B, T, V]``, in which appended tokens give those of the last token of
    the prompt, as in the paper, and all other outputs at inserted tokens are
    ignored. ``model(..., all_positions=True)`` returns every position.
    Hidden states, attention, and graphs of :func:`gnnbridge.capture` have
    inserted tokens as nodes (:func:`gnnbridge.token_layout` says which).

    With a KV cache, tokens enter once, with the prompt; static caches are
    refused, and so are sequences that do not fit the context together with
    the tokens. :func:`remove_tokens` undoes all this; ``save_pretrained``
    saves the tokens with the model, and :func:`gnnbridge.load_tokens` gives
    them to a model that was loaded.

    Args:
        model: A causal language model of ``transformers``, converted or not.
        prepend: Number of pause tokens before the prompt.
        append: Number of pause tokens after the prompt.
        sink: Position of a sink token, or of several: as in ``list.insert``
            the number of real tokens of the prompt before it, 0 for before
            everything, -1 for before the last token; or ``'middle'``, or
            ``'end'`` for after the last token. What a sink puts out is never
            read, so one at the end serves what follows the prompt.
        embedding: What the tokens are: the ``'mean'`` of the vocabulary's
            embeddings, ``'random'``, a tensor ``[d]`` or ``[rows, d]`` in the
            place of the embedding's outputs, all learned; or the id of a
            token, whose own embedding is used. Or a mapping with these for
            ``'pause'`` and ``'sink'``.
        shared: Whether all pause tokens are one token, as in the paper; each
            has its own embedding otherwise. Each sink has its own.
        freeze: Whether only the tokens are trained. The model's own
            parameters get no gradient until the tokens are removed.
        seed: Of random embeddings.

    Returns:
        The model that was given.

    Raises:
        TypeError: If this is no model of ``transformers``, or ``embedding`` is
            none of these.
        ValueError: If a number or a position is none, the tokens do not fit
            the context, there is nothing to train, or the model has tokens.
        NotImplementedError: If this is no causal language model, or one that
            does more with ids than embed them.
    """
    entry = find_entry(model)
    chosen = check_embedding(embedding, entry.vocabulary)
    settings = TokenSettings(
        prepend=check_count('prepend', prepend),
        append=check_count('append', append),
        sinks=check_sinks(sink),
        shared=shared,
        **given_ids(chosen),
    )
    values = initial_embeddings(settings, chosen, entry.vocabulary, seed)
    check_insertion(entry, settings)
    return install(model, entry, entry.tokens(settings, values), freeze)


def remove_tokens(model: PreTrainedModel) -> PreTrainedModel:
    """Undoes :func:`add_tokens`; what the tokens have learned is lost.

    Args:
        model: A model with inserted tokens.

    Returns:
        The model that was given; parameters that were frozen are trained
        again.

    Raises:
        ValueError: If the model has no inserted tokens.
    """
    tokens = tokens_of(model)
    if tokens is None:
        raise ValueError(
            f'Expected a model with inserted tokens (got '
            f"'{type(model).__name__}' without). Add some with "
            f'gnnbridge.add_tokens.'
        )
    Entry.uninstall(model)
    frozen = set(tokens.frozen)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(True)
    return model


def add_fresh(
    model: PreTrainedModel, like: InsertedTokens, seed: int
) -> PreTrainedModel:
    """Adds tokens at the places of others, with random embeddings.

    Args:
        model: A model without inserted tokens.
        like: Tokens of another model.
        seed: Of the embeddings.
    """
    settings, entry = like.settings, find_entry(model)
    chosen: dict[str, Embedding] = dict.fromkeys(settings.rows, 'random')
    values = initial_embeddings(settings, chosen, entry.vocabulary, seed)
    return install(model, entry, entry.tokens(settings, values), False)


def install(
    model: PreTrainedModel, entry: Entry, tokens: InsertedTokens, freeze: bool
) -> PreTrainedModel:
    """Gives a model its tokens, and freezes the rest of it if asked."""
    if freeze and not tokens.settings.rows:
        raise ValueError(
            'Expected learned tokens to train while the model is frozen (got '
            "none). Add some, or leave out 'freeze'."
        )
    if freeze:
        own: dict[str, Any] = dict(model.named_parameters())
        tokens.frozen = [n for n, p in own.items() if p.requires_grad]
        for name in tokens.frozen:
            own[name].requires_grad_(False)
    entry.install(tokens)
    return model
