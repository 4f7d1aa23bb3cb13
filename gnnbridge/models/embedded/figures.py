"""What a decoder answers when it is asked for keys, with and without noise."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from transformers import PreTrainedModel


@torch.no_grad()
def answers(
    model: PreTrainedModel,
    input_ids: Tensor,
    asked_at: Tensor,
    *,
    noise: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """Returns the token that the model predicts after each asked key.

    Args:
        model: A causal language model.
        input_ids: Token ids ``[B, T]``.
        asked_at: Where the asked keys stand ``[Q]``.
        noise: Standard deviation of the Gaussian noise on every component of
            every token's embedding, in units of the standard deviation of
            the embedding matrix.
        generator: Source of the noise.

    Returns:
        Token ids ``[B, Q]`` int64.
    """
    embedding = model.get_input_embeddings()
    embedded = embedding(input_ids)
    if noise:
        drawn = torch.randn(embedded.shape, generator=generator)
        embedded = embedded + noise * embedding.weight.std() * drawn
    logits = model(inputs_embeds=embedded).logits
    return logits[:, asked_at].argmax(dim=-1)


def accuracy_by_position(right: Tensor, gold: Tensor, num_pairs: int) -> Tensor:
    """Returns the share of right answers by place of the asked binding.

    Args:
        right: Which answers are right ``[B, Q]``, boolean.
        gold: Which binding each query asks for ``[B, Q]``; none is -1.
        num_pairs: The number of bindings.

    Returns:
        ``[num_pairs]`` float32; NaN where a binding is never asked for.
    """
    hits = torch.bincount(gold[right], minlength=num_pairs)
    return hits / torch.bincount(gold.flatten(), minlength=num_pairs)


def pick_rate(answered: Tensor, values: Tensor) -> Tensor:
    """Returns how often an answer is the value of each binding.

    For a key that is bound nowhere this is a prior over positions; without
    any preference among the bindings it is the same everywhere.

    Args:
        answered: The answer to one query of each sequence ``[B, 1]``.
        values: The values in the order of their bindings ``[B, n]``.

    Returns:
        ``[n]`` float32.
    """
    return (answered == values).float().mean(dim=0)
