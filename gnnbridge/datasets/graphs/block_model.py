r"""Stochastic block models: to which block does a node belong?

:func:`labelled_blocks` is the CLUSTER task of `Dwivedi et al., 2020,
"Benchmarking Graph Neural Networks" <https://arxiv.org/abs/2003.00982>`_:
one node of each block says to which it belongs, and the structure must tell
the rest. :func:`contextual_blocks` is the contextual model of `Deshpande et
al., 2018, "Contextual Stochastic Block Models"
<https://arxiv.org/abs/1807.09596>`_: features of all nodes say a little, and
neighbours agree (homophily) or disagree.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_size

#: The number of features of a node of the contextual model.
FEATURES = 8


def labelled_blocks(
    num_graphs: int,
    *,
    num_blocks: int,
    block_sizes: tuple[int, int],
    inside: float,
    across: float,
    generator: Generator,
) -> list[Data]:
    """Draws graphs in which one node of each block tells its block.

    The nodes that tell are not asked; Dwivedi et al. count them too.

    Args:
        num_graphs: The number of graphs.
        num_blocks: The number of blocks, at least 2; theirs is 6.
        block_sizes: The smallest and the largest number of nodes of a block,
            at least 2; theirs are 5 and 34.
        inside: How probable an edge within a block is; theirs is 0.55.
        across: How probable one between blocks is; theirs is 0.25.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[N, 1]`` int64: the block from 1 where a node tells it,
        else 0. ``y`` holds blocks from 0, int64.

    Raises:
        ValueError: If a size is too small or a probability is none.
    """
    check_size('num_graphs', num_graphs)
    check_size('num_blocks', num_blocks, 2)
    smallest = check_size('block_sizes', block_sizes[0], 2)
    largest = check_size('block_sizes', block_sizes[1], smallest)
    _check_share('inside', inside)
    _check_share('across', across)
    graphs = []
    for _ in range(num_graphs):
        counts = torch.randint(
            smallest, largest + 1, (num_blocks,), generator=generator
        )
        block = torch.arange(num_blocks).repeat_interleave(counts)
        block = block[torch.randperm(len(block), generator=generator)]
        member = block == torch.arange(num_blocks).unsqueeze(1)
        lot = torch.rand(len(block), generator=generator)
        telling = (member * (1 + lot)).argmax(1)
        x = torch.zeros_like(block)
        x[telling] = block[telling] + 1
        graphs.append(
            Data(
                x=x.unsqueeze(1),
                edge_index=_block_edges(block, inside, across, generator),
                y=block[x == 0],
                target_mask=x == 0,
            )
        )
    return graphs


def contextual_blocks(
    num_graphs: int,
    *,
    size: int,
    degree: float,
    homophily: float,
    signal: float,
    generator: Generator,
) -> list[Data]:
    r"""Draws graphs of two blocks whose nodes have noisy features.

    .. math::
        x_i = \pm \mu \, u + \varepsilon_i, \quad
        \varepsilon_i \sim \mathcal{N}(0, I)

    with the sign of the node's block and one direction :math:`u` of length 1
    for all graphs, where Deshpande et al. draw one for each. A node alone is
    told right with probability :math:`\Phi(\mu)`.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes of each, half of them of either block; even
            and at least 4.
        degree: How many neighbours a node has on average.
        homophily: Which share of them are of its own block.
        signal: The length :math:`\mu` of the blocks' mean features.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[size, 8]`` float32, ``y`` ``[size]`` int64.

    Raises:
        ValueError: If ``size`` is odd or too small, ``homophily`` is not from
            0 to 1, or there are not as many neighbours to have.
    """
    check_size('num_graphs', num_graphs)
    if check_size('size', size, 4) % 2:
        raise ValueError(f"Expected 'size' to be even (got {size}).")
    _check_share('homophily', homophily)
    inside = homophily * degree / (size // 2 - 1)
    across = (1 - homophily) * degree / (size // 2)
    if degree < 0 or max(inside, across) > 1:
        raise ValueError(
            f"Expected 'degree' to be what a node of {size} can have with a "
            f'homophily of {homophily} (got {degree}). Use fewer neighbours.'
        )
    direction = torch.full((FEATURES,), FEATURES**-0.5)
    graphs = []
    for _ in range(num_graphs):
        block = torch.randperm(size, generator=generator) % 2
        noise = torch.randn(size, FEATURES, generator=generator)
        mean = signal * (2 * block - 1).unsqueeze(1) * direction
        graphs.append(
            Data(
                x=mean + noise,
                edge_index=_block_edges(block, inside, across, generator),
                y=block,
                target_mask=torch.ones(size, dtype=torch.bool),
            )
        )
    return graphs


def _block_edges(
    block: Tensor, inside: float, across: float, generator: Generator
) -> Tensor:
    same = block.unsqueeze(0) == block.unsqueeze(1)
    drawn = torch.rand(same.shape, generator=generator)
    upper = (drawn < torch.where(same, inside, across)).triu(1)
    # Symmetric, so that rows may be read as targets.
    return (upper | upper.T).nonzero().T.flip(0).contiguous()


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"Expected '{name}' to be from 0 to 1 (got {value}).")
