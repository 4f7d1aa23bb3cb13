from typing import Any

import numpy as np
import pytest
from reader import asked, finds, guesses, names_the_first

from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.sections import needles
from gnnbridge.profiling.sections.needles import (
    DEPTHS,
    found_needles,
    needle_tasks,
)


def found(subject: Subject) -> dict[str, Any]:
    tally = Tally()
    for task in needle_tasks(subject):
        tally.add(task.run(subject))
    result = found_needles(tally.under('retrieval/'))
    assert result is not None
    return result


def test_one_task_for_each_depth() -> None:
    subject = asked(finds)
    tasks = needle_tasks(subject)
    assert [float(task.key.split()[1]) for task in tasks] == [*DEPTHS]
    assert DEPTHS == (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)
    for place in (0, 4, 8):
        for name, rows in tasks[place].run(subject).items():
            assert name.startswith('retrieval/needle/')
            # 36 questions over nine depths.
            assert rows.shape == (4, 9)
            assert np.isfinite(rows[:, place]).all()
            assert np.isnan(np.delete(rows, place, axis=1)).all()


@pytest.mark.parametrize(
    ('tokens', 'context', 'chance'),
    [
        (256, 2048, 1 / 4),
        (200, 2048, 1 / 4),
        (256, 170, 1 / 3),
        (120, 512, 0.5),
    ],
)
def test_prompts_fill_the_room_and_no_more(
    tokens: int, context: int, chance: float
) -> None:
    subject = asked(guesses, context, needle_tokens=tokens, questions=90)
    result = found(subject)
    room = min(tokens, context)
    model: Any = subject.model
    # The last token of an answer is predicted and not read.
    assert model.longest <= room - 1
    # The next word, of up to 14 letters, would not have fitted.
    assert room - 20 <= result['tokens'] <= room
    # Fewer needles where they would take most of the room.
    assert result['chance'] == pytest.approx(chance)
    assert result['accuracy'] == pytest.approx([chance] * 9)


def test_prompts_that_turn_out_longer_are_drawn_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = asked(finds, questions=90)
    (first, *_) = needle_tasks(subject)
    whole = first.run(subject)
    # One prompt is looked at, of which others are longer.
    monkeypatch.setattr(needles, '_LOOKED_AT', 1)
    for number, task in enumerate(needle_tasks(subject)):
        lengths = task.run(subject)['retrieval/needle/tokens'][:, number]
        assert lengths.max() <= 256
    assert set(whole['retrieval/needle/accuracy'][:, 0]) == {1.0}


def test_the_margin_is_that_of_the_right_answer() -> None:
    right = found(asked(finds))
    assert min(right['margin']) > 5
    wrong = found(asked(names_the_first))
    # Named at the start, and where no other needle lies above.
    assert wrong['margin'][0] > 5
    assert wrong['margin'][-1] < -5
    level = found(asked(guesses))
    assert level['margin'] == pytest.approx([0.0] * 9, abs=1e-6)
    assert level['margin_spread'] == pytest.approx([0.0] * 9, abs=1e-6)


def test_no_room() -> None:
    with pytest.raises(NotImplementedError, match=r'in 60 tokens \(got'):
        needle_tasks(asked(finds, context=60))
    with pytest.raises(NotImplementedError, match='Use more needle_tokens'):
        needle_tasks(asked(finds, needle_tokens=16))


def test_nothing_was_asked() -> None:
    assert found_needles(Tally()) is None
