"""How alike the tokens of a sequence become, and how far a change spreads."""

from __future__ import annotations

from typing import Any

import torch
from reading import places, states
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.diagnostics.ranks import (
    effective_rank,
    mean_cosine,
    rank_collapse,
)


def collapse(
    model: PreTrainedModel, ids: Tensor, prompt: int | None, skip: int
) -> dict[str, list[float]]:
    """Ranks of the states of ordinary tokens, before and after each block.

    Args:
        model: A decoder.
        ids: Sequences ``[B, T]``.
        prompt: The length of their prompt, for inserted tokens.
        skip: How many first tokens are none of the ordinary ones.
    """
    own = places(model, ids, prompt).original[skip:]
    found = states(model, ids, prompt)[:, :, own]
    return {
        'residual': rank_collapse(found).mean(1).tolist(),
        'effective_rank': effective_rank(found, centered=True).mean(1).tolist(),
        'mean_cosine': mean_cosine(found).mean(1).tolist(),
    }


def spread(
    model: PreTrainedModel,
    ids: Tensor,
    prompt: int | None,
    skip: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    """How much of a change of one token reaches the tokens after it.

    The experiment of Barbero et al., 2025 (https://arxiv.org/abs/2504.02732):
    one token in the first half is replaced; after every block, the change of a
    later token's state over its norm, mean over tokens and sequences.
    """
    at = skip + (ids.size(1) - skip) // 3
    other = ids.clone()
    # A byte of another sequence, so that what is read stays usual.
    order = torch.randperm(len(ids), generator=generator)
    other[:, at] = ids[order, at]
    changed = (other != ids).any(1)
    own = places(model, ids, prompt).original[at + 1 :]
    first = states(model, ids[changed], prompt)[:, :, own]
    second = states(model, other[changed], prompt)[:, :, own]
    ratio = (second - first).norm(dim=-1) / first.norm(dim=-1)
    return {'spread': ratio.mean(dim=(1, 2)).tolist()}
