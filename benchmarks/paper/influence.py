"""What the last token hears of the others: Jacobians and resistance."""

from __future__ import annotations

import torch
from reading import attention, places, states
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.spectral.resistance import (
    effective_resistance,
    total_resistance,
)


def last_token_jacobian(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Norms of the last state by every given token's embedding ``[B, T]``.

    The state is what the head reads, after the last norm: the sensitivity of
    what is predicted. All sequences go backward together, as many passes as
    ``jacobian_norms`` takes for each.
    """
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    final: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, args: final.append(args[0])
    )
    try:
        model(inputs_embeds=embedded, use_cache=False)
    finally:
        handle.remove()
    # Inserted tokens have been taken out, those that answer put in place.
    squares = torch.zeros(ids.shape)
    for component in final[0][:, -1].sum(0):
        (gradient,) = torch.autograd.grad(
            component, embedded, retain_graph=True
        )
        squares += gradient.square().sum(-1)
    return squares.sqrt()


def last_token_resistance(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Causal resistance of the last token to every given one ``[L, B, T]``.

    On the mean over heads; rows that do not sum to one are made to. The token
    is the one whose state predicts what follows.
    """
    where = places(model, ids)
    maps = attention(model, ids).double().mean(2)
    found = [
        effective_resistance(
            layer, kind='causal', rows=[where.readout], renormalize=True
        )
        for layer in maps
    ]
    return torch.stack(found)[..., 0, where.original]


def resistance_over_uniform(model: PreTrainedModel, ids: Tensor) -> list[float]:
    """Total causal resistance of each layer over that of uniform attention.

    On the mean over heads, at as many hops as there are layers, mean over
    sequences: what ``CalibratedTemperature`` brings to its target.
    """
    maps = attention(model, ids).double().mean(2)
    even = torch.ones_like(maps[:1, :1]).tril()
    even = even / even.sum(-1, keepdim=True)
    found, uniform = (
        total_resistance(x, hops=len(maps), renormalize=True)
        for x in (maps, even)
    )
    return (found / uniform).mean(1).tolist()


def sharpness_states(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The state that predicts what follows, over its norm ``[B, d]``."""
    last = states(model, ids)[-1, :, places(model, ids).readout]
    return last / last.norm(dim=-1, keepdim=True)
