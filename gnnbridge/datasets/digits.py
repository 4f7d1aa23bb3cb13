"""Copying and counting over long sequences of digits.

The tasks of `Barbero et al., 2024, "Transformers need glasses!"
<https://arxiv.org/abs/2406.04267>`_: what is the first or the last digit of
``1 1 ... 1 0``, and how many ones are there? As a sequence grows by digits
that repeat, its last token comes to look the same whatever it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from gnnbridge.datasets.prompts import Prompt

Which = Literal['first', 'last']

# Two short sequences with their answers say what is asked.
_SHOWN = ('4 9 9', '6 6 2')
_COUNTED = (('1 0 1 0', 2), ('0 0 1 0', 1))
_QUESTION = {'first': 'First digit:', 'last': 'Last digit:', 'count': 'Ones:'}


@dataclass(frozen=True)
class DigitBatch:
    """Sequences of digits, and a question about each.

    Attributes:
        task: ``'first'``, ``'last'`` or ``'count'``.
        digits: The sequences ``[B, n]`` int64. A decoder of bytes reads them
            as ``digits + ord('0')``.
        candidates: Answers to choose from ``[B, C]`` int64.
        right: Which of these is right ``[B]`` int64.
    """

    task: str
    digits: Tensor
    candidates: Tensor
    right: Tensor

    def prompts(self) -> list[Prompt]:
        """The questions as text, behind two examples with their answers."""
        opening = ''.join(f'{line}\n' for line in self._examples())
        question = _QUESTION[self.task]
        # Else a count of 1 would be likely wherever one of 12 is.
        end = '.' if self.task == 'count' else ''
        places = {'first': 0, 'last': self.digits.size(1) - 1}
        rows = zip(
            self.digits.tolist(),
            self.candidates.tolist(),
            self.right.tolist(),
            strict=True,
        )
        return [
            Prompt(
                text=f'{opening}Digits: {_spaced(digits)}. {question}',
                candidates=tuple(f' {number}{end}' for number in candidates),
                right=right,
                place=places.get(self.task, -1),
            )
            for digits, candidates, right in rows
        ]

    def _examples(self) -> list[str]:
        question = _QUESTION[self.task]
        if self.task == 'count':
            return [f'Digits: {x}. {question} {n}.' for x, n in _COUNTED]
        at = 0 if self.task == 'first' else -1
        return [f'Digits: {x}. {question} {x[at]}.' for x in _SHOWN]


def copy_digits(
    num_sequences: int,
    length: int,
    *,
    which: Which = 'last',
    num_digits: int = 10,
    generator: Generator,
) -> DigitBatch:
    """Sequences of which one end differs from all the rest, and is asked for.

    ``3 3 ... 3 8`` with the candidates 3 and 8, or ``8 3 ... 3`` for the first
    digit. Every sequence is followed by the one with the two digits
    exchanged: whoever prefers a digit is right half of the time, and whoever
    repeats the digit that is there most often is never right. The paper has
    zeros and ones only, which ``num_digits=2`` gives: two sequences of each
    length, and no more than two questions.

    Args:
        num_sequences: How many sequences :math:`B`; all of the first
            ``num_digits * (num_digits - 1)`` are different.
        length: Their length :math:`n`, at least two.
        which: The end that differs, and that is asked for.
        num_digits: How many digits there are.
        generator: Source of chance.

    Raises:
        ValueError: If ``length`` or ``num_digits`` is out of range, or
            ``which`` is no end.
    """
    if which not in ('first', 'last'):
        raise ValueError(
            f"Expected 'which' to be 'first' or 'last' (got '{which}')."
        )
    if not 2 <= num_digits <= 10:
        raise ValueError(
            f"Expected 'num_digits' between 2 and 10 (got {num_digits})."
        )
    _check_length(length, 2)
    pairs = torch.combinations(torch.arange(num_digits))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    # Both orders of a pair, one after the other.
    both = torch.stack([pairs, pairs.flip(1)], dim=1).flatten(0, 1)
    same, odd = both[torch.arange(num_sequences) % len(both)].T
    digits = same.unsqueeze(1).repeat(1, length)
    digits[:, 0 if which == 'first' else -1] = odd
    candidates = torch.stack([same, odd], dim=1).sort(dim=1).values
    return DigitBatch(which, digits, candidates, (odd > same).long())


def count_digits(
    num_sequences: int,
    length: int,
    *,
    num_candidates: int = 9,
    generator: Generator,
) -> DigitBatch:
    """Random sequences of zeros and ones, whose ones are to be counted.

    The candidates are consecutive numbers. Where they start and which of them
    is right are drawn evenly, so that no preference among them (for the
    smallest, for the one in the middle) is right more often than once in as
    many times as there are candidates.

    Args:
        num_sequences: How many sequences :math:`B`.
        length: Their length :math:`n`.
        num_candidates: How many numbers to choose from.
        generator: Source of chance.

    Raises:
        ValueError: If a sequence is too short for that many counts.
    """
    if num_candidates < 2:
        raise ValueError(
            f"Expected 'num_candidates' to be at least 2 (got "
            f'{num_candidates}).'
        )
    # Counts go from 0 to the length.
    _check_length(length, num_candidates - 1)
    shape = (num_sequences,)
    spare = length + 2 - num_candidates
    start = torch.randint(spare, shape, generator=generator)
    right = torch.randint(num_candidates, shape, generator=generator)
    candidates = start.unsqueeze(1) + torch.arange(num_candidates)
    drawn = torch.rand(num_sequences, length, generator=generator)
    rank = drawn.argsort(1).argsort(1)
    digits = (rank < (start + right).unsqueeze(1)).long()
    return DigitBatch('count', digits, candidates, right)


def _check_length(length: int, fewest: int) -> None:
    if length < fewest:
        raise ValueError(
            f"Expected 'length' to be at least {fewest} (got {length})."
        )


def _spaced(digits: list[int]) -> str:
    return ' '.join(map(str, digits))
