"""Nodes that are connected to all others."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import AtOnce, make_at_once
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.input_graph import InputGraph

Place = Literal['end', 'start']


class VirtualNode(Rewiring):
    r"""A node that is connected to all others, in both directions.

    As in `"Neural Message Passing for Quantum Chemistry"
    <https://arxiv.org/abs/1704.01212>`_, and with the edges, types and
    features of PyG's transform of this name: edges into the virtual node
    :math:`v`, and then those out of it,

    .. math::
        i \to v \text{ of type } \max + 1, \qquad
        v \to i \text{ of type } \max + 2

    with ``edge_weight`` 1, and zeros for all its other attributes.
    ``virtual_node_mask`` tells it from the others.

    In a causal graph it has edges to later nodes only: behind all others it
    reads from each of them, in front of them each of them reads from it, like
    an attention sink or a register token. There its ``position`` is the first
    one and the others move on; at the end it is the next one. Several virtual
    nodes are not connected to one another.

    Args:
        num_virtual: The number of virtual nodes.
        at: Whether they come at the ``'end'`` of the nodes, or at the
            ``'start'``, where the numbers of all others move on.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.
    """

    def __init__(
        self,
        *,
        num_virtual: int = 1,
        at: Place = 'end',
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        if at not in get_args(Place):
            raise ValueError(
                f"Expected 'at' to be 'end' or 'start' (got {at!r})."
            )
        self.num_virtual = check_size('num_virtual', num_virtual)
        self.at = at

    def _plan(self, graph: InputGraph) -> AtOnce:
        count, size = self.num_virtual, graph.num_nodes
        at_end = self.at == 'end'
        virtual = np.arange(count) + (size if at_end else 0)
        nodes = np.arange(size) + (0 if at_end else count)
        into = np.stack([np.tile(nodes, count), virtual.repeat(size)])
        parts = [(into, 1), (into[::-1], 2)]
        if graph.causal:
            parts = parts[:1] if at_end else parts[1:]
        return make_at_once(
            graph,
            added=np.concatenate([edges for edges, _ in parts], axis=1),
            relation=np.repeat([kind for _, kind in parts], into.shape[1]),
            new_nodes=(0, count) if at_end else (count, 0),
        )
