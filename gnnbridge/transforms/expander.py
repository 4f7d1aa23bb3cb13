"""Expander graphs over the nodes: EGP, CGP, random regular."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import (
    AtOnce,
    both_ways,
    distinct,
    keys_of,
    make_at_once,
    missing_from,
)
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.cayley import (
    Order,
    cayley_pairs,
    cayley_size,
    smallest_modulus,
)
from gnnbridge.transforms.chance import Seed, make_numpy_generator
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.random_regular import random_regular_pairs

Kind = Literal['cayley', 'random_regular']


class Expander(Rewiring):
    r"""The edges of a sparse expander graph, whatever the graph.

    ``'cayley'`` is EGP of `"Expander Graph Propagation"
    <https://arxiv.org/abs/2210.02997>`_: of the
    :func:`Cayley graph <gnnbridge.transforms.cayley_graph>` of
    :math:`\mathrm{SL}(2, \mathbb{Z}_n)` for the smallest :math:`n` with

    .. math::
        n^3 \prod_{p | n} \left( 1 - \frac{1}{p^2} \right) \ge N

    elements the edges among the first :math:`N`. What is cut off costs some
    of its four neighbours for each node, and much of the spectral gap. With
    `virtual` no node is cut off, as in CGP of `"Cayley Graph Propagation"
    <https://arxiv.org/abs/2410.03424>`_: the others become nodes with
    features of zero behind those of the graph, marked in
    ``virtual_node_mask``. ``'random_regular'`` is a connected random graph in
    which each node has `degree` neighbours; a graph that is too small for it
    gets all edges.

    Edges that are there already are not added again, and weights are not
    looked at. In a causal graph each pair is one edge to the later node; a
    virtual node, behind all others, could give nothing back there. Time is
    about :math:`O(N)`.

    The papers alternate layers on the graph and on the expander. For that,
    choose by ``edge_type``, and take ``keep=False`` if edges that both of them
    have count in both.

    .. note::
        Papers and later code number the elements breadth first. The code that
        was released first goes on from the node found last, so that other
        elements are cut off: that is ``order='depth'``.

    Args:
        kind: ``'cayley'`` or ``'random_regular'``.
        degree: The number of neighbours, at least 3; 4 for ``'cayley'``.
        virtual: Whether to add nodes instead of cutting off elements.
        keep: Whether the edges of the graph stay. Otherwise those that are
            not of the expander are removed, except self-loops.
        order: How the elements are numbered.
        seed: A number or a ``torch.Generator``, for ``'random_regular'``.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If the options do not go together, for a causal graph with
            `virtual`, or an odd number of nodes with an odd `degree`.
    """

    def __init__(
        self,
        kind: Kind = 'cayley',
        *,
        degree: int = 4,
        virtual: bool = False,
        keep: bool = True,
        order: Order = 'breadth',
        seed: Seed = 0,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        if kind not in get_args(Kind):
            raise ValueError(
                "Expected 'kind' to be 'cayley' or 'random_regular' (got "
                f'{kind!r}).'
            )
        if order not in get_args(Order):
            raise ValueError(
                f"Expected 'order' to be 'breadth' or 'depth' (got {order!r})."
            )
        self.degree = check_size('degree', degree, minimum=3)
        if kind == 'cayley' and degree != 4:
            raise ValueError(
                f'Expected degree=4 for a Cayley graph (got {degree}). Use '
                f"kind='random_regular' instead."
            )
        if kind != 'cayley' and virtual:
            raise ValueError(
                f"Expected kind='cayley' for virtual=True (got {kind!r})."
            )
        self.kind, self.virtual, self.keep = kind, virtual, keep
        self.order, self.seed = order, seed

    def _plan(self, graph: InputGraph) -> AtOnce:
        if self.kind == 'cayley':
            pairs = self._cayley(graph)
        else:
            pairs = self._random(graph.num_nodes)
        wanted = pairs if graph.causal else both_ways(pairs)
        size = max(graph.num_nodes, int(wanted.max(initial=-1)) + 1)
        extra = size - graph.num_nodes
        return make_at_once(
            graph,
            added=wanted[:, missing_from(wanted, graph)],
            removed=None if self.keep else _others(graph, wanted, size),
            new_nodes=(0, extra) if self.virtual else None,
        )

    def _cayley(self, graph: InputGraph) -> np.ndarray:
        if self.virtual and graph.causal:
            raise ValueError(
                'Expected a graph that is not causal for virtual=True (got a '
                'causal one, to which a virtual node could give nothing '
                'back). Use virtual=False, or causal=False.'
            )
        modulus = smallest_modulus(graph.num_nodes)
        pairs = cayley_pairs(modulus, self.order)
        size = cayley_size(modulus) if self.virtual else graph.num_nodes
        return pairs[:, pairs[1] < size]

    def _random(self, num_nodes: int) -> np.ndarray:
        if num_nodes <= self.degree:
            return np.stack(np.triu_indices(num_nodes, 1))
        if num_nodes * self.degree % 2 == 1:
            raise ValueError(
                f'Expected an even number of nodes or an even degree (got '
                f'{num_nodes} and {self.degree}). Use '
                f'degree={self.degree + 1} instead.'
            )
        generator = make_numpy_generator(self.seed)
        return random_regular_pairs(num_nodes, self.degree, generator)


def _others(graph: InputGraph, wanted: np.ndarray, size: int) -> np.ndarray:
    """The edges of the graph that are not wanted, without self-loops."""
    given = distinct(graph.edge_index.cpu().numpy(), graph.num_nodes)
    found = np.isin(keys_of(given, size), keys_of(wanted, size))
    return given[:, ~found & (given[0] != given[1])]
