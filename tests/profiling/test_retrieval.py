from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoder import byte_tokenizer, tiny_decoder
from torch import Tensor, nn

import gnnbridge as gb
from gnnbridge.profiling import retrieval
from gnnbridge.profiling.retrieval import (
    RetrievalTask,
    curve_by_place,
    in_columns,
    retrieval_task,
)
from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.settings import ProfileSettings


class Scripted(nn.Module):
    """Predicts what a function of the row says, and notes what it is asked."""

    def __init__(self, answer: Any, vocabulary: int = 257) -> None:
        super().__init__()
        self.answer, self.calls = answer, []
        self.embedding = nn.Embedding(vocabulary, 2)
        self.device = torch.device('cpu')
        self.config = tiny_decoder().config

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        assert attention_mask.all()
        self.calls.append(len(input_ids))
        size = self.embedding.num_embeddings
        logits = torch.zeros(*input_ids.shape, size)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                token = self.answer(ids[: place + 1])
                if token is not None:
                    logits[row, place, token] = 1.0
        return SimpleNamespace(logits=logits)


def lookup(ids: list[int]) -> int | None:
    """What the last token was bound to."""
    *before, asked = ids
    if asked not in before:
        return None
    return ids[before.index(asked) + 1]


def first_value(ids: list[int]) -> int | None:
    return ids[2] if len(ids) > 2 else None


def random_task(pairs: int = 5, questions: int = 20, **options: Any) -> Any:
    settings = {'bos': True, 'seed': 0, **options}
    return retrieval_task(
        Scripted(lookup), byte_tokenizer(), pairs=pairs, questions=questions,
        **settings,
    )  # fmt: skip


def test_random_tokens_are_bound_and_asked_for() -> None:
    task = random_task(pairs=5, questions=12)
    batch = task.asked
    assert batch.input_ids.shape == (12, 12)
    for row, ids in enumerate(batch.input_ids.tolist()):
        assert ids[0] == 256
        keys, values, asked = ids[1:-1:2], ids[2:-1:2], ids[-1]
        # All different, so that a guess is right once in five times.
        assert len({*keys, *values}) == 10
        assert 256 not in {*keys, *values}
        assert values == batch.values[row].tolist()
        assert keys.index(asked) == batch.gold[row, 0] == row % 5
    assert batch.asked_at.tolist() == [11]


def test_the_control_asks_for_what_is_not_there() -> None:
    task = random_task(pairs=5, questions=12)
    for ids in task.control.input_ids.tolist():
        assert ids[-1] not in ids[:-1]
        assert len(set(ids)) == 12


def test_sequences_begin_as_texts_do() -> None:
    task = random_task(bos=False)
    assert task.asked.input_ids.shape == (20, 11)
    assert 256 not in task.asked.input_ids


def test_who_looks_up_is_always_right() -> None:
    task = random_task()
    found = task.accuracy(Scripted(lookup))
    assert found == {'accuracy': 1.0, 'by_place': [1.0] * 5}
    assert task.absent_key(Scripted(first_value)) == {
        'absent_key_most': 1.0,
        'absent_key_by_place': [1.0, 0.0, 0.0, 0.0, 0.0],
    }


def test_who_names_the_first_is_right_once_in_five_times() -> None:
    found = random_task().accuracy(Scripted(first_value))
    assert found == {'accuracy': 0.2, 'by_place': [1.0, 0.0, 0.0, 0.0, 0.0]}


def test_only_bound_values_are_answers() -> None:
    # Token 300 has the highest score everywhere, but was not bound.
    model = Scripted(lambda ids: 300, vocabulary=301)
    task = random_task()
    # None of them is preferred: they share the answer.
    found = task.accuracy(model)
    assert found == {'accuracy': 0.2, 'by_place': [0.2] * 5}
    assert task.absent_key(model)['absent_key_by_place'] == [0.2] * 5


def test_equally_likely_values_share_an_answer() -> None:
    # Two of five: the first and the one that was bound last.
    class Undecided(Scripted):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
            found = super().forward(input_ids, attention_mask)
            for row, ids in enumerate(input_ids.tolist()):
                found.logits[row, -1, ids[-2]] = 1.0
            return found

    named = random_task().absent_key(Undecided(first_value))
    assert named['absent_key_by_place'] == [0.5, 0, 0, 0, 0.5]


def subject(model: Any) -> Subject:
    return Subject(
        model=model, tokenizer=byte_tokenizer(), settings=ProfileSettings(),
        num_layers=2, causal=True, sequences=(), bos=True,
    )  # fmt: skip


@pytest.mark.parametrize('parts', [1, 3, 25])
def test_parts_hold_every_question_once(parts: int) -> None:
    task = random_task(questions=20)
    first = subject(Scripted(first_value))
    tally = Tally()
    for part in range(parts):
        right, named = task.samples(first, part, parts)
        assert right.shape[1] == named.shape[1] == 5
        assert len(right) == len(named)
        tally.add({'task/accuracy': right, 'task/absent': named})
    assert tally.count('task/accuracy').tolist() == [4] * 5
    assert tally.count('task/absent').tolist() == [20] * 5
    assert tally.mean('task/accuracy').tolist() == [1, 0, 0, 0, 0]
    assert tally.mean('task/absent').tolist() == [1, 0, 0, 0, 0]
    # All of it is a habit.
    curve = curve_by_place(tally, 'task', 0.2)
    assert curve['corrected'] == [0] * 5
    assert curve['u_depth'] == curve['primacy_slope'] == 0
    assert curve['total_accuracy'] == 0.2
    assert curve['questions'] == 20


def test_a_curve_is_plain_data() -> None:
    tally = Tally()
    right = in_columns(
        torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 2]), 3
    )
    assert np.isnan(right).sum() == 6
    tally.add({'x/accuracy': right, 'x/absent': np.eye(3)})
    curve = curve_by_place(tally, 'x', 0.1)
    assert curve['accuracy'][0] == 0.5
    assert np.isnan(curve['accuracy'][1])
    assert curve['absent'] == [1 / 3] * 3
    assert curve['chance'] == 0.1
    assert curve['standard_error'][0] == pytest.approx((0.25 / 2) ** 0.5)
    assert np.isnan(curve['u_depth'])


def test_what_gives_no_logits() -> None:
    task = random_task(questions=5)
    with pytest.raises(NotImplementedError, match='logits for each token'):
        task.accuracy(tiny_decoder().model)


def test_a_seed_is_a_task() -> None:
    first, same, other = (random_task(seed=s) for s in (1, 1, 2))
    assert torch.equal(first.asked.input_ids, same.asked.input_ids)
    assert not torch.equal(first.asked.input_ids, other.asked.input_ids)


@pytest.mark.parametrize(
    ('context', 'pairs'), [(128, 40), (20, 9), (19, 8), (7, 2)]
)
def test_fewer_pairs_where_there_is_no_room(context: int, pairs: int) -> None:
    model = tiny_decoder(max_position_embeddings=context)
    task = retrieval_task(
        model, byte_tokenizer(), pairs=40, questions=2, bos=True, seed=0
    )
    assert task is not None
    assert task.num_pairs == pairs
    assert task.asked.input_ids.size(1) <= context
    assert task.accuracy(model)['accuracy'] >= 0


def test_no_room_at_all() -> None:
    small = tiny_decoder(max_position_embeddings=5)
    options = {'pairs': 4, 'questions': 2, 'bos': True, 'seed': 0}
    assert retrieval_task(small, byte_tokenizer(), **options) is None
    few = tiny_decoder(vocab_size=4)
    assert retrieval_task(few, byte_tokenizer(), **options) is None


def test_tokens_are_those_that_the_model_knows() -> None:
    model = tiny_decoder(vocab_size=40)
    task = retrieval_task(
        model, byte_tokenizer(), pairs=19, questions=30, bos=False, seed=0
    )
    assert task is not None
    assert task.asked.input_ids.max() < 40


def test_rows_run_in_parts_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = random_task(questions=11)
    whole = Scripted(lookup)
    expected = task.accuracy(whole)
    assert whole.calls == [11]
    parts = Scripted(lookup)
    monkeypatch.setattr(retrieval, '_LOGITS', 4 * 12 * 257)
    assert task.accuracy(parts) == expected
    assert parts.calls == [4, 4, 3]
    one = Scripted(lookup)
    monkeypatch.setattr(retrieval, '_LOGITS', 1)
    assert task.accuracy(one) == expected
    assert one.calls == [1] * 11


@pytest.fixture(scope='module')
def stream() -> tuple[Any, RetrievalTask]:
    model, tokenizer = gb.load_embedded()
    task = retrieval_task(
        model, tokenizer, pairs=16, questions=60, bos=True, seed=0
    )
    assert task is not None
    return model, task


def test_the_embedded_model_reads_its_own_stream(
    stream: tuple[Any, RetrievalTask],
) -> None:
    model, task = stream
    assert task.describe() == {
        'name': 'the key-value stream that the model was trained on',
        'pairs': 16,
        'questions': 64,
        'tokens': 81,
        'control_questions': 60,
        'control_tokens': 35,
        'answered': 'all',
        'chance': 1 / 16,
    }
    # Its card says 0.999; a model that was not trained is near 0.
    assert task.accuracy(model)['accuracy'] >= 0.95
    control = task.absent_key(model)
    assert control['absent_key_most'] == max(control['absent_key_by_place'])
    assert control['absent_key_most'] < 0.4


def test_any_token_may_be_the_answer_in_the_stream(
    stream: tuple[Any, RetrievalTask],
) -> None:
    _, task = stream
    # Key 0 is a likelier answer than any value: always wrong.
    never = Scripted(lambda ids: 260, vocabulary=324)
    assert task.accuracy(never)['accuracy'] == 0
    assert task.absent_key(never)['absent_key_most'] == 0


def test_no_more_pairs_than_keys() -> None:
    model, tokenizer = gb.load_embedded()
    task = retrieval_task(
        model, tokenizer, pairs=50, questions=1, bos=True, seed=0
    )
    assert task is not None
    assert task.num_pairs == 31
