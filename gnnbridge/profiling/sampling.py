"""Samples of quantities, and what is kept of them: counts, sums and squares.

A sampler returns arrays with one row per sequence. Shards of a corpus are
merged by adding, so that any number of processes gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.profiling.settings import ProfileSettings

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

# Arrays [S, ...] float64, one row per sample; NaN where undefined.
Samples: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A model that is measured, and what it reads.

    Attributes:
        model: In evaluation mode; converted, unless its attention cannot be.
        tokenizer: Its tokenizer.
        settings: What is measured.
        num_layers: How many attention layers it has.
        causal: Whether no token attends to a later one.
        sequences: The first sequences of the corpus, ``[N]`` each, without
            padding, on the CPU.
        bos: Whether these start with the tokenizer's first token.
    """

    model: PreTrainedModel
    tokenizer: Any
    settings: ProfileSettings
    num_layers: int
    causal: bool
    sequences: tuple[Tensor, ...]
    bos: bool


@dataclass(frozen=True)
class Task:
    """A piece of work beside the corpus, done once by one process.

    Attributes:
        key: Its name, the same in every run: ``jacobian 0``.
        run: Measures a subject. ``NotImplementedError`` is a refusal: its
            message becomes one of the reasons of the section.
        passes: What it costs, in tokens that pass through the model forward.
        memory: Bytes that it needs at most, beside the model.
    """

    key: str
    run: Callable[[Subject], Samples]
    passes: float
    memory: int


class GraphSampler(Protocol):
    """Sees the token graphs of a batch of sequences, layer by layer."""

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer, a ``Batch`` on the CPU."""
        ...

    def result(self, outgoing: list[Tensor]) -> Samples:
        """Samples of the batch.

        Args:
            outgoing: The states that leave the last block, ``[N, d]`` of each
                sequence; empty if they were not seen.
        """
        ...


@dataclass
class Tally:
    """Count, sum and sum of squares of every entry of every quantity.

    Attributes:
        moments: For each name ``[3, ...]`` float64.
        reasons: Why something could not be measured, by the task's key.
    """

    moments: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, samples: Samples) -> None:
        """Counts samples in; NaN entries are left out."""
        for name, rows in samples.items():
            there = np.isfinite(rows)
            kept = np.where(there, rows, 0.0)
            parts = [there.sum(0), kept.sum(0), np.square(kept).sum(0)]
            self._add(name, np.stack(parts).astype(np.float64))

    def merge(self, other: Tally) -> None:
        """Adds what another process counted."""
        for name, moments in other.moments.items():
            self._add(name, moments)
        self.reasons |= other.reasons

    def _add(self, name: str, moments: np.ndarray) -> None:
        known = self.moments.get(name)
        if known is None:
            self.moments[name] = moments.copy()
            return
        shape = tuple(np.maximum(known.shape, moments.shape))
        self.moments[name] = _padded(known, shape) + _padded(moments, shape)

    def __contains__(self, name: str) -> bool:
        return name in self.moments

    def count(self, name: str) -> np.ndarray:
        """How many samples each entry has ``[...]``."""
        return self.moments[name][0]

    def mean(self, name: str) -> np.ndarray:
        """The mean over the samples ``[...]``, NaN where there are none."""
        count, total, _ = self.moments[name]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def deviation(self, name: str) -> np.ndarray:
        """The standard deviation ``[...]``, NaN below two samples."""
        count, total, square = self.moments[name]
        centred = square - total**2 / np.maximum(count, 1)
        spread = np.sqrt(np.maximum(centred, 0) / np.maximum(count - 1, 1))
        return np.where(count > 1, spread, np.nan)

    def under(self, prefix: str) -> Tally:
        """The quantities whose names start so, without the start."""
        return Tally(
            {
                name.removeprefix(prefix): moments
                for name, moments in self.moments.items()
                if name.startswith(prefix)
            },
            {
                key.removeprefix(prefix): reason
                for key, reason in self.reasons.items()
                if key.startswith(prefix)
            },
        )

    def spread(self) -> dict[str, Any]:
        """Standard deviations of all quantities, as lists."""
        return {name: self.deviation(name).tolist() for name in self.moments}


def _padded(moments: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    grown = [
        (0, want - have)
        for want, have in zip(shape, moments.shape, strict=True)
    ]
    return np.pad(moments, grown)


class SectionModule(Protocol):
    """One diagnostic: what it samples, and what it says of the samples."""

    name: str
    meaning: str

    def sampler(self, settings: ProfileSettings) -> GraphSampler | None:
        """A fresh listener for one batch of the corpus, if it needs one."""
        ...

    def tasks(self, subject: Subject) -> list[Task]:
        """What is to be done beside the corpus."""
        ...

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """What was found, as plain data; ``None`` if nothing was."""
        ...

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """What it would be if nothing were learned, in closed form."""
        ...
