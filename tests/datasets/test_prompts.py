import json
import re
import uuid
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.datasets.prompts import (
    Haystack,
    Prompt,
    json_retrieval,
    needle_prompts,
)
from gnnbridge.datasets.text import sample_text

fixed = settings(deadline=None, max_examples=25, derandomize=True)
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read_json(prompt: Prompt) -> tuple[dict[str, str], str]:
    """The object and the key, by Python's own reader."""
    start, end = prompt.text.index('{'), prompt.text.index('}') + 1
    found = re.fullmatch(r'\n\nKey: "(.*)"\nValue:', prompt.text[end:])
    assert found is not None
    return json.loads(prompt.text[start:end]), found[1]


def read_needles(prompt: Prompt) -> tuple[dict[str, str], str]:
    """The codes of towns in the text, and the town that is asked for."""
    body, _, question = prompt.text.rpartition('\n')
    found = re.fullmatch(r'The code of (\w+) is', question)
    assert found is not None
    needles = re.findall(r'^The code of (\w+) is (\d{4})\.$', body, re.M)
    return dict(needles), found[1]


@given(
    seed=st.integers(0, 999),
    pairs=st.integers(1, 12),
    digits=st.sampled_from([4, 8, 32]),
)
@fixed
def test_the_value_of_the_key_is_the_right_candidate(
    seed: int, pairs: int, digits: int
) -> None:
    drawn = json_retrieval(5, pairs, hex_digits=digits, generator=seeded(seed))
    for number, prompt in enumerate(drawn):
        bound, asked = read_json(prompt)
        assert len(bound) == pairs
        assert [json.loads(c) for c in prompt.candidates] == [*bound.values()]
        assert all(c.startswith(' "') for c in prompt.candidates)
        answer = prompt.candidates[prompt.right]
        assert json.loads(answer) == bound[asked]
        assert prompt.place == prompt.right == number % pairs
        words = [*bound, *bound.values()]
        assert len(set(words)) == 2 * pairs


@given(seed=st.integers(0, 999), pairs=st.integers(1, 12))
@fixed
def test_the_key_of_the_control_is_not_there(seed: int, pairs: int) -> None:
    drawn = json_retrieval(4, pairs, bound=False, generator=seeded(seed))
    for prompt in drawn:
        bound, asked = read_json(prompt)
        assert asked not in prompt.text.split('Key:')[0]
        assert len(asked) == 8
        assert prompt.right == prompt.place == -1
        assert len(prompt.candidates) == len(bound) == pairs


def test_long_words_are_uuids() -> None:
    (prompt,) = json_retrieval(1, 3, hex_digits=32, generator=seeded())
    bound, _ = read_json(prompt)
    for word in [*bound, *bound.values()]:
        assert str(uuid.UUID(word)) == word


def test_short_words_leave_room() -> None:
    short, long = (
        len(json_retrieval(1, 16, hex_digits=d, generator=seeded())[0].text)
        for d in (8, 32)
    )
    assert short < 500
    assert long > 1200


@pytest.mark.parametrize(('pairs', 'digits'), [(0, 8), (1, 0), (8, 1), (32, 2)])
def test_too_few_words(pairs: int, digits: int) -> None:
    with pytest.raises(ValueError, match='Use more digits'):
        json_retrieval(1, pairs, hex_digits=digits, generator=seeded())


@given(
    seed=st.integers(0, 999),
    place=st.integers(0, 4),
    characters=st.integers(0, 2000),
    others=st.integers(1, 4),
)
@fixed
def test_the_needle_that_is_asked_for_lies_at_its_depth(
    seed: int, place: int, characters: int, others: int
) -> None:
    haystack = Haystack(GRID, characters, others)
    for prompt in needle_prompts(3, place, haystack, generator=seeded(seed)):
        codes, asked = read_needles(prompt)
        assert len(codes) == len(set(codes.values())) == others + 1
        assert prompt.right == 0
        assert prompt.place == place
        assert prompt.candidates[0] == f' {codes[asked]}'
        assert {c.strip() for c in prompt.candidates} == {*codes.values()}
        lines = prompt.text.split('\n')[:-1]
        hay = [x for x in lines if not x.startswith('The code of')]
        before = lines[: lines.index(f'The code of {asked} is {codes[asked]}.')]
        above = sum(len(x.split()) for x in before if x in hay)
        words = sum(len(x.split()) for x in hay)
        assert above == round(GRID[place] * words)
        assert len(' '.join(hay)) <= characters
        # The next word would not have fitted: none has more than 15 letters.
        assert len(' '.join(hay)) >= characters - 18


@given(seed=st.integers(0, 999), place=st.integers(0, 4))
@fixed
def test_the_town_of_the_control_has_no_code(seed: int, place: int) -> None:
    haystack = Haystack(GRID, 300)
    drawn = needle_prompts(
        4, place, haystack, bound=False, generator=seeded(seed)
    )
    for prompt in drawn:
        codes, asked = read_needles(prompt)
        assert asked not in codes
        assert prompt.right == prompt.place == -1
        assert {c.strip() for c in prompt.candidates} == {*codes.values()}


def test_the_needle_of_a_control_lies_at_the_place_too() -> None:
    haystack = Haystack((0.0, 0.5, 1.0), 200, others=1)
    for place, at in ((0, 0), (2, -1)):
        for bound in (True, False):
            drawn = needle_prompts(
                6, place, haystack, bound=bound, generator=seeded()
            )
            for prompt in drawn:
                line = prompt.text.split('\n')[:-1][at]
                assert line.endswith(f' is{prompt.candidates[0]}.')


def test_the_other_needles_are_anywhere_else() -> None:
    haystack = Haystack(tuple(x / 8 for x in range(9)), 400)
    lines: Counter[int] = Counter()
    for prompt in needle_prompts(200, 4, haystack, generator=seeded()):
        # How many of the three others are above it.
        order = [prompt.text.index(f'{c}.') for c in prompt.candidates]
        lines[sum(x < order[0] for x in order[1:])] += 1
    # Three of eight places, half of them above: 1/14, 3/7, 3/7, 1/14.
    for above, share in enumerate((1 / 14, 3 / 7, 3 / 7, 1 / 14)):
        # Three standard errors of 200 draws are at most .105.
        assert lines[above] / 200 == pytest.approx(share, abs=0.105)


def test_the_text_is_the_sample_or_what_is_given() -> None:
    (own,) = needle_prompts(
        1, 0, Haystack((0.0, 1.0), 90, 1, 'hay straw'), generator=seeded()
    )
    hay = [x for x in own.text.split('\n') if not x.startswith('The code')]
    assert set(' '.join(hay).split()) == {'hay', 'straw'}
    (sample,) = needle_prompts(
        1, 0, Haystack((0.0, 1.0), 90, 1), generator=seeded()
    )
    lines = sample.text.split('\n')
    hay_line = next(x for x in lines if not x.startswith('The code'))
    around = ' '.join(sample_text().split() * 2)
    assert hay_line in around


@pytest.mark.parametrize(
    ('draw', 'options'),
    [
        (json_retrieval, (4, 6)),
        (needle_prompts, (4, 1, Haystack(GRID, 200))),
    ],
)
def test_a_seed_is_a_prompt(draw: Any, options: tuple[Any, ...]) -> None:
    first, same, other = (
        draw(*options, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert first == same
    assert first != other
    assert len(set(first)) == 4
    assert all(not prompt.text.endswith(' ') for prompt in first)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (((), 10), "'depths' between 0 and 1"),
        (((0.0, 1.5), 10, 1), "'depths' between 0 and 1"),
        (((0.0, 1.0), 10, 2), "'others' between 1 and 1"),
        ((GRID, 10, 0), "'others' between 1 and 4"),
        ((tuple(x / 30 for x in range(31)), 10, 15), "'others' between 1"),
        ((GRID, -1), 'not to be negative'),
        ((GRID, 10, 3, ' \n'), "words in 'filler'"),
    ],
)
def test_what_is_no_haystack(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Haystack(*arguments)


@pytest.mark.parametrize('place', [-1, 5])
def test_no_such_place(place: int) -> None:
    with pytest.raises(ValueError, match='one of the 5 depths'):
        needle_prompts(1, place, Haystack(GRID, 10), generator=seeded())
