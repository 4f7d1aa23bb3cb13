r"""Bindings in any tokens: keys that are bound twice, and each once.

:func:`duplicate_keys` binds one key at two places to different values and asks
for it. Nothing but the place tells the two bindings apart, so that the answer
shows which place a model prefers. :func:`every_key` binds every key once and
asks for each, as :func:`~gnnbridge.datasets.retrieval.key_value_retrieval`
does in the tokens of the synthetic streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from gnnbridge.datasets.retrieval import IGNORED, RetrievalBatch
from gnnbridge.datasets.vocabulary import StreamVocabulary


@dataclass(frozen=True)
class BindingTokens:
    """Token ids to write bindings in.

    Attributes:
        keys: The keys ``[K]``.
        values: The values ``[V]``, none of them a key.
        opening: What every sequence starts with.
        query: What stands in front of an asked key.
    """

    keys: Tensor
    values: Tensor
    opening: tuple[int, ...] = ()
    query: tuple[int, ...] = ()

    @classmethod
    def of_stream(cls, vocabulary: StreamVocabulary) -> BindingTokens:
        """The keys, values and marks of the synthetic streams."""
        symbols = torch.arange(vocabulary.num_symbols)
        return cls(
            keys=vocabulary.first_key + symbols,
            values=vocabulary.first_value + symbols,
            opening=(vocabulary.bos,),
            query=(vocabulary.query,),
        )


@dataclass(frozen=True)
class DuplicateBatch:
    """Sequences that bind one key twice and ask for it.

    Attributes:
        input_ids: Token ids ``[B, T]`` int64; the last is the asked key.
        values: All values in the order of their bindings ``[B, n]``, all
            different.
        compared: The values at the earlier and the later place of the asked
            key ``[B, 2]``.
        comparison: Which of the pairs of places these are ``[B]``.
    """

    input_ids: Tensor
    values: Tensor
    compared: Tensor
    comparison: Tensor


def duplicate_keys(
    num_sequences: int,
    num_pairs: int,
    vocabulary: StreamVocabulary | BindingTokens,
    *,
    places: Sequence[tuple[int, int]],
    generator: Generator,
) -> DuplicateBatch:
    r"""Draws sequences in which one key is bound at two places.

    ``<opening> k1 v1 ... kn vn <query> k``, with the same key at both places
    of a pair, and all other keys and all values different.

    Args:
        num_sequences: The number of sequences :math:`B`.
        num_pairs: The number of bindings :math:`n`, both of the asked key
            included.
        vocabulary: The token ids to write in.
        places: Pairs of places, counted from 0, the earlier one first;
            sequences take them in turn.
        generator: Source of chance.

    Raises:
        ValueError: If there are too few keys or values, or a pair of places
            is none.

    Example:
        >>> batch = duplicate_keys(300, 12, vocabulary, places=[(0, 11)],
        ...                        generator=torch.Generator())
    """
    tokens = _binding_tokens(vocabulary)
    if not places or any(not 0 <= p < q < num_pairs for p, q in places):
        raise ValueError(
            f"Expected 'places' to be pairs p < q of the {num_pairs} places 0 "
            f'to {num_pairs - 1} (got {list(places)}).'
        )
    keys = _draw(tokens.keys, num_sequences, num_pairs, 'keys', generator)
    values = _draw(tokens.values, num_sequences, num_pairs, 'values', generator)
    comparison = torch.arange(num_sequences) % len(places)
    both = torch.tensor(places)[comparison]
    asked = keys.gather(1, both[:, :1])
    keys = keys.scatter(1, both[:, 1:], asked)
    query = torch.tensor(tokens.query, dtype=torch.int64)
    query = query.expand(num_sequences, -1)
    opening = _opening(tokens, keys, values)
    return DuplicateBatch(
        input_ids=torch.cat([opening, query, asked], dim=1),
        values=values,
        compared=values.gather(1, both),
        comparison=comparison,
    )


def every_key(
    num_sequences: int,
    num_pairs: int,
    vocabulary: StreamVocabulary | BindingTokens,
    *,
    generator: Generator,
) -> RetrievalBatch:
    r"""Draws sequences in which every key is bound once and asked for once.

    ``<opening> k1 v1 ... kn vn  <query> k v  <query> k v ...``: the queries
    come in random order, each followed by its answer. All keys and all values
    of a sequence are different, so that a value is right by chance once in n
    times and names its place.

    Args:
        num_sequences: The number of sequences :math:`B`.
        num_pairs: The number of bindings :math:`n`.
        vocabulary: The token ids to write in.
        generator: Source of chance.

    Raises:
        ValueError: If there are too few keys or values.
    """
    tokens = _binding_tokens(vocabulary)
    keys = _draw(tokens.keys, num_sequences, num_pairs, 'keys', generator)
    values = _draw(tokens.values, num_sequences, num_pairs, 'values', generator)
    chance = torch.rand(num_sequences, num_pairs, generator=generator)
    gold = chance.argsort(1)
    answers = values.gather(1, gold)
    asked = torch.stack([keys.gather(1, gold), answers], dim=2)
    query = torch.tensor(tokens.query, dtype=torch.int64)
    query = query.expand(num_sequences, num_pairs, -1)
    opening = _opening(tokens, keys, values)
    questions = torch.cat([query, asked], dim=2)
    step = questions.size(2)
    asked_at = opening.size(1) + step * torch.arange(num_pairs) + step - 2
    input_ids = torch.cat([opening, questions.flatten(1)], dim=1)
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, asked_at + 1] = answers
    return RetrievalBatch(input_ids, labels, values, gold, asked_at)


def ends_and_middle(num_pairs: int) -> list[tuple[int, int]]:
    """First against last, first against middle and middle against last place.

    Raises:
        ValueError: If there are fewer than three places.
    """
    if num_pairs < 3:
        raise ValueError(
            f"Expected 'num_pairs' to be at least 3 (got {num_pairs})."
        )
    middle, last = num_pairs // 2, num_pairs - 1
    return [(0, last), (0, middle), (middle, last)]


def _binding_tokens(
    vocabulary: StreamVocabulary | BindingTokens,
) -> BindingTokens:
    if isinstance(vocabulary, StreamVocabulary):
        return BindingTokens.of_stream(vocabulary)
    return vocabulary


def _opening(tokens: BindingTokens, keys: Tensor, values: Tensor) -> Tensor:
    """All bindings behind what every sequence starts with."""
    first = torch.tensor(tokens.opening, dtype=torch.int64)
    pairs = torch.stack([keys, values], dim=2).flatten(1)
    return torch.cat([first.expand(len(keys), -1), pairs], dim=1)


def _draw(
    tokens: Tensor, rows: int, count: int, what: str, generator: Generator
) -> Tensor:
    """Tokens ``[rows, count]`` that are all different within a row."""
    if len(tokens) < count:
        raise ValueError(
            f'Expected at least {count} {what} to draw from (got '
            f'{len(tokens)}). Use fewer pairs instead.'
        )
    drawn = [
        torch.randperm(len(tokens), generator=generator)[:count]
        for _ in range(rows)
    ]
    return tokens[torch.stack(drawn)]
