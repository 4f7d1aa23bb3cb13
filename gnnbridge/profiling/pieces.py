"""From the documents of a corpus to batches of token sequences."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from gnnbridge.profiling.reading import check_vocabulary
from gnnbridge.profiling.settings import ProfileSettings

# Batches whose sequences are sorted by length together.
_WINDOW = 16


@dataclass
class Counted:
    """What has been read of a corpus so far.

    Attributes:
        documents: How many documents.
        pieces: How many sequences they have, read already or not.
        sequences: How many sequences.
        tokens: Their tokens all together.
        longest: The tokens of the longest.
        cut: How many documents went on after their last token.
        short: How many were left out, having fewer than two tokens.
    """

    documents: int = 0
    pieces: int = 0
    sequences: int = 0
    tokens: int = 0
    longest: int = 0
    cut: int = 0
    short: int = 0


@dataclass
class Reader:
    """Turns documents into token sequences of a bounded length.

    Args:
        tokenizer: Of the model.
        settings: How much is read.
        limit: The longest sequence.
        known: The size of the model's vocabulary, if it is known.
    """

    tokenizer: Any
    settings: ProfileSettings
    limit: int
    known: int | None = None
    counted: Counted = field(default_factory=Counted)

    def sequences(self, documents: Iterable[str]) -> Iterator[Tensor]:
        """The sequences ``[N]`` int64, at most ``max_sequences``."""
        return islice(self._all(documents), self.settings.max_sequences)

    def _all(self, documents: Iterable[str]) -> Iterator[Tensor]:
        for text in documents:
            self.counted.documents += 1
            for ids in self._pieces(text):
                if len(ids) < 2:
                    self.counted.short += 1
                    continue
                check_vocabulary(ids, self.known)
                self.counted.sequences += 1
                self.counted.tokens += len(ids)
                self.counted.longest = max(self.counted.longest, len(ids))
                yield torch.tensor(ids)

    def _pieces(self, text: str) -> Iterator[list[int]]:
        if not self.settings.split:
            # One more than is read, to see whether the text goes on.
            ids = self.tokenizer(
                text, truncation=True, max_length=self.limit + 1
            )['input_ids']
            self.counted.cut += len(ids) > self.limit
            self.counted.pieces += 1
            yield ids[: self.limit]
            return
        if not getattr(self.tokenizer, 'is_fast', False):
            raise NotImplementedError(
                'Expected a fast tokenizer to split long texts (got '
                f"'{type(self.tokenizer).__name__}'). Read only their first "
                'tokens, without split.'
            )
        found = self.tokenizer(
            text,
            truncation=True,
            max_length=self.limit,
            return_overflowing_tokens=True,
        )['input_ids']
        self.counted.pieces += len(found)
        yield from found


@dataclass(frozen=True)
class Batch:
    """Sequences of one length that run together.

    Attributes:
        number: Of the batch within the corpus.
        input_ids: The tokens ``[B, N]``.
    """

    number: int
    input_ids: Tensor

    @property
    def digest(self) -> str:
        """A short hash of the tokens."""
        return hashlib.sha256(self.input_ids.numpy().tobytes()).hexdigest()[:16]


def batches(sequences: Iterable[Tensor], size: int) -> Iterator[Batch]:
    """Groups sequences of equal length, so that none is ever padded.

    Padding changes what some models compute. Sequences are sorted within
    windows of some batches; the order is always the same.

    Args:
        sequences: Sequences ``[N]``.
        size: The most sequences of a batch.
    """
    number, rest = 0, iter(sequences)
    while window := list(islice(rest, _WINDOW * size)):
        window.sort(key=len, reverse=True)
        for group in _grouped(window, size):
            yield Batch(number, torch.stack(group))
            number += 1


def _grouped(window: list[Tensor], size: int) -> Iterator[list[Tensor]]:
    group: list[Tensor] = []
    for sequence in window:
        if group and (len(group) == size or len(group[0]) != len(sequence)):
            yield group
            group = []
        group.append(sequence)
    yield group
