import pytest
import torch

from gnnbridge.datasets.duplicates import (
    BindingTokens,
    duplicate_keys,
    ends_and_middle,
    every_key,
)
from gnnbridge.datasets.retrieval import IGNORED, key_value_retrieval
from gnnbridge.datasets.vocabulary import StreamVocabulary

STREAM = StreamVocabulary(
    bos=100, query=101, first_key=10, first_value=50, num_symbols=16
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_key_is_bound_twice_and_asked_for() -> None:
    places = ends_and_middle(9)
    assert places == [(0, 8), (0, 4), (4, 8)]
    batch = duplicate_keys(30, 9, STREAM, places=places, generator=generator())
    assert batch.input_ids.shape == (30, 1 + 18 + 2)
    for row, ids in enumerate(batch.input_ids.tolist()):
        assert ids[0] == 100
        assert ids[-2] == 101
        keys, values, asked = ids[1:-2:2], ids[2:-2:2], ids[-1]
        p, q = places[row % 3]
        assert batch.comparison[row] == row % 3
        assert [k for k, key in enumerate(keys) if key == asked] == [p, q]
        # Nothing else is repeated, so that an answer tells its place.
        assert len(set(keys)) == 8
        assert len(set(values)) == 9
        assert all(10 <= key < 26 for key in keys)
        assert all(50 <= value < 66 for value in values)
        assert batch.values[row].tolist() == values
        assert batch.compared[row].tolist() == [values[p], values[q]]


def test_any_tokens_and_layout_will_do() -> None:
    tokens = BindingTokens(
        keys=torch.tensor([3, 5, 8, 900000]),
        values=torch.tensor([2, 4, 6, 7]),
        opening=(1,),
        query=(30, 31),
    )
    batch = duplicate_keys(
        6, 3, tokens, places=[(1, 2)], generator=generator(1)
    )
    assert batch.input_ids.shape == (6, 1 + 6 + 3)
    assert batch.input_ids[:, 7:9].tolist() == [[30, 31]] * 6
    assert batch.input_ids.dtype == torch.int64
    assert torch.equal(batch.input_ids[:, 3], batch.input_ids[:, 5])
    assert torch.equal(batch.input_ids[:, 3], batch.input_ids[:, -1])
    bare = BindingTokens(keys=tokens.keys, values=tokens.values)
    batch = duplicate_keys(6, 3, bare, places=[(0, 1)], generator=generator())
    assert batch.input_ids.shape == (6, 7)


def test_every_key_is_asked_for_once() -> None:
    batch = every_key(20, 7, STREAM, generator=generator())
    other = key_value_retrieval(20, 7, STREAM, generator=generator())
    assert batch.input_ids.shape == other.input_ids.shape == (20, 36)
    assert torch.equal(batch.asked_at, other.asked_at)
    for row, ids in enumerate(batch.input_ids.tolist()):
        bound = dict(zip(ids[1:15:2], ids[2:15:2], strict=True))
        assert len(bound) == len(set(bound.values())) == 7
        assert ids[15::3] == [101] * 7
        assert {key: bound[key] for key in ids[16::3]} == bound
        assert ids[17::3] == [bound[key] for key in ids[16::3]]
        assert [ids[at] for at in batch.asked_at] == ids[16::3]
        gold = batch.gold[row].tolist()
        assert [list(bound)[place] for place in gold] == ids[16::3]
        assert batch.values[row].tolist() == list(bound.values())
    answered = batch.labels != IGNORED
    assert torch.equal(batch.labels[answered], batch.input_ids[answered])
    assert answered.nonzero()[:, 1].unique().tolist() == list(range(17, 36, 3))
    bare = BindingTokens(torch.arange(9), torch.arange(20, 29))
    batch = every_key(3, 4, bare, generator=generator())
    assert batch.input_ids.shape == (3, 16)
    assert batch.asked_at.tolist() == [8, 10, 12, 14]


def test_chance_is_the_generator_alone() -> None:
    def drawn(seed: int) -> torch.Tensor:
        return duplicate_keys(
            20, 5, STREAM, places=[(0, 4)], generator=generator(seed)
        ).input_ids

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    # Every key comes up in the end.
    assert set(drawn(5)[:, -1].tolist()) <= set(range(10, 26))
    assert len(set(drawn(5)[:, -1].tolist())) > 5


def test_bad_arguments_are_named() -> None:
    for places in ([], [(1, 1)], [(2, 1)], [(0, 5)], [(-1, 2)]):
        with pytest.raises(ValueError, match='pairs p < q of the 5 places'):
            duplicate_keys(2, 5, STREAM, places=places, generator=generator())
    with pytest.raises(ValueError, match='at least 17 keys'):
        duplicate_keys(2, 17, STREAM, places=[(0, 1)], generator=generator())
    few = BindingTokens(keys=torch.arange(9), values=torch.arange(9, 12))
    with pytest.raises(ValueError, match='at least 4 values'):
        duplicate_keys(2, 4, few, places=[(0, 1)], generator=generator())
    with pytest.raises(ValueError, match='at least 3'):
        ends_and_middle(2)
