r"""Key-value retrieval: look up what a key was bound to earlier on.

A sequence binds keys to values and then asks for them:
``<bos> k1 v1 ... kn vn  <q> k v  <q> k v ...``. The place of a binding among
the others is drawn uniformly, so that a model's accuracy as a function of
that place shows its own position bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from gnnbridge.datasets.vocabulary import StreamVocabulary

IGNORED = -100  # the label that PyTorch's cross-entropy leaves out


@dataclass(frozen=True)
class RetrievalBatch:
    """Sequences that bind keys to values and ask for some of them.

    Args:
        input_ids: Token ids ``[B, T]`` int64.
        labels: ``input_ids`` where the token is an answer, else -100;
            ``[B, T]`` int64.
        values: The value tokens in the order of their bindings ``[B, n]``.
        gold: Which binding each query asks for, counted from 0 ``[B, Q]``;
            -1 if its key is bound nowhere.
        asked_at: Where the asked keys stand in the sequence ``[Q]``: the
            model answers with what it predicts there.
    """

    input_ids: Tensor
    labels: Tensor
    values: Tensor
    gold: Tensor
    asked_at: Tensor


def key_value_retrieval(
    num_sequences: int,
    num_pairs: int,
    vocabulary: StreamVocabulary,
    *,
    generator: Generator,
) -> RetrievalBatch:
    r"""Draws sequences in which every bound key is asked for once.

    Keys of a sequence are distinct; values may repeat; the queries come in
    random order, and each is followed by its answer.

    Args:
        num_sequences: The number of sequences :math:`B`.
        num_pairs: The number of bindings :math:`n`.
        vocabulary: The token ids to write in.
        generator: Source of chance.

    Shapes:
        ``input_ids`` is ``[B, 1 + 5 n]``.

    Raises:
        ValueError: If there are fewer keys than ``num_pairs``.
    """
    keys, values = _bindings(num_sequences, num_pairs, vocabulary, generator)
    gold = _permutations(num_sequences, num_pairs, generator)
    asked, answers = keys.gather(1, gold), values.gather(1, gold)
    query = torch.full_like(asked, vocabulary.query)
    input_ids = torch.cat(
        [
            _opening(keys, values, vocabulary.bos),
            torch.stack([query, asked, answers], dim=2).flatten(1),
        ],
        dim=1,
    )
    asked_at = 1 + 2 * num_pairs + 1 + 3 * torch.arange(num_pairs)
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, asked_at + 1] = answers
    return RetrievalBatch(input_ids, labels, values, gold, asked_at)


def absent_key_control(
    num_sequences: int,
    num_pairs: int,
    vocabulary: StreamVocabulary,
    *,
    generator: Generator,
) -> RetrievalBatch:
    r"""Draws sequences that ask for a key which they do not bind.

    There is nothing to retrieve, so whatever a model prefers here is a prior
    over positions and no retrieval. A retrieval curve means something only
    beside this control.

    Args:
        num_sequences: The number of sequences :math:`B`.
        num_pairs: The number of bindings :math:`n`.
        vocabulary: The token ids to write in.
        generator: Source of chance.

    Shapes:
        ``input_ids`` is ``[B, 3 + 2 n]`` and ends with the asked key;
        ``gold`` is ``[B, 1]``, all -1.

    Raises:
        ValueError: If there are not more keys than ``num_pairs``.
    """
    keys, values = _bindings(
        num_sequences, num_pairs + 1, vocabulary, generator
    )
    asked = keys[:, -1:]
    keys, values = keys[:, :-1], values[:, :-1]
    query = torch.full_like(asked, vocabulary.query)
    opening = _opening(keys, values, vocabulary.bos)
    input_ids = torch.cat([opening, query, asked], dim=1)
    return RetrievalBatch(
        input_ids=input_ids,
        labels=torch.full_like(input_ids, IGNORED),
        values=values,
        gold=torch.full_like(asked, -1),
        asked_at=torch.tensor([input_ids.size(1) - 1]),
    )


def curriculum(progress: float, *, first: int, last: int, end: float) -> int:
    """Returns how many pairs to bind after a share of the training.

    Retrieval is learned suddenly and from few pairs only: a model that
    starts with many sees no signal. The number grows linearly from ``first``
    to ``last`` while ``progress`` goes from 0 to ``end``, then stays.

    Raises:
        ValueError: If ``end`` is not positive.
    """
    if end <= 0:
        raise ValueError(f"Expected 'end' to be positive (got {end}).")
    share = min(max(progress / end, 0.0), 1.0)
    return first + round(share * (last - first))


def _bindings(
    num_sequences: int,
    num_pairs: int,
    vocabulary: StreamVocabulary,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    if num_pairs > vocabulary.num_symbols:
        raise ValueError(
            f'Expected at most {vocabulary.num_symbols} distinct keys in a '
            f'sequence (got {num_pairs}). Use a vocabulary with more keys.'
        )
    order = _permutations(num_sequences, vocabulary.num_symbols, generator)
    keys = order[:, :num_pairs] + vocabulary.first_key
    drawn = torch.randint(
        vocabulary.num_symbols, keys.shape, generator=generator
    )
    return keys, drawn + vocabulary.first_value


def _opening(keys: Tensor, values: Tensor, bos: int) -> Tensor:
    pairs = torch.stack([keys, values], dim=2).flatten(1)
    return torch.nn.functional.pad(pairs, (1, 0), value=bos)


def _permutations(rows: int, size: int, generator: Generator) -> Tensor:
    return torch.rand(rows, size, generator=generator).argsort(dim=1)
