import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.datasets.retrieval import (
    IGNORED,
    absent_key_control,
    curriculum,
    key_value_retrieval,
)
from gnnbridge.datasets.vocabulary import StreamVocabulary

VOCABULARY = StreamVocabulary(
    bos=3, query=5, first_key=11, first_value=31, num_symbols=17
)


def read_bindings(row: list[int], num_pairs: int) -> dict[int, int]:
    """Reads a sequence token by token, as someone would by hand."""
    bound = {}
    for pair in range(num_pairs):
        key, value = row[1 + 2 * pair], row[2 + 2 * pair]
        assert 11 <= key < 28
        assert 31 <= value < 48
        assert key not in bound
        bound[key] = value
    return bound


@given(seed=st.integers(0, 2**31), num_pairs=st.integers(1, 17))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_every_bound_key_is_asked_for_once_and_answered_rightly(
    seed, num_pairs
):
    generator = torch.Generator().manual_seed(seed)
    batch = key_value_retrieval(3, num_pairs, VOCABULARY, generator=generator)
    assert batch.input_ids.shape == (3, 1 + 5 * num_pairs)
    for b, row in enumerate(batch.input_ids.tolist()):
        assert row[0] == 3
        bound = read_bindings(row, num_pairs)
        labels = [IGNORED] * len(row)
        asked = []
        for q, start in enumerate(range(1 + 2 * num_pairs, len(row), 3)):
            query, key, answer = row[start : start + 3]
            assert query == 5
            assert answer == bound[key]
            assert int(batch.asked_at[q]) == start + 1
            assert list(bound)[int(batch.gold[b, q])] == key
            labels[start + 2] = answer
            asked.append(key)
        assert sorted(asked) == sorted(bound)
        assert batch.labels[b].tolist() == labels
        assert batch.values[b].tolist() == list(bound.values())


def test_absent_key_is_bound_nowhere():
    generator = torch.Generator().manual_seed(0)
    batch = absent_key_control(50, 7, VOCABULARY, generator=generator)
    assert batch.input_ids.shape == (50, 17)
    for row in batch.input_ids.tolist():
        bound = read_bindings(row, 7)
        assert row[15] == 5
        assert row[16] not in bound
        assert 11 <= row[16] < 28
    assert batch.asked_at.tolist() == [16]
    assert bool((batch.gold == -1).all())
    assert bool((batch.labels == IGNORED).all())


def test_gold_positions_are_uniform():
    generator = torch.Generator().manual_seed(1)
    batch = key_value_retrieval(4000, 5, VOCABULARY, generator=generator)
    first_asked = torch.bincount(batch.gold[:, 0], minlength=5) / 4000
    # Standard error 0.0063: five of them.
    assert (first_asked - 0.2).abs().max() < 0.032


def test_one_seed_one_batch():
    draws = [
        key_value_retrieval(
            2, 4, VOCABULARY, generator=torch.Generator().manual_seed(seed)
        ).input_ids
        for seed in (8, 8, 9)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_more_pairs_than_keys_are_refused():
    generator = torch.Generator()
    with pytest.raises(ValueError, match='at most 17 distinct keys'):
        key_value_retrieval(1, 18, VOCABULARY, generator=generator)
    with pytest.raises(ValueError, match='at most 17 distinct keys'):
        absent_key_control(1, 17, VOCABULARY, generator=generator)


@pytest.mark.parametrize(
    ('progress', 'pairs'), [(0, 2), (0.25, 9), (0.5, 16), (0.9, 16), (1, 16)]
)
def test_curriculum_grows_then_stays(progress, pairs):
    assert curriculum(progress, first=2, last=16, end=0.5) == pairs


def test_curriculum_needs_a_positive_end():
    with pytest.raises(ValueError, match='positive'):
        curriculum(0.5, first=2, last=16, end=0)
