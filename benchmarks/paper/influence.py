"""What the last token hears of the others: Jacobians and resistance."""

from __future__ import annotations

import torch
from reading import attention, places, states
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.spectral.resistance import effective_resistance


def last_token_jacobian(
    model: PreTrainedModel, ids: Tensor, prompt: int | None = None
) -> Tensor:
    """Norms of the last state by every given token's embedding ``[B, T]``.

    The state is what the head reads, after the last norm: the sensitivity of
    what is predicted.
    """
    where = places(model, ids, prompt)
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    final: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, args: final.append(args[0])
    )
    try:
        model(inputs_embeds=embedded, use_cache=False)
    finally:
        handle.remove()
    state = final[0]
    # Hidden states of inserted tokens may have been taken out already.
    at = where.readout if state.size(1) > ids.size(1) else -1
    squares = torch.zeros(ids.shape)
    for component in state[:, at].sum(0):
        (gradient,) = torch.autograd.grad(
            component, embedded, retain_graph=True
        )
        squares += gradient.square().sum(-1)
    return squares.sqrt()


def last_token_resistance(
    model: PreTrainedModel, ids: Tensor, prompt: int | None = None
) -> Tensor:
    """Causal resistance of the last token to every given one ``[L, B, T]``.

    On the mean over heads; rows that do not sum to one are made to. The token
    is the one whose state predicts what follows.
    """
    where = places(model, ids, prompt)
    maps = attention(model, ids, prompt).double().mean(2)
    found = [
        effective_resistance(
            layer, kind='causal', rows=[where.readout], renormalize=True
        )
        for layer in maps
    ]
    return torch.stack(found)[..., 0, where.original]


def sharpness_states(
    model: PreTrainedModel, ids: Tensor, prompt: int | None = None
) -> Tensor:
    """The state that predicts what follows, over its norm ``[B, d]``."""
    at = places(model, ids, prompt).readout
    last = states(model, ids, prompt=prompt)[-1, :, at]
    return last / last.norm(dim=-1, keepdim=True)
