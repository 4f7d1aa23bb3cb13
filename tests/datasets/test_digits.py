import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.datasets.digits import DigitBatch, copy_digits, count_digits

fixed = settings(deadline=None, max_examples=25, derandomize=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def answers(batch: DigitBatch) -> list[int]:
    found = batch.candidates.gather(1, batch.right.unsqueeze(1))
    return found.flatten().tolist()


@pytest.mark.parametrize(('which', 'at'), [('first', 0), ('last', -1)])
@pytest.mark.parametrize('length', [2, 3, 50])
def test_one_end_differs_from_all_the_rest(
    which: str, at: int, length: int
) -> None:
    batch = copy_digits(20, length, which=which, generator=seeded())
    assert batch.digits.shape == (20, length)
    assert batch.task == which
    rows = zip(
        batch.digits.tolist(), answers(batch), batch.candidates.tolist(),
        strict=True,
    )  # fmt: skip
    for digits, answer, candidates in rows:
        assert digits.pop(at) == answer
        (rest,) = set(digits)
        assert rest != answer
        assert candidates == sorted([rest, answer])


@pytest.mark.parametrize('which', ['first', 'last'])
def test_to_prefer_a_digit_is_right_half_of_the_time(which: str) -> None:
    batch = copy_digits(90, 7, which=which, generator=seeded())
    # For any order of preference among the digits.
    order = torch.randperm(10, generator=seeded(1))
    preferred = order[batch.candidates].argmax(1)
    assert int((preferred == batch.right).sum()) == 45
    assert len({tuple(row) for row in batch.digits.tolist()}) == 90


def test_two_digits_are_the_sequences_of_the_paper() -> None:
    last = copy_digits(4, 4, num_digits=2, generator=seeded())
    assert sorted(last.digits.tolist()) == [
        [0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 0], [1, 1, 1, 0],
    ]  # fmt: skip
    first = copy_digits(2, 4, which='first', num_digits=2, generator=seeded())
    assert sorted(first.digits.tolist()) == [[0, 1, 1, 1], [1, 0, 0, 0]]
    assert last.candidates.tolist() == [[0, 1]] * 4


@given(
    seed=st.integers(0, 999),
    length=st.integers(4, 60),
    size=st.integers(2, 5),
)
@fixed
def test_the_right_candidate_is_the_number_of_ones(
    seed: int, length: int, size: int
) -> None:
    batch = count_digits(9, length, num_candidates=size, generator=seeded(seed))
    assert batch.digits.shape == (9, length)
    assert set(batch.digits.flatten().tolist()) <= {0, 1}
    assert answers(batch) == batch.digits.sum(1).tolist()
    assert bool((batch.candidates.diff(dim=1) == 1).all())
    assert batch.candidates.shape == (9, size)
    assert int(batch.candidates.min()) >= 0
    assert int(batch.candidates.max()) <= length


def test_no_place_among_the_candidates_is_better() -> None:
    batch = count_digits(4000, 40, generator=seeded())
    share = torch.bincount(batch.right, minlength=9) / 4000
    # Four standard errors of 4000 draws with probability 1/9.
    assert (share - 1 / 9).abs().max() < 0.02
    # Nor is it told by where the candidates start.
    start = batch.candidates[:, 0].double()
    both = torch.stack([start, batch.right.double()])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.064


def test_ones_are_anywhere() -> None:
    batch = count_digits(4000, 10, generator=seeded(3))
    share = batch.digits.double().mean(0)
    # Counts from 0 to 10, 5 on average; four standard errors.
    assert (share - 0.5).abs().max() < 0.032


def test_all_counts_of_a_short_sequence() -> None:
    batch = count_digits(300, 8, generator=seeded())
    assert set(answers(batch)) == set(range(9))
    assert batch.candidates[0].tolist() == list(range(9))


@pytest.mark.parametrize('which', ['first', 'last'])
def test_copying_as_text(which: str) -> None:
    batch = copy_digits(6, 5, which=which, generator=seeded())
    at = 0 if which == 'first' else -1
    pattern = rf'Digits: ([\d ]+)\. {which.title()} digit:'
    for row, prompt in enumerate(batch.prompts()):
        *shown, asked = prompt.text.split('\n')
        for line in shown:
            example = re.fullmatch(rf'{pattern} (\d)\.', line)
            assert example is not None
            assert example[1].split()[at] == example[2]
        found = re.fullmatch(pattern, asked)
        assert found is not None
        digits = list(map(int, found[1].split()))
        assert digits == batch.digits[row].tolist()
        assert {*prompt.candidates} == {f' {d}' for d in digits}
        assert prompt.candidates[prompt.right] == f' {digits[at]}'
        assert prompt.place == (0 if which == 'first' else 4)
    # One example repeats the end that is asked for, the other does not.
    ends = [line.split('. ')[0].split()[1:] for line in shown]
    assert {x.count(x[at]) for x in ends} == {1, 2}


def test_counting_as_text() -> None:
    batch = count_digits(4, 12, generator=seeded())
    for row, prompt in enumerate(batch.prompts()):
        *shown, asked = prompt.text.split('\n')
        for line in shown:
            example = re.fullmatch(r'Digits: ([01 ]+)\. Ones: (\d)\.', line)
            assert example is not None
            assert example[1].count('1') == int(example[2])
        found = re.fullmatch(r'Digits: ([01 ]+)\. Ones:', asked)
        assert found is not None
        assert found[1].count('1') == int(batch.digits[row].sum())
        # No candidate is the start of another.
        assert all(re.fullmatch(r' \d+\.', c) for c in prompt.candidates)
        right = prompt.candidates[prompt.right]
        assert right == f' {found[1].count("1")}.'
        assert prompt.place == -1


def test_a_decoder_of_bytes_reads_the_digits() -> None:
    batch = count_digits(3, 12, generator=seeded())
    ids = batch.digits + ord('0')
    for row, prompt in zip(ids.tolist(), batch.prompts(), strict=True):
        spaced = ' '.join(bytes(row).decode())
        assert f'Digits: {spaced}. Ones:' in prompt.text


def test_a_seed_is_a_batch() -> None:
    first, same, other = (
        count_digits(5, 20, generator=seeded(s)).digits for s in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="'first' or 'last'"):
        copy_digits(1, 5, which='middle', generator=seeded())  # type: ignore
    with pytest.raises(ValueError, match=r'at least 2 \(got 1'):
        copy_digits(1, 1, generator=seeded())
    for digits in (1, 11):
        with pytest.raises(ValueError, match="'num_digits' between 2 and 10"):
            copy_digits(1, 5, num_digits=digits, generator=seeded())
    with pytest.raises(ValueError, match=r'at least 8 \(got 7'):
        count_digits(1, 7, generator=seeded())
    with pytest.raises(ValueError, match="'num_candidates' to be at least 2"):
        count_digits(1, 7, num_candidates=1, generator=seeded())
