"""Knock-out: what hiding a token from all later ones changes at the top."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.models.anatomy import Block, read_blocks
from gnnbridge.models.gains import path_gains

from .measured import blocks_in, eager
from .scores import Scores, energy_of_blocks

# Of attention to the hidden token, so that the rest can be divided by.
_REST = 1e-6


@torch.no_grad()
def knockout_norms(model: PreTrainedModel, ids: Tensor) -> Tensor:
    r"""Changes at the top when no later token may look at token `j`.

    The norms :math:`\lVert \delta x_i^{(L)} \rVert` with the token hidden in
    every layer ``[N, N]``, row = receiver.
    """
    tokens = ids.size(1)
    causal = torch.ones(tokens, tokens).tril().bool()
    hidden = causal.repeat(tokens, 1, 1)
    for source in range(tokens):
        hidden[source, source + 1 :, source] = False
    refusal = NotImplementedError(
        f'Expected a model that takes masks of four dimensions (got '
        f"'{type(model).__name__}')."
    )
    with eager(model):
        usual = _states(model, ids, None)
        try:
            again = _states(model, ids, causal.unsqueeze(0))
        except (ValueError, RuntimeError) as error:
            raise refusal from error
        if not torch.allclose(usual, again, atol=1e-4):
            raise refusal
        moved = _states(model, ids.expand(tokens, -1), hidden)
    return (moved - again).norm(dim=-1).T.double()


def knockout_energies(model: PreTrainedModel, ids: Tensor) -> Scores:
    """Estimates of the same, passed on by the gains of paths.

    One adds squares over heads and tokens, one what both have in common.
    """
    path, blocks = path_gains(model, ids), read_blocks(model, ids)
    steps = energy_of_blocks(path)
    stays = path.token_gains.diagonal(dim1=-2, dim2=-1)
    energy = torch.zeros_like(steps[0])
    for block, step, stay in zip(blocks, steps, stays, strict=True):
        new = _removed(block).square().sum(-1).sum(0).T
        new = new if block.parallel else stay.unsqueeze(-1) * new
        energy = step @ energy + new
    # Inner products of changes of receivers, by source.
    gram = torch.zeros(len(energy), *energy.shape, dtype=energy.dtype)
    read = path.attentions * path.gains.unsqueeze(-2)
    for number, block in enumerate(blocks):
        removed = _removed(block).sum(0)
        new = removed @ removed.mT
        for head in read[number]:
            new = new + head @ gram @ head.T
        own = gram.diagonal(dim1=1, dim2=2)
        edges = own @ path.edge_gains[number].square().T
        new = new + torch.diag_embed(edges)
        token = path.token_gains[number]
        gram = token * gram + new if block.parallel else token * (gram + new)
    own = gram.diagonal(dim1=1, dim2=2).T
    return {
        'knock-out energy': energy.clamp(min=0).sqrt(),
        'knock-out energy, coherent': own.clamp(min=0).sqrt(),
    }


def _removed(block: Block) -> Tensor:
    r"""What each head changes by without a source ``[H, source, N, d]``.

    The rest of the weights is divided by :math:`1 - A_{ij}`.
    """
    A = block.attention
    weight = (A / (1 - A).clamp(min=_REST)).tril(-1)
    mean = A @ block.value
    apart = weight.unsqueeze(-1) * (
        mean.unsqueeze(2) - block.value.unsqueeze(1)
    )
    return torch.einsum('hije,hde->hjid', apart, block.to_output)


def _states(
    model: PreTrainedModel, ids: Tensor, shown: Tensor | None
) -> Tensor:
    """What leaves the last block ``[B, N, d]``."""
    found = []
    handle = blocks_in(model)[-1].register_forward_hook(
        lambda _, __, output: found.append(
            output if isinstance(output, Tensor) else output[0]
        )
    )
    mask = None
    if shown is not None:
        least = torch.finfo(model.dtype).min
        mask = torch.zeros(shown.shape).masked_fill(~shown, least).unsqueeze(1)
    try:
        model(ids, attention_mask=mask, use_cache=False)
    finally:
        handle.remove()
    return found[0]
