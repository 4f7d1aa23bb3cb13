from collections import Counter

import pytest

from gnnbridge.bench.cells import Cell, Effort, Suite
from gnnbridge.bench.models.registry import MODELS
from gnnbridge.bench.rewirings import REWIRINGS
from gnnbridge.bench.suites import (
    REWIRED,
    SUITES,
    SYNTHETIC,
    select,
    with_effort,
)
from gnnbridge.bench.tasks.registry import TASKS
from gnnbridge.bench.tasks.stored import STORED_TASKS


@pytest.mark.parametrize('name', list(SUITES))
def test_suites_hold_known_names_and_every_control(name):
    suite = SUITES[name]
    assert suite.name == name
    cells = set(suite.cells)
    for cell in cells:
        assert cell.task in TASKS
        assert cell.model in MODELS
        assert cell.rewiring in REWIRINGS
        assert Cell(cell.task, cell.model) in cells
    assert set(suite.steps) <= {cell.task for cell in cells}


def test_quick_has_every_model_and_some_rewirings():
    suite = SUITES['quick']
    assert {cell.model for cell in suite.cells} == set(MODELS)
    assert len({cell.rewiring for cell in suite.cells}) > 2
    assert suite.effort.seeds == 2
    assert not {cell.task for cell in suite.cells} & set(STORED_TASKS)


def test_default_crosses_what_it_says():
    suite = SUITES['default']
    assert suite.effort.seeds >= 5
    plain = {(c.task, c.model) for c in suite.cells if c.rewiring == 'none'}
    assert plain == {(task, model) for task in SYNTHETIC for model in MODELS}
    crossed = Counter(c.task for c in suite.cells if c.rewiring != 'none')
    assert len(crossed) >= 2
    assert set(crossed.values()) == {len(MODELS) * len(REWIRED)}


def test_full_crosses_everything():
    suite = SUITES['full']
    cells = len(TASKS) * len(MODELS) * len(REWIRINGS)
    assert len(suite.cells) == cells


def test_with_effort_leaves_what_is_none():
    suite = Suite('x', (Cell('csbm', 'gcn'),), Effort(steps=10), {'csbm': 4})
    assert with_effort(suite, seeds=3, draws=None).effort_of('csbm') == Effort(
        steps=4, seeds=3
    )
    # Steps that are asked for hold for every task.
    assert with_effort(suite, steps=7).effort_of('csbm').steps == 7
    with pytest.raises(ValueError, match="'draws' to be at least 1"):
        with_effort(suite, draws=0)


def test_select_keeps_what_the_suite_has():
    suite = SUITES['default']
    assert set(select(suite).cells) == set(suite.cells)
    cells = select(suite, tasks=['csbm'], models=['gcn', 'gps']).cells
    assert set(cells) == {
        Cell('csbm', model, rewiring)
        for model in ('gcn', 'gps')
        for rewiring in ('none', *REWIRED)
    }


def test_select_adds_what_is_named():
    suite = SUITES['quick']
    cells = select(suite, tasks=['cora'], models=['gin']).cells
    assert cells == (Cell('cora', 'gin'),)
    cells = select(
        suite, tasks=['cora', 'csbm'], models=['gin'], rewirings=['gtr']
    ).cells
    assert set(cells) == {
        Cell(task, 'gin', rewiring)
        for task in ('cora', 'csbm')
        for rewiring in ('none', 'gtr')
    }
    alone = select(suite, rewirings=['none', 'none']).cells
    assert {cell.rewiring for cell in alone} == {'none'}
    assert len(alone) == 3 * len(MODELS)


@pytest.mark.parametrize(
    ('asked', 'known'),
    [
        ({'tasks': ['mnist']}, 'a task to be one of ring_transfer, .*mnist'),
        ({'models': ['mlp']}, 'a model to be one of gcn, .*mlp'),
        ({'rewirings': ['digl']}, 'a rewiring to be one of none, .*digl'),
    ],
)
def test_unknown_names_are_told_with_the_known_ones(asked, known):
    with pytest.raises(ValueError, match=known):
        select(SUITES['quick'], **asked)
