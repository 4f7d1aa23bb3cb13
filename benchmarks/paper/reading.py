"""States and attention of a decoder, whatever was done to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

import gnnbridge as gb
from gnnbridge.graph.dense import to_attention
from gnnbridge.models.anatomy import blocks_of
from gnnbridge.models.differential_llama import HistoryAttention
from gnnbridge.models.replay import first_of, first_states
from gnnbridge.models.tokens.module import tokens_of


@dataclass(frozen=True)
class Places:
    """Where the tokens of a sequence stand once others are inserted.

    Attributes:
        original: Of the tokens that were given ``[T]``.
        inserted: Of the others ``[n]``.
        readout: Whose state predicts what follows the last token.
    """

    original: Tensor
    inserted: Tensor
    readout: int


def places(
    model: PreTrainedModel, ids: Tensor, prompt: int | None = None
) -> Places:
    """The places in sequences ``[B, T]``, which are all the same."""
    if tokens_of(model) is None:
        every = torch.arange(ids.size(1))
        return Places(every, every[:0], ids.size(1) - 1)
    layout = gb.token_layout(model, ids[:1], prompt_length=prompt)
    return Places(
        layout.original[0], layout.inserted[0], int(layout.readout[0, -1])
    )


@torch.no_grad()
def states(
    model: PreTrainedModel, ids: Tensor, prompt: int | None = None
) -> Tensor:
    """The residual stream at all places ``[L + 1, B, n + T, d]``.

    Before the first block, and after each, without the last norm: as
    ``gnnbridge.models.stack.block_states``, which is told of no prompt.
    """
    found: list[Tensor] = []

    def enter(
        block: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        found.append(first_states(args, kwargs))

    def leave(block: object, args: object, output: Any) -> None:
        found.append(first_of(output))

    blocks = list(blocks_of(model))
    handles = [
        blocks[0].register_forward_pre_hook(enter, with_kwargs=True),
        *(block.register_forward_hook(leave) for block in blocks),
    ]
    try:
        model(ids, use_cache=False, **prompted(model, prompt))
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)


def prompted(model: PreTrainedModel, prompt: int | None) -> dict[str, int]:
    """The length of the prompt, as an argument where a model takes it."""
    if prompt is None or tokens_of(model) is None:
        return {}
    return {'prompt_length': prompt}


def attention(
    model: PreTrainedModel, ids: Tensor, prompt: int | None = None
) -> Tensor:
    """All maps ``[L, B, H, N, N]``, inserted tokens among the ``N``.

    Of differential attention without history those of both softmaxes, as
    different heads; of history the first map and what is subtracted from it,
    as different heads.
    """
    if any(isinstance(part, HistoryAttention) for part in model.modules()):
        return _with_history(model, ids)
    graphs = gb.capture(
        model, ids, hidden_states=False, **prompted(model, prompt)
    )
    maps = [
        [to_attention(one, per_head=True) for one in layer.to_data_list()]
        for layer in graphs
    ]
    return torch.stack([torch.stack(layer) for layer in maps])


@torch.no_grad()
def _with_history(model: PreTrainedModel, ids: Tensor) -> Tensor:
    rows, size = ids.shape
    found = []
    convs = [block.self_attn.attention.conv for block in blocks_of(model)]
    usual = [conv.forward for conv in convs]

    def reading(forward: Callable[..., Any]) -> Callable[..., Tensor]:
        def run(*args: Any, **kwargs: Any) -> Tensor:
            output, (edges, weights) = forward(
                *args, **{**kwargs, 'return_attention_weights': True}
            )
            found.append((edges, weights))
            return output

        return run

    try:
        for conv, forward in zip(convs, usual, strict=True):
            conv.forward = reading(forward)
        model(ids, use_cache=False)
    finally:
        for conv in convs:
            del conv.forward
    maps = []
    for edges, weights in found:
        both = torch.cat([weights.first, weights.second], dim=1)
        dense = both.new_zeros(rows, both.size(1), size, size)
        source, target = edges
        row = target // size
        dense[row, :, target % size, source % size] = both
        maps.append(dense)
    return torch.stack(maps)
