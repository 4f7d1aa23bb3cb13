import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from gnnbridge.diagnostics.position_bias import (
    duplicate_key_preference,
    noise_stress,
    position_bias,
    position_correlation,
)
from gnnbridge.diagnostics.runway import runway_asymmetry

FEW = settings(max_examples=25, deadline=None, derandomize=True)


@FEW
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_correlation_equals_scipy_with_ties(values: list[int]) -> None:
    found = position_correlation(torch.tensor(values)).item()
    if len(set(values)) == 1:
        assert math.isnan(found)
    else:
        expected = spearmanr(range(len(values)), values).statistic
        assert found == pytest.approx(expected, abs=1e-12)


def test_correlation_leaves_gaps_out() -> None:
    rows = torch.tensor([[3.0, math.nan, 2, 1], [math.nan, 1, math.nan, 0]])
    assert position_correlation(rows).tolist() == pytest.approx([-1.0, -1.0])
    assert math.isnan(position_correlation(torch.tensor([1.0])).item())


def test_summary_of_a_primacy_tail_with_a_last_spike() -> None:
    influence = torch.tensor([8.0, 4, 2, 1, 0.5, 4.5]) / 20
    batch = torch.stack([influence, influence.flip(0)]).expand(3, 2, 6)
    found = position_bias(batch)
    assert found.spearman.shape == (3, 2)
    assert found.weakest[0].tolist() == [4, 1]
    torch.testing.assert_close(
        found.thirds[0, 0], torch.tensor([12.0, 3, 5]).double() / 20
    )
    expected = spearmanr(range(6), influence).statistic
    assert found.spearman[0].tolist() == pytest.approx([expected, -expected])
    for row in (0, 1):
        assert found.asymmetry[1, row].item() == pytest.approx(
            runway_asymmetry(batch[1, row])
        )


def test_thirds_put_the_rest_in_the_middle_and_need_no_norm() -> None:
    found = position_bias(torch.full((8,), 7.0))
    assert found.thirds.tolist() == [2 / 8, 4 / 8, 2 / 8]
    assert math.isnan(found.spearman.item())
    assert found.weakest.item() == 0
    assert found.thirds.sum().item() == 1


def test_bad_influence_is_named() -> None:
    for influence in (torch.tensor(1.0), torch.empty(3, 0)):
        with pytest.raises(ValueError, match='at least one position'):
            position_bias(influence)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match='finite and not negative'):
            position_bias(torch.tensor([1.0, bad]))


def test_preference_counts_who_was_named() -> None:
    values = torch.tensor([[1, 2]] * 4 + [[3, 4]] * 4 + [[5, 6]] * 2)
    answers = torch.tensor([1, 1, 1, 2, 3, 4, 4, 9, 0, 0])
    comparison = torch.tensor([0] * 4 + [1] * 4 + [2] * 2)
    found = duplicate_key_preference(
        answers, values, comparison, num_comparisons=4
    )
    assert found.count.tolist() == [4, 4, 2, 0]
    nan = math.nan
    for name, expected in {
        'earlier': [0.75, 0.25, 0, nan],
        'later': [0.25, 0.5, 0, nan],
        'gap': [0.5, -0.25, 0, nan],
        'answered': [1.0, 0.75, 0, nan],
        'preferred': [0.75, 1 / 3, nan, nan],
    }.items():
        assert getattr(found, name).tolist() == pytest.approx(
            expected, nan_ok=True
        )


@FEW
@given(st.integers(0, 999))
def test_the_gap_is_that_of_two_accuracies(seed: int) -> None:
    """acc[a, b] - acc[b, a] of Wu et al., by two separate counts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randint(4, shape, generator=generator)

    values = torch.stack([draw(30), 4 + draw(30)], dim=1)
    answers = values.gather(1, draw(30, 1) % 2).squeeze(1)
    answers = torch.where(draw(30) == 0, 9, answers)
    gap = np.mean([a == p for a, (p, _) in zip(answers, values, strict=True)])
    gap -= np.mean([a == q for a, (_, q) in zip(answers, values, strict=True)])
    found = duplicate_key_preference(answers, values)
    assert found.gap.tolist() == pytest.approx([gap])
    swapped = duplicate_key_preference(answers, values.flip(1))
    assert swapped.gap.tolist() == pytest.approx([-gap])


def test_bad_answers_are_named() -> None:
    answers = torch.tensor([1, 2])
    with pytest.raises(ValueError, match='two different'):
        duplicate_key_preference(answers, torch.tensor([[1, 2], [3, 3]]))
    with pytest.raises(ValueError, match=r"'values' \[B, 2\]"):
        duplicate_key_preference(answers, torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="'comparison'"):
        duplicate_key_preference(
            answers, torch.tensor([[1, 2], [1, 2]]), torch.tensor([0])
        )


def test_stress_is_accuracy_by_place() -> None:
    gold = torch.tensor([[0, 1, 2], [2, 1, 0]])
    right = torch.tensor(
        [
            [[True, True, True], [True, True, True]],
            [[True, True, False], [False, False, True]],
        ]
    )
    found = noise_stress(right, gold, 4)
    assert found.accuracy[:, :3].tolist() == [[1, 1, 1], [1, 0.5, 0]]
    assert found.accuracy[:, 3].isnan().all()
    assert math.isnan(found.spearman[0].item())
    assert found.spearman[1].item() == pytest.approx(-1)
    with pytest.raises(ValueError, match=r"'right' \[K, B, Q\]"):
        noise_stress(right[0], gold, 4)
