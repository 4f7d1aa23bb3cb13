import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from reader import asked, finds, guesses, names_the_first
from tiny_decoder import byte_tokenizer

import gnnbridge as gb
from gnnbridge.models.loading import reinitialize
from gnnbridge.profiling.plain import plain
from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.sections.retrieval import Retrieval
from gnnbridge.profiling.settings import ProfileSettings

SECTION = Retrieval()


def tallied(subject: Subject) -> Tally:
    """What all tasks count; every name begins with that of the section."""
    tally = Tally()
    for task in SECTION.tasks(subject):
        assert task.key.startswith('retrieval/')
        assert task.passes >= 0
        try:
            samples = task.run(subject)
        except NotImplementedError as refusal:
            tally.reasons[task.key] = str(refusal)
            continue
        assert task.passes > 0
        assert task.memory > 0
        assert all(name.startswith('retrieval/') for name in samples)
        tally.add(samples)
    return tally


def measured(subject: Subject) -> dict[str, Any]:
    found = SECTION.model(tallied(subject), subject)
    assert found is not None
    return plain(found)


def test_who_finds_everything() -> None:
    found = measured(asked(finds))
    for task, size in (('key_value', 4), ('needle', 9)):
        assert found[task]['accuracy'] == [1.0] * size
        assert found[task]['total_accuracy'] == 1.0
        # Nothing is preferred where there is nothing to be found.
        assert found[task]['absent'] == [0.25] * size
        assert found[task]['corrected'] == [0.75] * size
        assert found[task]['u_depth'] == 0
        assert found[task]['questions'] == 36
    assert found['key_value']['task'] == 'a JSON object of random keys'
    assert min(found['needle']['margin']) > 5
    assert found['needle']['tokens'] == pytest.approx(250, abs=6)
    assert found['copying']['lengths'] == [8, 16, 32, 64]
    assert found['copying']['first'] == found['copying']['last'] == [1.0] * 4
    assert found['counting']['accuracy'] == [1.0] * 4
    assert found['counting']['mean_error'] == [0.0] * 4


def test_who_guesses_is_at_chance() -> None:
    subject = asked(guesses)
    tally = tallied(subject)
    found = plain(SECTION.model(tally, subject))
    null = SECTION.null(tally, subject)
    for task in ('key_value', 'needle'):
        chance = null[task]['chance']
        assert set(found[task]['accuracy']) == {chance}
        assert set(found[task]['corrected']) == {0.0}
    assert found['copying']['last'] == [null['copying']['chance']] * 4
    # Of numbers with one and with two digits the shorter are likelier: four
    # standard errors of 32 questions, each right with a chance of 1/9 to 1/3.
    right = np.mean(found['counting']['accuracy'])
    assert right == pytest.approx(null['counting']['chance'], abs=0.15)
    assert null['counting']['mean_error'] == pytest.approx(
        np.mean([abs(i - j) for i in range(9) for j in range(9)])
    )


def test_a_habit_of_place_is_not_retrieval() -> None:
    found = measured(asked(names_the_first))
    for task in ('key_value', 'needle'):
        accuracy = found[task]['accuracy']
        assert accuracy[0] == 1.0
        assert accuracy[-1] == 0.0
    # The first of the pairs is always the same place.
    assert found['key_value']['absent'] == [1, 0, 0, 0]
    assert found['key_value']['corrected'] == [0, 0, 0, 0]
    assert found['key_value']['primacy_slope'] == 0
    assert found['needle']['corrected'][0] == 0
    assert found['needle']['corrected'][-1] == 0


def test_the_embedded_model_beside_new_weights() -> None:
    model, tokenizer = gb.load_embedded()
    settings = ProfileSettings(questions=64, needle_tokens=160)
    subject = Subject(model, tokenizer, settings, 3, True, (), True)
    found = measured(subject)
    stream = found['key_value']
    assert stream['task'].startswith('the key-value stream')
    # Its card: 0.999, and 0.07 to 0.11 for an absent key at each place; of
    # 64 questions the most of 16 places may be four standard errors above.
    assert stream['total_accuracy'] >= 0.95
    assert max(stream['absent']) < 0.25
    assert 0.05 < np.mean(stream['absent']) < 0.12
    assert abs(stream['u_depth']) < 0.2
    fresh = dataclasses.replace(subject, model=reinitialize(model))
    again = measured(fresh)
    assert again['key_value']['total_accuracy'] <= 0.1
    # Neither reads text: a third is chance, to four standard errors.
    for side in (found, again):
        total = side['needle']['total_accuracy']
        assert total == pytest.approx(1 / 3, abs=0.25)
        assert np.mean(side['counting']['accuracy']) < 0.35


ARCHITECTURES = ['gpt2', 'llama', 'gemma2', 'gpt_oss', 'qwen3', 'deepseek_v2']


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_architectures(name: str) -> None:
    model = build(
        name, vocab_size=300, **{
            'n_positions' if name == 'gpt2' else 'max_position_embeddings': 160
        },
    )  # fmt: skip
    settings = ProfileSettings(questions=18, pairs=4)
    subject = Subject(
        gb.convert(model), byte_tokenizer(), settings, 3, True, (), True
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = measured(subject)
    # No room for JSON of 4 pairs and the text around it.
    assert found['key_value']['task'] == 'random tokens of the vocabulary'
    assert found['key_value']['chance'] == 0.25
    assert found['needle']['chance'] == pytest.approx(1 / 3)
    assert found['needle']['tokens'] <= 160
    assert found['copying']['lengths'] == [8, 16, 32]
    for task in ('key_value', 'needle'):
        assert all(0 <= x <= 1 for x in found[task]['accuracy'])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_seed_is_a_result() -> None:
    model = build('llama', vocab_size=300)
    results = []
    for seed in (0, 0, 1):
        settings = ProfileSettings(questions=18, pairs=4, seed=seed)
        subject = Subject(model, byte_tokenizer(), settings, 3, True, (), True)
        results.append(measured(subject))
    assert results[0] == results[1]
    assert results[0]['needle']['margin'] != results[2]['needle']['margin']


def test_tasks_are_small_and_named_alike_in_every_run() -> None:
    subject = asked(guesses, questions=256, pairs=16)
    keys = [task.key for task in SECTION.tasks(subject)]
    assert keys == [task.key for task in SECTION.tasks(subject)]
    assert len(set(keys)) == len(keys)
    assert keys.count('retrieval/needle 0.5') == 1
    assert max(task.passes for task in SECTION.tasks(subject)) < 1 << 16


def test_what_is_refused_as_a_whole() -> None:
    both = dataclasses.replace(asked(guesses), causal=False)
    with pytest.raises(NotImplementedError, match='causal model'):
        SECTION.tasks(both)
    without = dataclasses.replace(asked(guesses), tokenizer=None)
    with pytest.raises(NotImplementedError, match="got 'NoneType'"):
        SECTION.tasks(without)


def test_what_does_not_fit_is_refused_in_part() -> None:
    subject = asked(finds, context=40, pairs=3)
    tally = tallied(subject)
    reasons = tally.reasons
    assert 'needle_tokens' in reasons['retrieval/needle']
    assert 'room for 8 digits' in reasons['retrieval/copying']
    assert 'room for 8 digits' in reasons['retrieval/counting']
    found = SECTION.model(tally, subject)
    assert found is not None
    assert found['key_value']['task'] == 'random tokens of the vocabulary'
    assert found['needle'] is found['copying'] is found['counting'] is None
    assert SECTION.null(tally, subject) == {'key_value': {'chance': 1 / 3}}


def test_a_model_that_does_not_know_the_letters() -> None:
    model = build('llama')
    settings = ProfileSettings(questions=6, pairs=3)
    subject = Subject(model, byte_tokenizer(), settings, 3, True, (), False)
    tally = tallied(subject)
    for task in ('needle', 'copying', 'counting'):
        assert 'tokens the model knows' in tally.reasons[f'retrieval/{task}']
    found = SECTION.model(tally, subject)
    assert found is not None
    assert found['key_value']['questions'] == 6


def test_nothing_was_found() -> None:
    subject = asked(guesses)
    assert SECTION.model(Tally(), subject) is None
    assert SECTION.null(Tally(), subject) == {}
    assert SECTION.sampler(subject.settings) is None
    assert SECTION.name == 'retrieval'
