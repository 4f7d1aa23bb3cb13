"""What inserted tokens are before they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from gnnbridge.models.tokens.settings import TokenSettings

Embedding: TypeAlias = Literal['mean', 'random'] | int | Tensor
KINDS = ('pause', 'sink')
_CHUNK = 4096


@dataclass(frozen=True)
class Vocabulary:
    """The embedding of a model, as its users see it: by its outputs.

    Architectures that scale embeddings do so in the module or after it, and
    inserted embeddings take the place of its outputs.

    Attributes:
        embedding: The module.
        device: Where it expects ids.
    """

    embedding: Any
    device: torch.device | str

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self.embedding.weight.shape[0])

    @torch.no_grad()
    def example(self) -> Tensor:
        """The embedding of a token ``[d]``."""
        return self.embedding(torch.zeros(1, dtype=torch.long).to(self.device))[
            0
        ]

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``[d]`` over all tokens, float64."""
        ids = torch.arange(self.size, device=self.device)
        total = square = torch.zeros(())
        for some in ids.split(_CHUNK):
            out = self.embedding(some)
            total = total + out.double().sum(0).cpu()
            square = square + out.double().square().sum(0).cpu()
        mean = total / self.size
        deviation = (square / self.size - mean.square()).clamp_min(0).sqrt()
        return mean, deviation


def check_embedding(
    embedding: Embedding | Mapping[str, Embedding], vocabulary: Vocabulary
) -> dict[str, Embedding]:
    """What the tokens of each kind are.

    Raises:
        ValueError: If there is no such kind, or no such token.
        TypeError: If it is none of what it can be.
    """
    if not isinstance(embedding, Mapping):
        chosen: dict[str, Any] = dict.fromkeys(KINDS, embedding)
    else:
        chosen = {**dict.fromkeys(KINDS, 'mean'), **embedding}
    if len(chosen) > len(KINDS):
        raise ValueError(
            f"Expected 'embedding' for 'pause' and 'sink' (got "
            f'{sorted(set(chosen) - set(KINDS))}).'
        )
    for one in chosen.values():
        is_id = isinstance(one, int) and not isinstance(one, bool)
        if is_id and not 0 <= one < vocabulary.size:
            raise ValueError(
                f"Expected 'embedding' to be one of {vocabulary.size} tokens "
                f'(got {one}). Give its id.'
            )
        is_name = isinstance(one, str) and one in ('mean', 'random')
        if not is_id and not is_name and not isinstance(one, Tensor):
            raise TypeError(
                f"Expected 'embedding' to be 'mean', 'random', a tensor, a "
                f'token id, or a mapping from kinds to these (got {one!r}).'
            )
    return chosen


def given_ids(chosen: Mapping[str, Embedding]) -> dict[str, int | None]:
    """The tokens of the vocabulary that kinds are, as settings take them."""
    return {
        f'{kind}_id': one if isinstance(one, int) else None
        for kind, one in chosen.items()
    }


def initial_embeddings(
    settings: TokenSettings,
    chosen: Mapping[str, Embedding],
    vocabulary: Vocabulary,
    seed: int,
) -> dict[str, Tensor]:
    """First values ``[rows, d]`` of the learned embeddings of each kind.

    Args:
        settings: The tokens.
        chosen: What the tokens of each kind are.
        vocabulary: The model's embedding.
        seed: Of random embeddings, drawn from a normal distribution with the
            mean and the deviation of the vocabulary's in each dimension.

    Raises:
        ValueError: If a tensor has another shape, or is not finite.
    """
    if not settings.rows:
        return {}
    mean, deviation = vocabulary.moments()
    like = vocabulary.example()
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for kind, rows in settings.rows.items():
        one, shape = chosen[kind], (rows, len(mean))
        if isinstance(one, Tensor):
            value = _given(one, shape)
        elif one == 'random':
            noise = torch.randn(*shape, generator=generator).double()
            value = mean + deviation * noise
        else:
            value = mean.expand(shape)
        # A copy: parameters share no memory with what they come from.
        found[kind] = value.detach().to(like, copy=True).contiguous()
    return found


def _given(value: Tensor, shape: tuple[int, int]) -> Tensor:
    if value.shape not in (shape, shape[1:]):
        raise ValueError(
            f"Expected 'embedding' of shape {list(shape)} or [{shape[1]}] "
            f'(got {list(value.shape)}). Kinds of another number of rows take '
            f"a mapping with 'pause' and 'sink'."
        )
    if not value.isfinite().all():
        raise ValueError(
            "Expected a finite 'embedding' (got NaN or inf). Check how it was "
            'made.'
        )
    return value.expand(shape)
