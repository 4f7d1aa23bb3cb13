"""Which token ids the synthetic streams are written in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamVocabulary:
    """Token ids of the synthetic streams.

    Args:
        bos: The token that every sequence starts with.
        query: The token that asks for a value.
        first_key: The first key; keys have consecutive ids.
        first_value: The first value; values have consecutive ids.
        num_symbols: How many keys and how many values there are.
    """

    bos: int
    query: int
    first_key: int
    first_value: int
    num_symbols: int
