"""Where attention goes: to the first token, to sinks, to itself, elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from reading import attention, places, states
from torch import Tensor
from transformers import PreTrainedModel

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
        to themselves, and to all others; the largest score of a head at one
        token (the mean of what all tokens from there on give it); and the
        share of heads with a score above 0.3 at any token that is no
        ordinary one.
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
    score = _scores(maps)  # [L, B, H, N]
    special = torch.cat([where.original[:skip], where.inserted])
    # Without any special token the first one is in their place.
    special = where.original[:1] if len(special) == 0 else special
    at_special = score[..., special].mean(1).amax(-1)
    return {
        'first': _by_layer(first),
        'inserted': _by_layer(inserted),
        'itself': _by_layer(itself),
        'nowhere': _by_layer(nowhere),
        'largest_score': at_special.amax(-1).tolist(),
        'sink_rate': (score[..., special].amax(-1) > THRESHOLD)
        .float()
        .mean()
        .item(),
        'any_sink_rate': (_usual(score) > THRESHOLD).float().mean().item(),
    }


def massive(model: PreTrainedModel, ids: Tensor, prompt: int | None) -> float:
    """The largest activation over the median one, at most over the layers.

    The ratio of Sun et al., 2024 (https://arxiv.org/abs/2402.17762).
    """
    size = states(model, ids, prompt=prompt).abs().flatten(1)
    return float((size.amax(1) / size.median(1).values).max())


def _scores(maps: Tensor) -> Tensor:
    """Mean attention that each token receives from itself and later ones."""
    size = maps.size(-1)
    return maps.sum(-2) / (size - torch.arange(size))


def _usual(score: Tensor) -> Tensor:
    """The largest score of a token in the first half.

    The last tokens have few queries, so that their scores are high by chance.
    """
    return score[..., : score.size(-1) // 2].amax(-1)


def _by_layer(x: Tensor) -> list[float]:
    return x.mean(dim=tuple(range(1, x.dim()))).tolist()
