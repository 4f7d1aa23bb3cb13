"""Which tokens are inserted, and where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Position: TypeAlias = int | Literal['middle', 'end']


@dataclass(frozen=True)
class TokenSettings:
    """The tokens that a model inserts, in their order at one place.

    Where several stand at one place, sinks come first, in the order in which
    they are given, then prepended and then appended tokens.

    Attributes:
        prepend: Number of pause tokens before a prompt.
        append: Number of pause tokens after a prompt.
        sinks: Position of each sink token within the prompt.
        pause_id: Token of the vocabulary that pauses are; None if learned.
        sink_id: Token of the vocabulary that sinks are; None if learned.
        shared: Whether all pauses have one embedding, or each has its own.
    """

    prepend: int = 0
    append: int = 0
    sinks: tuple[Position, ...] = ()
    pause_id: int | None = None
    sink_id: int | None = None
    shared: bool = True

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are inserted into a sequence."""
        return len(self.sinks) + self.prepend + self.append

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each inserted token is: ``'sink'``, ``'prepend'``, ..."""
        return (
            *['sink'] * len(self.sinks),
            *['prepend'] * self.prepend,
            *['append'] * self.append,
        )

    @property
    def ids(self) -> tuple[int, ...]:
        """Token of the vocabulary that each is, -1 for learned ones."""
        chosen = {'sink': self.sink_id}
        found = [chosen.get(kind, self.pause_id) for kind in self.kinds]
        return tuple(-1 if one is None else one for one in found)

    @property
    def rows(self) -> dict[str, int]:
        """Number of learned embeddings of each kind that has some."""
        pauses = self.prepend + self.append
        learned = {
            'pause': min(pauses, 1) if self.shared else pauses,
            'sink': len(self.sinks),
        }
        given = {'pause': self.pause_id, 'sink': self.sink_id}
        return {k: n for k, n in learned.items() if n and given[k] is None}

    @property
    def min_length(self) -> int:
        """Number of tokens in the shortest prompt that has all positions."""
        counted = [abs(p) for p in self.sinks if isinstance(p, int)]
        return max([1, *counted])

    @property
    def depends_on_end(self) -> bool:
        """Whether some place depends on where the prompt ends."""
        return self.append > 0 or any(
            not isinstance(p, int) or p < 0 for p in self.sinks
        )

    def places(self, length: Tensor) -> Tensor:
        """Number of tokens of a prompt before each inserted one ``[B, n]``.

        Args:
            length: Number of tokens in each prompt ``[B]``.
        """
        start = torch.zeros_like(length)
        places = [_place(position, length) for position in self.sinks]
        places += [start] * self.prepend + [length] * self.append
        none = length.new_empty(len(length), 0)
        return torch.stack(places, dim=1) if places else none

    def to_tensor(self) -> Tensor:
        """The settings as bytes of JSON, to be saved beside weights."""
        text = json.dumps(asdict(self), sort_keys=True)
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    @classmethod
    def from_tensor(cls, saved: Tensor) -> TokenSettings:
        """The inverse of :meth:`to_tensor`."""
        found = json.loads(bytes(saved.tolist()).decode())
        return cls(**{**found, 'sinks': tuple(found['sinks'])})


def _place(position: Position, length: Tensor) -> Tensor:
    if position == 'middle':
        return length // 2
    if position == 'end':
        return length
    if position < 0:
        return length + position
    return torch.full_like(length, position)


def check_count(name: str, count: Any) -> int:
    """A number of tokens.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(
            f"Expected '{name}' to be a number of tokens, 0 or more (got "
            f'{count!r}). Give an int.'
        )
    return count


def check_sinks(sink: Any) -> tuple[Position, ...]:
    """The positions of sinks, of which one may be given alone.

    Raises:
        ValueError: If one is no position.
    """
    if sink is None:
        return ()
    several = isinstance(sink, Sequence) and not isinstance(sink, str)
    sinks = tuple(sink) if several else (sink,)
    for one in sinks:
        is_int = isinstance(one, int) and not isinstance(one, bool)
        if not is_int and one not in ('middle', 'end'):
            raise ValueError(
                f"Expected 'sink' to be positions: ints, 'middle' or 'end' "
                f'(got {one!r}). 0 stands before everything, -1 before the '
                f'last token.'
            )
    return sinks
