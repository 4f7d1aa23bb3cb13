"""The figures that the embedded model is held to.

Everything takes token ids, so that any causal language model that reads the
same vocabulary can be measured. The streams are in ``gnnbridge.datasets``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from transformers import PreTrainedModel


@torch.no_grad()
def first_token_sink_rate(
    model: PreTrainedModel, input_ids: Tensor, *, epsilon: float = 0.3
) -> Tensor:
    r"""Returns the share of sequences in which a head has its sink at token 0.

    .. math::
        \alpha_0 = \frac{1}{T} \sum_{i=0}^{T-1} A_{i0}, \qquad
        \text{rate} = \operatorname{mean}_b \mathbb 1[\alpha_0^{(b)} > \epsilon]

    from `When Attention Sink Emerges
    <https://arxiv.org/abs/2410.10781>`_ (Gu et al., 2025), who take
    :math:`T = 64`.

    Args:
        model: A model whose attention implementation is ``'eager'``.
        input_ids: Token ids ``[B, T]``.
        epsilon: The threshold.

    Returns:
        ``[layers, heads]`` float32.
    """
    attentions = model(input_ids=input_ids, output_attentions=True).attentions
    if not attentions:
        raise ValueError(
            'Expected a model that returns its attention (got none). Use '
            "'model.set_attn_implementation('eager')'."
        )
    received = torch.stack([a[..., 0].mean(dim=-1) for a in attentions])
    return (received > epsilon).float().mean(dim=1)


@torch.no_grad()
def nats_per_token(model: PreTrainedModel, input_ids: Tensor) -> float:
    """Returns the mean cross-entropy of all tokens but the first."""
    return float(model(input_ids=input_ids, labels=input_ids).loss)


@torch.no_grad()
def answers(
    model: PreTrainedModel,
    input_ids: Tensor,
    asked_at: Tensor,
    *,
    noise: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    r"""Returns what the model predicts after each asked key.

    Args:
        model: The model.
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


def accuracy_by_position(right: Tensor, gold: Tensor, size: int) -> Tensor:
    """Returns the share of right answers by place of the asked binding.

    Args:
        right: Which answers are right ``[B, Q]``, boolean.
        gold: Which binding each query asks for ``[B, Q]``.
        size: The number of bindings.

    Returns:
        ``[size]`` float32.
    """
    hits = torch.bincount(gold[right], minlength=size)
    return hits / torch.bincount(gold.flatten(), minlength=size)


def stress_noise(
    accuracy: Callable[[float], Tensor], *, target: float = 0.5
) -> float:
    """Returns the noise at which the mean accuracy is closest to a target.

    A position bias shows where retrieval neither always works nor never
    does; how much noise that takes differs between models.

    Args:
        accuracy: Takes the noise, returns accuracies.
        target: The mean accuracy to look for.
    """
    grid = [step / 4 for step in range(1, 17)]
    distance = {s: abs(float(accuracy(s).mean()) - target) for s in grid}
    return min(grid, key=lambda s: distance[s])
