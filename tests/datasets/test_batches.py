from itertools import pairwise

import pytest
import torch
from torch import Generator

from gnnbridge.datasets import (
    BigramBackcopy,
    StreamVocabulary,
    backcopy_batches,
    bigram_table,
    byte_windows,
    curriculum,
    retrieval_batches,
    text_batches,
    token_batches,
)

TEXT = bytes(range(32, 127)) * 3
VOCABULARY = StreamVocabulary(
    bos=0, query=1, first_key=10, first_value=30, num_symbols=20
)
BACKCOPY = BigramBackcopy(bigram_table(TEXT), (40, 41), bos=256)
DRAWS = {
    'text': (text_batches(TEXT, 3, 9, bos=256), (3, 9), 256),
    'tokens': (token_batches(torch.arange(50), 4, 7), (4, 7), None),
    'tokens-bos': (token_batches(range(50), 4, 7, bos=99), (4, 7), 99),
    'backcopy': (backcopy_batches(BACKCOPY, 5, 12), (5, 12), 256),
    'retrieval': (retrieval_batches(6, 4, VOCABULARY), (6, 21), 0),
    'one': (retrieval_batches(6, 4, VOCABULARY, queries=1), (6, 12), 0),
}


def drawn(draw, step=1, seed=0):
    return draw(step, Generator().manual_seed(seed))


@pytest.mark.parametrize('name', DRAWS)
def test_batches_are_those_of_their_step_and_generator(name):
    draw, shape, first = DRAWS[name]
    batch = drawn(draw)
    assert batch.keys() == {'input_ids', 'labels'}
    ids, labels = batch['input_ids'], batch['labels']
    assert ids.shape == labels.shape == shape
    assert ids.dtype == labels.dtype == torch.long
    assert ((labels == ids) | (labels == -100)).all()
    assert first is None or (ids[:, 0] == first).all()
    again = drawn(draw)
    assert torch.equal(again['input_ids'], ids)
    assert torch.equal(again['labels'], labels)
    assert not torch.equal(drawn(draw, seed=1)['input_ids'], ids)
    state = torch.get_rng_state()
    drawn(draw)
    assert torch.equal(torch.get_rng_state(), state)


def test_windows_of_a_text_are_those_of_byte_windows():
    given = {'bos': 256, 'generator': Generator().manual_seed(0)}
    expected = byte_windows(TEXT, 3, 9, **given)
    assert torch.equal(drawn(DRAWS['text'][0])['input_ids'], expected)


def test_windows_lie_within_the_text():
    ids = drawn(token_batches(torch.arange(100, 112), 400, 5))['input_ids']
    assert (ids.diff(dim=1) == 1).all()
    # The first and the last of eight, and those between them.
    assert set(ids[:, 0].tolist()) == set(range(100, 108))
    ids = drawn(text_batches(b'abcdefgh', 200, 5, bos=0))['input_ids'][:, 1:]
    assert (ids.diff(dim=1) == 1).all()
    assert set(ids[:, 0].tolist()) == set(b'abc')


def test_a_text_of_one_window_is_that_window():
    assert drawn(token_batches([5, 6, 7], 2, 3))['input_ids'].tolist() == [
        [5, 6, 7], [5, 6, 7],
    ]  # fmt: skip
    ids = drawn(token_batches([5, 6, 7], 1, 4, bos=1))['input_ids']
    assert ids.tolist() == [[1, 5, 6, 7]]


@pytest.mark.parametrize(
    'dtype', [torch.uint8, torch.int16, torch.uint16, torch.int32]
)
def test_ids_may_be_stored_in_fewer_bytes(dtype):
    expected = drawn(token_batches(torch.arange(50), 4, 7))['input_ids']
    ids = torch.arange(50).to(dtype)
    assert torch.equal(drawn(token_batches(ids, 4, 7))['input_ids'], expected)


def test_backcopy_is_that_of_its_source():
    ids = drawn(DRAWS['backcopy'][0])['input_ids']
    expected = BACKCOPY.draw(5, 12, generator=Generator().manual_seed(0))
    assert torch.equal(ids, expected)


@pytest.mark.parametrize('queries', [1, 2, 3, 7, None])
def test_as_many_answers_as_keys_that_are_asked_for(queries):
    pairs = 4
    batch = drawn(retrieval_batches(6, pairs, VOCABULARY, queries=queries))
    answers = batch['labels'] != -100
    expected = pairs if queries is None else min(queries, pairs)
    assert (answers.sum(dim=1) == expected).all()
    assert (batch['input_ids'] == 1).sum(dim=1).tolist() == [expected] * 6
    # The last token is an answer, to a key that was bound to it.
    assert answers[:, -1].all()
    for row in batch['input_ids'].tolist():
        key, value = row[-2:]
        assert (key, value) in pairwise(row[1 : 1 + 2 * pairs])


def bindings(batch):
    """How many keys are bound: an answer is asked for in three tokens."""
    asked = int((batch['labels'][0] != -100).sum())
    return (batch['input_ids'].size(1) - 1 - 3 * asked) // 2


def test_bindings_grow_with_the_curriculum():
    draw = retrieval_batches(2, 16, VOCABULARY, first=3, curriculum_steps=20)
    found = [bindings(drawn(draw, step)) for step in range(30)]
    for step, count in enumerate(found):
        last = curriculum(step, first=3, last=16, end=20)
        assert count == last if step % 2 else 2 <= count <= last
    assert found[29] == 16


def test_few_bindings_stay_among_many():
    draw = retrieval_batches(2, 6, VOCABULARY, queries=2)
    even = [bindings(drawn(draw, 0, seed)) for seed in range(60)]
    assert set(even) == {2, 3, 4, 5, 6}
    assert {bindings(drawn(draw, 1, seed)) for seed in range(9)} == {6}


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: text_batches(TEXT, 0, 9, bos=0), "'rows' .* 1 .got 0"),
        (lambda: text_batches(TEXT, 1, 1, bos=0), "'tokens' .* 2 .got 1"),
        (lambda: text_batches(b'abc', 1, 3, bos=0), 'than 3 bytes .got 3'),
        (lambda: token_batches([1, 2], -1, 2), "'rows' .* 1 .got -1"),
        (lambda: token_batches([1, 2], 1, 1), "'tokens' .* 2 .got 1"),
        (lambda: token_batches([1, 2], 1, 3), r'least 3 tokens.*\[2\]'),
        (lambda: token_batches([1], 1, 3, bos=0), r'least 2 tokens.*\[1\]'),
        (lambda: token_batches([], 1, 3), r'least 3 tokens.*\[0\]'),
        (lambda: token_batches([[1, 2, 3]], 1, 2), r'\[1, 3\].*first row'),
        (lambda: backcopy_batches(BACKCOPY, 0, 9), "'rows'"),
        (lambda: backcopy_batches(BACKCOPY, 1, 1), "'tokens'"),
        (lambda: retrieval_batches(0, 4, VOCABULARY), "'rows'"),
        (lambda: retrieval_batches(1, 1, VOCABULARY), "'pairs' .* least 2"),
        (lambda: retrieval_batches(1, 21, VOCABULARY), "'pairs' .* most 20"),
        (
            lambda: retrieval_batches(1, 4, VOCABULARY, queries=0),
            "'queries' .* 1 .got 0",
        ),
        (
            lambda: retrieval_batches(1, 4, VOCABULARY, curriculum_steps=-1),
            "'curriculum_steps'",
        ),
        (
            lambda: retrieval_batches(
                1, 4, VOCABULARY, first=5, curriculum_steps=9
            ),
            "'first' between 2 and 'pairs', which is 4 .got 5",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_id_is_refused():
    with pytest.raises(TypeError, match=r'integers .got torch.float32'):
        token_batches(torch.ones(9), 1, 3)
