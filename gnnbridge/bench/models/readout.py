"""From the last states to the answers that a task asks for."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_mean_pool

from gnnbridge.bench.task import Level


class Readout(nn.Module):
    """The asked nodes, or the mean over the nodes of each graph, then linear.

    Nodes that a rewiring put in, those of ``virtual_node_mask``, are neither
    asked nor part of a mean.

    Args:
        level: Whether nodes or graphs are asked.
        width: The width of the states.
        outputs: The number of classes or targets.
        norm: Whether states are normalised before, each node's alone.
    """

    def __init__(
        self, level: Level, width: int, outputs: int, *, norm: bool
    ) -> None:
        super().__init__()
        self.level = level
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.linear = nn.Linear(width, outputs)

    def forward(self, x: Tensor, data: Data) -> Tensor:
        """Answers ``[answers, outputs]`` from states ``[N, width]``.

        Raises:
            ValueError: If nodes are asked and ``target_mask`` is missing.
        """
        virtual = data.get('virtual_node_mask')
        if self.level == 'node':
            rows = _asked(data)
            rows = rows if virtual is None else rows & ~virtual
            return self.linear(self.norm(x[rows]))
        batch, count = data.get('batch'), None
        if batch is None:
            batch, count = x.new_zeros(x.size(0)).long(), 1
        elif isinstance(data, Batch):
            count = data.num_graphs
        x = self.norm(x)
        if virtual is not None:
            x, batch = x[~virtual], batch[~virtual]
        return self.linear(global_mean_pool(x, batch, count))


def _asked(data: Data) -> Tensor:
    mask = data.get('target_mask')
    if mask is None:
        raise ValueError(
            "Expected graphs with 'target_mask' [N] for a task on nodes (got "
            'none). It tells which nodes are asked.'
        )
    asked: Tensor = mask
    return asked
