import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_decoder import byte_tokenizer

from gnnbridge.profiling.pieces import Reader, batches
from gnnbridge.profiling.settings import ProfileSettings


def reader(limit: int, known: int | None = 257, **changes: object) -> Reader:
    settings = ProfileSettings(**changes)  # type: ignore[arg-type]
    return Reader(byte_tokenizer(), settings, limit, known)


def test_long_documents_are_cut_and_counted() -> None:
    read = reader(5)
    found = list(read.sequences(['abcdefgh', 'ab', 'abcd']))
    assert [ids.tolist()[0] for ids in found] == [256] * 3
    assert [len(ids) for ids in found] == [5, 3, 5]
    counted = read.counted
    assert (counted.documents, counted.sequences, counted.tokens) == (3, 3, 13)
    assert (counted.longest, counted.cut, counted.short) == (5, 1, 0)


def test_long_documents_are_split_with_their_first_token() -> None:
    read = reader(5, split=True)
    found = list(read.sequences(['abcdefghij']))
    tokenizer = byte_tokenizer()
    assert [tokenizer.decode(ids[1:]) for ids in found] == [
        'abcd',
        'efgh',
        'ij',
    ]
    assert all(int(ids[0]) == 256 for ids in found)
    assert read.counted.cut == 0


def test_pieces_of_a_document_are_known_when_it_is_begun() -> None:
    read = reader(5, split=True)
    stream = read.sequences(['abcdefghij' * 20])
    next(stream)
    assert read.counted.sequences == 1
    assert read.counted.pieces == 50


def test_documents_without_two_tokens_are_left_out() -> None:
    read = Reader(byte_tokenizer(bos=False), ProfileSettings(), 8)
    assert [len(ids) for ids in read.sequences(['a', 'ab', ''])] == [2]
    assert read.counted.short == 2


def test_no_more_is_read_than_was_asked_for() -> None:
    read = reader(8, max_sequences=2)
    stream = iter(['one', 'two', 'three'])
    assert len(list(read.sequences(stream))) == 2
    assert next(stream) == 'three'


def test_tokens_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match='another model'):
        list(reader(8, known=100).sequences(['abc']))


@given(st.lists(st.integers(2, 6), max_size=60), st.integers(1, 4))
def test_batches_hold_every_sequence_once_and_no_padding(
    lengths: list[int], size: int
) -> None:
    sequences = [torch.full((n,), place) for place, n in enumerate(lengths)]
    found = list(batches(sequences, size))
    assert [batch.number for batch in found] == list(range(len(found)))
    assert all(1 <= len(batch.input_ids) <= size for batch in found)
    seen = [int(row[0]) for batch in found for row in batch.input_ids]
    assert sorted(seen) == list(range(len(lengths)))
    rows = [row for batch in found for row in batch.input_ids]
    assert all(len(row) == lengths[int(row[0])] for row in rows)


def test_batches_are_the_same_every_time_and_known_by_their_tokens() -> None:
    sequences = [torch.arange(2 + place % 3) for place in range(9)]
    first = [batch.digest for batch in batches(sequences, 2)]
    assert [batch.digest for batch in batches(sequences, 2)] == first
    changed = [*sequences[:-1], torch.tensor([7, 7])]
    assert [batch.digest for batch in batches(changed, 2)] != first
