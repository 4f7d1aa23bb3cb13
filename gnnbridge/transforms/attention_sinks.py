"""The edges within a window, and those from the first nodes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.sliding_window import SlidingWindow


class AttentionSinks(SlidingWindow):
    r"""Keeps the edges of a window, and those from the first nodes.

    StreamingLLM, `"Efficient Streaming Language Models with Attention Sinks"
    <https://arxiv.org/abs/2309.17453>`_:

    .. math::
        j \to i \text{ is kept} \iff |i - j| < w \text{ or } j < s

    Of :func:`~gnnbridge.graph.causal_graph` it leaves
    :func:`~gnnbridge.graph.sliding_window_graph` with sinks. The published
    cache of :math:`w + s` keys has the same edges. In a graph that is not
    causal the first nodes are read by all, but do not read from all. Nothing
    is added, and weights stay as they are.

    Args:
        window: The number :math:`w`, at least 1.
        sinks: The number :math:`s` of first nodes.
        causal: Only checked: nothing is added.
    """

    def __init__(
        self, window: int, sinks: int = 4, *, causal: bool | None = None
    ) -> None:
        super().__init__(window, causal=causal)
        self.sinks = check_size('sinks', sinks, minimum=0)

    def on_causal(self, n: int, device: torch.device | None = None) -> Data:
        """The window and the sinks; the full graph is not made."""
        if type(self)._kept is not AttentionSinks._kept:
            return super().on_causal(n, device)
        return sliding_window_graph(
            n, self.window, sinks=self.sinks, device=device
        )

    def _kept(self, edge_index: Tensor) -> Tensor:
        return super()._kept(edge_index) | (edge_index[0] < self.sinks)
