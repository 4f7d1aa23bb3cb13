import pytest

from gnnbridge.bench.cells import Cell, Effort, Suite


def test_tasks_may_take_other_steps():
    suite = Suite('x', (Cell('csbm', 'gcn'),), Effort(steps=10), {'csbm': 4})
    assert suite.effort_of('csbm') == Effort(steps=4)
    assert suite.effort_of('key_value') == Effort(steps=10)


def test_cells_are_different():
    with pytest.raises(ValueError, match="'cells' to be different"):
        Suite('x', (Cell('csbm', 'gcn'),) * 2, Effort(steps=1))


@pytest.mark.parametrize('name', ['steps', 'draws', 'seeds', 'budget'])
def test_an_effort_is_positive(name):
    with pytest.raises(ValueError, match=f"'{name}' to be at least 1"):
        Effort(**{'steps': 5, name: 0})
