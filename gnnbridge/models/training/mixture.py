"""What to train on: streams of batches that are drawn anew at every step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Stream:
    """One source of batches.

    Args:
        name: What the stream is called.
        draw: Takes the step (from 0) and a generator, returns the arguments
            of the model's forward, ``labels`` among them.
        weight: The weight of this stream's mean loss in the loss of a step.
        start: The first step at which the stream is drawn.
    """

    name: str
    draw: Callable[[int, Generator], Inputs]
    weight: float = 1.0
    start: int = 0


class StreamMixture(IterableDataset):
    """Endless steps, each with one batch of every stream that has started.

    Args:
        streams: The streams; at least one of them starts at step 0.
        seed: Seed of the run.

    Raises:
        ValueError: If there would be nothing to train on at first, or two
            streams have one name.
    """

    def __init__(self, streams: Sequence[Stream], seed: int) -> None:
        if not any(stream.start == 0 for stream in streams):
            raise ValueError(
                'Expected a stream that starts at step 0 (got starts '
                f'{[stream.start for stream in streams]}).'
            )
        names = [stream.name for stream in streams]
        if len(set(names)) < len(names):
            raise ValueError(f'Expected distinct stream names (got {names}).')
        self.streams = tuple(streams)
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Inputs]]:
        return map(self.step, itertools.count())

    def step(self, step: int) -> dict[str, Inputs]:
        """Returns the batches of one step by the names of their streams."""
        return {
            stream.name: stream.draw(step, self._generator(place, step))
            for place, stream in enumerate(self.streams)
            if step >= stream.start
        }

    def _generator(self, place: int, step: int) -> Generator:
        seed = (self.seed * len(self.streams) + place) * 10**9 + step
        return torch.Generator().manual_seed(seed)
