"""Tasks on stochastic block models."""

from __future__ import annotations

from functools import partial

from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.draws import Counts, drawn
from gnnbridge.datasets.graphs.block_model import (
    FEATURES,
    contextual_blocks,
    labelled_blocks,
)


def sbm_cluster_task(
    *,
    num_blocks: int = 4,
    block_sizes: tuple[int, int] = (5, 10),
    inside: float = 0.6,
    across: float = 0.1,
    graphs: Counts = (100, 100, 200),
) -> Task:
    """The block of each node, of which one node in each block tells it.

    Smaller than the CLUSTER of Dwivedi et al. (6 blocks of 5 to 34 nodes with
    0.55 and 0.25), and clearer, since small blocks leave fewer edges to go by.

    Args:
        num_blocks: The number of blocks.
        block_sizes: The smallest and the largest number of nodes of a block.
        inside: How probable an edge within a block is.
        across: How probable one between blocks is.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        labelled_blocks,
        num_blocks=num_blocks,
        block_sizes=block_sizes,
        inside=inside,
        across=across,
    )
    return Task(
        name='sbm_cluster',
        about=(
            'To which block does a node belong, where one node of each tells '
            'it? (CLUSTER of Dwivedi et al. 2020, smaller)'
        ),
        level='node',
        metric='accuracy',
        outputs=num_blocks,
        features=(num_blocks + 1,),
        layers=4,
        # Blocks are interchangeable.
        chance=1 / num_blocks,
        load=drawn(draw, graphs),
    )


def csbm_task(
    *,
    size: int = 30,
    degree: float = 6,
    homophily: float = 0.8,
    signal: float = 0.5,
    graphs: Counts = (100, 100, 200),
) -> Task:
    """The block of each node, of which its own features say a little.

    Args:
        size: The number of nodes, half of them in either block.
        degree: The number of neighbours of a node on average.
        homophily: Which share of them are of its own block.
        signal: How far apart the blocks' features are, in noise: a node alone
            is told right in 69 % of the cases with 0.5.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        contextual_blocks,
        size=size,
        degree=degree,
        homophily=homophily,
        signal=signal,
    )
    return Task(
        name='csbm',
        about=(
            'To which of two blocks does a node with noisy features belong? '
            '(Deshpande et al. 2018)'
        ),
        level='node',
        metric='accuracy',
        outputs=2,
        features=FEATURES,
        layers=3,
        chance=1 / 2,
        load=drawn(draw, graphs),
    )
