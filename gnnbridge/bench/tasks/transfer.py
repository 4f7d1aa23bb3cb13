"""Tasks that carry information over a distance or through a bottleneck."""

from __future__ import annotations

from functools import partial

from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.draws import Counts, drawn
from gnnbridge.datasets.graphs.transfer import (
    clique_path_transfer,
    directed_path_transfer,
    lollipop_transfer,
    ring_transfer,
)
from gnnbridge.datasets.graphs.tree_neighbors import tree_neighbors_match

_PAPERS = 'Bodnar et al. 2021, Di Giovanni et al. 2023'


def ring_transfer_task(
    *,
    size: int = 10,
    num_classes: int = 5,
    crossed: bool = False,
    spread: float = 0.3,
    graphs: Counts = (200, 100, 200),
) -> Task:
    """The class of the opposite node of a ring.

    Args:
        size: The number of nodes.
        num_classes: The number of classes.
        crossed: Whether chords join the two ways.
        spread: Standard deviation of what makes graphs of one class differ.
            The papers have none: with 0 the graphs of a class are equal, in
            all parts.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        ring_transfer,
        size=size,
        num_classes=num_classes,
        crossed=crossed,
        spread=spread,
    )
    return Task(
        name='ring_transfer',
        about=f'Which class has the opposite node of a ring? ({_PAPERS})',
        level='node',
        metric='accuracy',
        outputs=num_classes,
        features=num_classes,
        layers=size // 2,
        chance=1 / num_classes,
        load=drawn(draw, graphs, distinct=spread > 0, renumber=True),
    )


def clique_path_task(
    *,
    size: int = 10,
    num_classes: int = 5,
    spread: float = 0.3,
    graphs: Counts = (200, 100, 200),
) -> Task:
    """The class at the far end of a path, asked in the clique it starts at.

    Args:
        size: The number of nodes, half of them in the clique.
        num_classes: The number of classes.
        spread: Standard deviation of what makes graphs of one class differ;
            the paper has none.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        clique_path_transfer, size=size, num_classes=num_classes, spread=spread
    )
    return Task(
        name='clique_path',
        about=(
            'Asked in a clique: which class is at the far end of the path '
            'that starts there? (Di Giovanni et al. 2023)'
        ),
        level='node',
        metric='accuracy',
        outputs=num_classes,
        features=num_classes,
        layers=size - size // 2 + 1,
        chance=1 / num_classes,
        load=drawn(draw, graphs, distinct=spread > 0, renumber=True),
    )


def lollipop_transfer_task(
    *,
    size: int = 10,
    num_classes: int = 5,
    spread: float = 0.3,
    graphs: Counts = (200, 100, 200),
) -> Task:
    """The class in a clique, asked at the far end of a path from it.

    Args:
        size: The number of nodes, half of them in the clique.
        num_classes: The number of classes.
        spread: Standard deviation of what makes graphs of one class differ.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        lollipop_transfer, size=size, num_classes=num_classes, spread=spread
    )
    return Task(
        name='lollipop_transfer',
        about=(
            'Asked at the end of a path: which class is in the clique it '
            'starts at? (clique_path the other way round)'
        ),
        level='node',
        metric='accuracy',
        outputs=num_classes,
        features=num_classes,
        layers=size - size // 2 + 1,
        chance=1 / num_classes,
        load=drawn(draw, graphs, distinct=spread > 0, renumber=True),
    )


def directed_path_task(
    *,
    size: int = 6,
    branches: int = 4,
    num_classes: int = 5,
    graphs: Counts = (200, 100, 200),
) -> Task:
    """The class of the first node of a directed path.

    Args:
        size: The number of nodes of the path.
        branches: How many leaves with other classes leave it.
        num_classes: The number of classes.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        directed_path_transfer,
        size=size,
        branches=branches,
        num_classes=num_classes,
    )
    return Task(
        name='directed_path',
        about=(
            'Which class has the first node of a directed path, from which '
            'leaves of other classes branch off? (this package)'
        ),
        level='node',
        metric='accuracy',
        outputs=num_classes,
        features=num_classes,
        layers=size - 1,
        chance=1 / num_classes,
        load=drawn(draw, graphs),
        directed=True,
    )


def tree_neighbors_task(
    *,
    depth: int = 3,
    directed: bool = True,
    graphs: Counts = (1600, 100, 200),
) -> Task:
    """The value of the leaf with the root's key.

    Args:
        depth: The depth of the tree.
        directed: Whether edges lead to the root only, as in the paper's code.
        graphs: How many to train on, to choose by, and to report. There are
            no more than 96 of depth 2; a few hundred are learned by heart.
    """
    leaves = 2**depth
    draw = partial(tree_neighbors_match, depth=depth, directed=directed)
    return Task(
        name='tree_neighbors',
        about=(
            'Which value has the leaf of a binary tree that has the key of '
            'its root? (Alon and Yahav 2021)'
        ),
        level='node',
        metric='accuracy',
        outputs=leaves,
        features=(leaves + 1, leaves + 1),
        # As in the paper's code: one more than it takes to reach the root.
        layers=depth + 1,
        chance=1 / leaves,
        load=drawn(draw, graphs),
        directed=directed,
    )
