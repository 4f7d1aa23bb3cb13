r"""Bigram-Backcopy: the smallest stream that grows an attention sink.

From `Active-Dormant Attention Heads <https://arxiv.org/abs/2410.13835>`_
(Guo et al., 2024). The next token is drawn from a bigram table, except after
a *trigger*, which is followed by a copy of the token before it. A head that
does the copying has nothing to do elsewhere and parks on the first token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

NUM_BYTES = 256


def bigram_table(text: bytes) -> Tensor:
    r"""Returns how often byte :math:`b` follows byte :math:`a` in a text.

    .. math::
        P_{ab} = \frac{\#\{t : x_t = a, x_{t+1} = b\}}
                      {\#\{t : x_t = a, t < T\}}

    A byte that never occurs (or only at the very end) gets the frequencies of
    the single bytes as its row.

    Args:
        text: At least two bytes.

    Shapes:
        ``[256, 256]`` float64; rows sum to one.

    Raises:
        ValueError: If ``text`` has fewer than two bytes.
    """
    if len(text) < 2:
        raise ValueError(f'Expected at least two bytes (got {len(text)}).')
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    pairs = codes[:-1] * NUM_BYTES + codes[1:]
    counts = torch.bincount(pairs, minlength=NUM_BYTES**2).double()
    counts = counts.view(NUM_BYTES, NUM_BYTES)
    total = counts.sum(dim=1, keepdim=True)
    single = torch.bincount(codes, minlength=NUM_BYTES).double() / len(codes)
    return torch.where(total > 0, counts / total.clamp(min=1), single)


def most_frequent_letters(text: bytes, count: int = 3) -> tuple[int, ...]:
    """Returns the bytes of the ``count`` most frequent ASCII letters."""
    letters = [b for b in range(128) if chr(b).isalpha()]
    return tuple(sorted(letters, key=lambda b: (-text.count(b), b))[:count])


@dataclass(frozen=True)
class BigramBackcopy:
    """Draws Bigram-Backcopy sequences.

    Args:
        table: Transition probabilities of the bytes ``[256, 256]``, as
            :func:`bigram_table` gives them.
        triggers: The bytes after which the byte before them comes back.
        bos: The token that every sequence starts with, above all bytes.
    """

    table: Tensor
    triggers: tuple[int, ...]
    bos: int

    def draw(
        self, num_sequences: int, length: int, *, generator: Generator
    ) -> Tensor:
        r"""Draws sequences.

        The first byte is uniform. A trigger right after ``bos`` has no byte
        before it, and is followed by a draw from the table like any other
        byte.

        Args:
            num_sequences: The number of sequences :math:`B`.
            length: The number of tokens :math:`T`, ``bos`` included.
            generator: Source of chance.

        Returns:
            Token ids ``[B, T]`` int64.
        """
        ids = torch.full((num_sequences, length), self.bos)
        cumulative = self.table.cumsum(dim=1)
        start = torch.full((NUM_BYTES,), 1 / NUM_BYTES)
        ids[:, 1:2] = torch.multinomial(
            start.expand(num_sequences, -1), 1, generator=generator
        )
        chance = torch.rand(
            length, num_sequences, 1, generator=generator, dtype=torch.double
        )
        for t in range(2, length):
            rows = cumulative[ids[:, t - 1]]
            drawn = torch.searchsorted(rows, chance[t]).squeeze(1)
            drawn = drawn.clamp(max=NUM_BYTES - 1)  # rounding in the sum
            copied = self.copies(ids[:, : t + 1])[:, t]
            ids[:, t] = torch.where(copied, ids[:, t - 2], drawn)
        return ids

    def copies(self, ids: Tensor) -> Tensor:
        """Says which tokens ``[B, T]`` are copies by the rule (boolean)."""
        triggers = torch.tensor(self.triggers)
        copied = torch.zeros_like(ids, dtype=torch.bool)
        copied[:, 2:] = torch.isin(ids[:, 1:-1], triggers)
        copied[:, 2:] &= ids[:, :-2] != self.bos
        return copied
