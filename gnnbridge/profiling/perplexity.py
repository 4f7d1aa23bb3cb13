"""How well a causal language model predicts a text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gnnbridge.profiling.reading import outputs

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel


def perplexity(model: PreTrainedModel, input_ids: Tensor) -> dict[str, float]:
    r"""Perplexity :math:`e^{\bar{\ell}}` of a text, by one forward pass.

    :math:`\bar{\ell}` is the mean of the negative log-likelihoods of all
    tokens but the first, each given those before it.

    Args:
        model: A causal language model.
        input_ids: The tokens ``[1, N]``, at least two.

    Returns:
        ``nats_per_token`` and ``perplexity``.

    Raises:
        ValueError: If the model gives no logits for each token.
    """
    logits = token_logits(model, input_ids)
    with torch.no_grad():
        nats = F.cross_entropy(logits[:-1].float(), input_ids[0, 1:])
    value = float(nats)
    # Beyond what a float holds it is infinite.
    power = math.exp(value) if value < 700 else math.inf
    return {'nats_per_token': value, 'perplexity': power}


def token_logits(model: PreTrainedModel, input_ids: Tensor) -> Any:
    """Logits ``[N, V]`` of a language model."""
    name, value = outputs(model, input_ids)
    if name != 'logits' or value.dim() != 2 or len(value) != len(input_ids[0]):
        raise ValueError(
            f'Expected a causal language model, with logits for each token '
            f"(got '{type(model).__name__}')."
        )
    return value
