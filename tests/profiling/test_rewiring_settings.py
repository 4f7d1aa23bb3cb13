import math
from typing import Any

import pytest
import torch

from gnnbridge.profiling.rewiring_settings import RewiringSettings, choices
from gnnbridge.transforms.attention_sinks import AttentionSinks
from gnnbridge.transforms.causal_resistance import CausalResistanceRewiring
from gnnbridge.transforms.patterns import PATTERNS
from gnnbridge.transforms.sliding_window import SlidingWindow

SETTINGS = RewiringSettings(budget=6, sinks=2)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'budget': 0}, "'budget' to be at least 1 (got 0)"),
        ({'sinks': -1}, "'sinks' to be at least 0"),
        ({'max_tokens': 1}, "'max_tokens' to be at least 2"),
        ({'pairs': 1}, "'pairs' to be at least 2"),
        ({'questions': 0}, "'questions' to be at least 1"),
        ({'seed': -1}, "'seed' to be at least 0"),
        ({'hops': -0.5}, "'hops' to be at least 0, or inf"),
        ({'hops': math.nan}, '(got nan)'),
    ],
)
def test_settings_that_make_no_sense(change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r'Expected') as error:
        RewiringSettings(**change)
    assert said in str(error.value)


def test_settings_of_the_wrong_type() -> None:
    with pytest.raises(TypeError, match="'budget' to be an integer"):
        RewiringSettings(budget=1.5)


def test_depths_at_the_ends() -> None:
    assert RewiringSettings(hops=math.inf).hops == math.inf
    assert RewiringSettings(hops=0.0).hops == 0


@pytest.mark.parametrize('name', PATTERNS)
def test_names_are_patterns(name: str) -> None:
    [choice] = choices(name, SETTINGS)
    assert choice.name == name
    assert choice.budgeted
    assert choice.make(40, None) is not None
    # All edges of so short a sequence are within the budget.
    assert choice.make(6, None) is None


def test_a_pattern_gets_the_settings_and_the_depth() -> None:
    [sinks] = choices('sinks', SETTINGS)
    made = sinks.make(40, None)
    assert isinstance(made, AttentionSinks)
    assert (made.window, made.sinks) == (4, 2)
    [greedy] = choices('causal-resistance', SETTINGS)
    made = greedy.make(40, 1.25)
    assert isinstance(made, CausalResistanceRewiring)
    assert (made.hops, made.edges_per_token) == (1.25, 6)


def test_anything_that_rewire_takes() -> None:
    window = SlidingWindow(3)
    edges = torch.tensor([[0], [1]])
    for what, name in (
        (window, 'SlidingWindow'),
        (edges, 'Tensor'),
        ({0: window}, 'dict'),
    ):
        [choice] = choices(what, SETTINGS)
        assert choice.name == name
        assert not choice.budgeted
        assert choice.make(2, None) is what


def test_several_by_name() -> None:
    window = SlidingWindow(3)
    found = choices({'a': 'sinks', 'b': window}, SETTINGS)
    assert [choice.name for choice in found] == ['a', 'b']
    assert [choice.budgeted for choice in found] == [True, False]


@pytest.mark.parametrize(
    ('transforms', 'said'),
    [
        ('nope', r'to be one of .*got \'nope\''),
        ({'a': 'nope'}, r'got \'nope\''),
        ({}, r'names of transforms'),
        ({'before': 'sinks'}, r"other than 'before'"),
    ],
)
def test_names_that_there_are_not(transforms: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choices(transforms, SETTINGS)


def test_a_budget_without_room_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match='more than the number of sinks'):
        choices('sinks', RewiringSettings(budget=2, sinks=2))
