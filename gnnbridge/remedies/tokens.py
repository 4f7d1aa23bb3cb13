"""Pause and sink tokens as remedies."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from torch import nn

from gnnbridge.models.modified.files import load_tensors
from gnnbridge.models.tokens.add import add_tokens, remove_tokens
from gnnbridge.models.tokens.module import NAME, tokens_of
from gnnbridge.models.tokens.settings import (
    Position,
    TokenSettings,
    check_count,
    check_sinks,
)
from gnnbridge.remedies.base import Model, Remedy

Embedding = Literal['mean', 'random'] | int


@dataclass(frozen=True)
class _Tokens(Remedy):
    embedding: Embedding = 'mean'
    seed: int = 0

    part: ClassVar[str] = 'tokens'

    def __post_init__(self) -> None:
        super().__post_init__()
        is_id = isinstance(self.embedding, int)
        if not is_id and self.embedding not in ('mean', 'random'):
            raise ValueError(
                f"Expected 'embedding' to be 'mean', 'random' or the id of a "
                f'token (got {self.embedding!r}). Use gnnbridge.add_tokens for '
                f'tensors.'
            )
        if is_id and self.frozen:
            raise ValueError(
                f"Expected learned tokens for 'frozen' (got the token "
                f'{self.embedding} of the vocabulary). Leave it out.'
            )

    def load(self, model: Model, directory: str | os.PathLike[str]) -> Model:
        """As any remedy; tokens that were loaded with the model are these."""
        tokens = tokens_of(model)
        if tokens is not None and tokens.settings == self._settings():
            remove_tokens(cast(Any, model))
        return super().load(model, directory)

    def _settings(self) -> TokenSettings:
        given = self.embedding if isinstance(self.embedding, int) else None
        options = self._tokens()
        sinks = options.pop('sink', ())
        return TokenSettings(
            sinks=sinks, pause_id=given, sink_id=given, **options
        )

    @abstractmethod
    def _tokens(self) -> dict[str, Any]:
        """Arguments of ``add_tokens``."""

    def _add(self, model: Any) -> None:
        add_tokens(
            model, embedding=self.embedding, seed=self.seed, **self._tokens()
        )

    def _remove(self, model: Any, undo: Any) -> None:
        remove_tokens(model)

    def _added(self, model: nn.Module) -> dict[str, nn.Parameter]:
        part = f'.{NAME}.'
        return {n: p for n, p in model.named_parameters() if part in f'.{n}'}

    def _load(self, model: Any, directory: str | os.PathLike[str]) -> None:
        load_tensors(model, directory, f'{NAME}.')


@dataclass(frozen=True)
class PauseTokens(_Tokens):
    """Pause tokens before and after the prompt.

    `"Think before you speak: Training Language Models With Pause Tokens"
    <https://arxiv.org/abs/2310.02226>`_; :func:`gnnbridge.add_tokens` says how
    they enter. The paper's gains need training with them from the start: on a
    trained model, appended pauses are a probe and no cure.

    Args:
        embedding: ``'mean'``, ``'random'`` or the id of a token.
        seed: Of random embeddings.
        prepend: Number before the prompt.
        append: Number after the prompt.
        shared: Whether all are one token, as in the paper.
    """

    prepend: int = 0
    append: int = 4
    shared: bool = True

    name: ClassVar[str] = 'pause'
    costs: ClassVar[str] = (
        'one embedding, or one for each token; longer sequences'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count('prepend', self.prepend)
        check_count('append', self.append)

    @classmethod
    def neutral(cls) -> PauseTokens:
        """Without any token."""
        return cls(append=0)

    def _tokens(self) -> dict[str, Any]:
        return {
            'prepend': self.prepend,
            'append': self.append,
            'shared': self.shared,
        }


@dataclass(frozen=True)
class SinkTokens(_Tokens):
    """Learned tokens to which attention may go when it has nowhere to go.

    `"When Attention Sink Emerges in Language Models"
    <https://arxiv.org/abs/2410.10781>`_; what they put out is never read.
    :func:`gnnbridge.add_tokens` says what positions are.

    Args:
        embedding: ``'mean'``, ``'random'`` or the id of a token.
        seed: Of random embeddings.
        positions: Position of each token, 0 for before everything.
    """

    positions: tuple[Position, ...] = (0,)

    name: ClassVar[str] = 'sink_tokens'
    costs: ClassVar[str] = 'one embedding for each token; longer sequences'

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sinks(self.positions)

    @classmethod
    def neutral(cls) -> SinkTokens:
        """Without any token."""
        return cls(positions=())

    def _tokens(self) -> dict[str, Any]:
        return {'sink': self.positions}
