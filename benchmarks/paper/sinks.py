"""Where attention goes: to the first token, to sinks, to itself, elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from reading import attention, places, states
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.diagnostics.attention import sink_score
from gnnbridge.diagnostics.massive import massive_activations

THRESHOLD = 0.3


def shares(
    model: PreTrainedModel, ids: Tensor, prompt: int | None, skip: int
) -> dict[str, Any]:
    """The attention of ordinary tokens, by where it goes.

    Args:
        model: A decoder.
        ids: Sequences ``[B, T]``.
        prompt: The length of their prompt, for inserted tokens.
        skip: How many first tokens are none of the ordinary ones.

    Returns:
        Means over heads, sequences and ordinary tokens by layer, of their
        attention to the first token that was given, to all inserted tokens,
        to themselves, and to none; by layer, the largest sink score of a head
        at a token that is no ordinary one (without any: at the first); and
        the share of heads and sequences in which that exceeds 0.3.
    """
    maps = attention(model, ids, prompt)  # [L, B, H, N, N]
    where = places(model, ids, prompt)
    own = where.original[skip:]
    rows = maps[:, :, :, own]
    total = rows.sum(-1)
    # What a sink logit takes goes nowhere; a sigmoid's weights may exceed one.
    nowhere = (1 - total).clamp_min(0)
    itself = maps.diagonal(dim1=-2, dim2=-1)[..., own]
    first = rows[..., where.original[0]]
    inserted = rows[..., where.inserted].sum(-1)
    special = torch.cat([where.original[:skip], where.inserted])
    special = where.original[:1] if len(special) == 0 else special
    score = torch.stack(
        [sink_score(maps, tokens=None, token=int(at)) for at in special]
    )  # [tokens, L, B, H]
    return {
        'first': _by_layer(first),
        'inserted': _by_layer(inserted),
        'itself': _by_layer(itself),
        'nowhere': _by_layer(nowhere),
        'largest_score': score.mean(2).amax((0, 2)).tolist(),
        'sink_rate': (score.amax(0) > THRESHOLD).float().mean().item(),
    }


def massive(model: PreTrainedModel, ids: Tensor, prompt: int | None) -> float:
    """The largest activation over the median one, at most over the layers.

    Of all sequences together.
    """
    found = states(model, ids, prompt)
    return max(massive_activations(x.flatten(0, 1)).ratio for x in found)


def _by_layer(x: Tensor) -> list[float]:
    return x.mean(dim=tuple(range(1, x.dim()))).tolist()
