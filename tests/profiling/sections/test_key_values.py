import dataclasses
from typing import Any

import numpy as np
import pytest
from reader import asked, finds, guesses

import gnnbridge as gb
from gnnbridge.profiling.retrieval import RetrievalTask
from gnnbridge.profiling.sampling import Tally
from gnnbridge.profiling.sections import key_values
from gnnbridge.profiling.sections.key_values import (
    JsonTask,
    found_pairs,
    json_task,
    key_value_tasks,
)


def test_a_json_object_where_it_fits() -> None:
    # 16 pairs of 24 letters and some 80 around them.
    task = json_task(asked(finds, 600, pairs=16, questions=20))
    assert isinstance(task, JsonTask)
    assert len(task.asked) == len(task.control) == 20
    assert all(prompt.right >= 0 for prompt in task.asked)
    assert all(prompt.right == -1 for prompt in task.control)
    length = task.num_tokens / 40
    assert 400 < length < 600
    assert json_task(asked(finds, 400, pairs=16, questions=20)) is None


@pytest.mark.parametrize('size', [1 << 15, 2000, 1])
def test_parts_hold_every_question_once(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = asked(finds, questions=12)
    monkeypatch.setattr(key_values, '_TASK_TOKENS', size)
    tasks, tally = key_value_tasks(subject), Tally()
    for task in tasks:
        tally.add(task.run(subject))
    assert len(tasks) == {1 << 15: 1, 2000: 3, 1: 12}[size]
    total = sum(task.passes for task in tasks)
    found = found_pairs(tally.under('retrieval/'), subject)
    assert found is not None
    assert found['accuracy'] == [1.0] * 4
    assert found['absent'] == [0.25] * 4
    assert found['questions'] == 12
    task = json_task(subject)
    assert task is not None
    assert total == pytest.approx(task.num_tokens)


def test_the_stream_of_the_embedded_model() -> None:
    model, tokenizer = gb.load_embedded()
    subject = dataclasses.replace(
        asked(guesses, pairs=16), model=model, tokenizer=tokenizer
    )
    tally = Tally()
    for task in key_value_tasks(subject):
        tally.add(task.run(subject))
    found: Any = found_pairs(tally.under('retrieval/'), subject)
    assert found['task'].startswith('the key-value stream')
    assert found['chance'] == 1 / 16
    assert found['total_accuracy'] >= 0.95
    # Every one of three sequences asks for all of its pairs.
    assert found['questions'] == 48


def test_random_tokens_where_text_has_no_room() -> None:
    subject = asked(finds, context=60)
    (task,) = key_value_tasks(subject)
    rows = task.run(subject)['retrieval/key_value/accuracy']
    assert rows.shape == (36, 4)
    # One question, one place.
    assert (np.isfinite(rows).sum(1) == 1).all()
    assert isinstance(key_values._pairs(subject), RetrievalTask)


def test_no_room_for_two_pairs() -> None:
    with pytest.raises(NotImplementedError, match='two key-value pairs'):
        key_value_tasks(asked(finds, context=4))


def test_nothing_was_asked() -> None:
    assert found_pairs(Tally(), asked(finds)) is None
