"""Cayley graphs of SL(2, Z_n): sparse expanders of some sizes."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from itertools import count
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import both_ways

Order = Literal['breadth', 'depth']


def cayley_graph(n: int, *, order: Order = 'breadth') -> Tensor:
    r"""The Cayley graph of :math:`\mathrm{SL}(2, \mathbb{Z}_n)`.

    Nodes are the matrices of determinant 1 modulo :math:`n`; the neighbours
    of one are its products from the right with

    .. math::
        \begin{pmatrix} 1 & \pm 1 \\ 0 & 1 \end{pmatrix}, \qquad
        \begin{pmatrix} 1 & 0 \\ \pm 1 & 1 \end{pmatrix}

    It has four neighbours for each node, and a spectral gap that is bounded
    from below over all :math:`n`. For :math:`n = 2`, where :math:`1 = -1`,
    there are two: edges that would be double are there once.

    Node 0 is the identity. The others are numbered as a search from it finds
    them, which tries the products in the order :math:`+1, -1` above, then
    :math:`+1, -1` below.

    Args:
        n: The modulus.
        order: Whether the search goes on from the node that was found first
            (``'breadth'``), or from the one found last.

    Shapes:
        - **output:** :math:`(2, E)`, each pair in both directions, sorted by
          pair

    Returns:
        ``edge_index``, int64.

    Example:
        >>> cayley_graph(2)
        tensor([[0, 1, 0, 2, 1, 3, 2, 4, 3, 5, 4, 5],
                [1, 0, 2, 0, 3, 1, 4, 2, 5, 3, 5, 4]])
    """
    pairs = cayley_pairs(check_size('n', n), order)
    return torch.from_numpy(both_ways(pairs))


def cayley_size(n: int) -> int:
    r"""The number of nodes, :math:`n^3 \prod_{p | n} (1 - p^{-2})`.

    Args:
        n: The modulus; the product is over its prime factors.
    """
    size, rest = check_size('n', n) ** 3, n
    for p in range(2, n + 1):
        if rest % p == 0:
            size = size // p**2 * (p**2 - 1)
        while rest % p == 0:
            rest //= p
    return size


def smallest_modulus(num_nodes: int) -> int:
    """The first modulus whose graph has at least so many nodes.

    The graph of a larger one may have fewer nodes: 12 has fewer than 11.
    """
    return next(n for n in count(1) if cayley_size(n) >= num_nodes)


@lru_cache(maxsize=8)
def cayley_pairs(n: int, order: Order) -> np.ndarray:  # shape: [2, P]
    """The neighbours ``u < v``, sorted. The result is not to be changed."""
    identity = (1 % n, 0, 0, 1 % n)
    number = {identity: 0}
    waiting = deque([identity])
    pairs = set()
    while waiting:
        node = waiting.popleft() if order == 'breadth' else waiting.pop()
        u = number[node]
        for product in _products(node, n):
            if product not in number:
                number[product] = len(number)
                waiting.append(product)
            v = number[product]
            if u != v:
                pairs.add((min(u, v), max(u, v)))
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T


def _products(
    matrix: tuple[int, int, int, int], n: int
) -> list[tuple[int, int, int, int]]:
    a, b, c, d = matrix
    return [
        (a, (a + b) % n, c, (c + d) % n),
        (a, (b - a) % n, c, (d - c) % n),
        ((a + b) % n, b, (c + d) % n, d),
        ((a - b) % n, b, (c - d) % n, d),
    ]
