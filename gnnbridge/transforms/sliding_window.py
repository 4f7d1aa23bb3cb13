"""The edges within a window."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import AtOnce, distinct, make_at_once
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.input_graph import InputGraph


class SlidingWindow(Rewiring):
    r"""Keeps the edges between nodes that are near in their order.

    .. math::
        j \to i \text{ is kept} \iff |i - j| < w

    As in `"Longformer" <https://arxiv.org/abs/2004.05150>`_; in a causal
    graph each query keeps the last :math:`w` keys, itself included: of
    :func:`~gnnbridge.graph.causal_graph` it leaves
    :func:`~gnnbridge.graph.sliding_window_graph`. Nodes are in the order of
    their numbers. Nothing is added, and weights stay as they are.

    Args:
        window: The number :math:`w`, at least 1.
        causal: Only checked: nothing is added.
    """

    adds: ClassVar[bool] = False
    prefix: ClassVar[bool] = True

    def __init__(self, window: int, *, causal: bool | None = None) -> None:
        super().__init__(causal=causal)
        self.window = check_size('window', window)

    def on_causal(self, n: int, device: torch.device | None = None) -> Data:
        """The window itself; the full graph is not made."""
        if type(self)._kept is not SlidingWindow._kept:
            return super().on_causal(n, device)
        return sliding_window_graph(n, self.window, device=device)

    def _plan(self, graph: InputGraph) -> AtOnce:
        edges = graph.edge_index
        gone = edges[:, ~self._kept(edges)].cpu().numpy()
        return make_at_once(graph, removed=distinct(gone, graph.num_nodes))

    def _kept(self, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        return (target - source).abs() < self.window
