import dataclasses

import numpy as np
import pytest
from reader import asked, finds, repeats

from gnnbridge.profiling.sampling import Tally
from gnnbridge.profiling.sections.digits import (
    copying_tasks,
    counting_tasks,
    found_copies,
    found_counts,
)


@pytest.mark.parametrize(
    ('context', 'tokens', 'lengths'),
    [
        (2048, 256, [8, 16, 32, 64]),
        (2048, 1000, [8, 16, 32, 64, 128, 256]),
        (128, 256, [8, 16]),
        (110, 256, [8]),
    ],
)
def test_lengths_double_as_long_as_there_is_room(
    context: int, tokens: int, lengths: list[int]
) -> None:
    subject = asked(finds, context, needle_tokens=tokens)
    for plan in (copying_tasks, counting_tasks):
        keys = [task.key for task in plan(subject)]
        assert [int(key.split()[1]) for key in keys] == lengths


def test_samples_are_in_the_column_of_their_length() -> None:
    subject = asked(finds, questions=40)
    for plan, names in (
        (copying_tasks, {'copying/first', 'copying/last'}),
        (counting_tasks, {'counting/accuracy', 'counting/mean_error'}),
    ):
        samples = plan(subject)[2].run(subject)
        assert {*samples} == {f'retrieval/{name}' for name in names}
        for rows in samples.values():
            assert rows.shape == (10, 4)
            assert np.isfinite(rows[:, 2]).all()
            assert np.isnan(np.delete(rows, 2, axis=1)).all()


def test_who_repeats_copies_nothing() -> None:
    subject = asked(repeats)
    tally = Tally()
    for task in copying_tasks(subject):
        tally.add(task.run(subject))
    found = found_copies(tally.under('retrieval/'), subject)
    assert found is not None
    assert found['lengths'] == [8, 16, 32, 64]
    assert found['first'].tolist() == found['last'].tolist() == [0.0] * 4
    assert found['questions'].tolist() == [8] * 4


def test_who_is_off_by_one() -> None:
    def miscounts(text: str) -> str:
        count = int(finds(text).strip(' .'))  # type: ignore[union-attr]
        # The candidates of eight digits end with 8.
        return f' {count - 1 if count else 1}.'

    subject = asked(miscounts, needle_tokens=128)
    tally = Tally()
    task = counting_tasks(subject)[0]
    tally.add(task.run(subject))
    found = found_counts(tally.under('retrieval/'), subject)
    assert found is not None
    assert found['accuracy'][0] == 0
    assert found['mean_error'][0] == 1
    assert np.isnan(found['accuracy'][1:]).all()


def test_no_room() -> None:
    subject = asked(finds, context=60)
    for plan in (copying_tasks, counting_tasks):
        with pytest.raises(NotImplementedError, match='room for 8 digits'):
            plan(subject)


def test_nothing_was_asked() -> None:
    subject = dataclasses.replace(asked(finds), tokenizer=None)
    assert found_copies(Tally(), subject) is None
    assert found_counts(Tally(), subject) is None
