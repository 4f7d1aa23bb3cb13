"""The measures at the two ends of each edge, and what to move between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnbridge.curvature.simple_graph import SimpleGraph

# What is left below it is the rounding of two equal masses.
_SHARED = 1e-15


@dataclass(frozen=True)
class Measures:
    """A probability measure at each node, ``K`` point masses in all.

    Attributes:
        start: Where the point masses of each node begin, ``[N + 1]``.
        node: Where each point mass is, ``[K]``.
        mass: How much it is, ``[K]``, differentiable in the weights.
    """

    start: np.ndarray
    node: np.ndarray
    mass: Tensor

    def of(self, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All point masses of some nodes: of which of them, and which."""
        count = np.diff(self.start)[owners]
        owner = np.repeat(np.arange(owners.size), count)
        return owner, self.start[owners][owner] + count_up(count)


@dataclass(frozen=True)
class Neighborhoods:
    """The neighbours of all nodes, as measures and as matrices.

    Attributes:
        into: The measure over the in-neighbours of each node.
        out: The measure over its out-neighbours.
        rows: Row = source, column = target: whether there is an edge.
        columns: The same, for quick access to columns.
    """

    into: Measures
    out: Measures
    rows: sparse.csr_array
    columns: sparse.csc_array


@dataclass(frozen=True)
class Problems:
    """Transport problems, without the mass that may stay where it is.

    Attributes:
        size: The number of problems ``B``.
        supply_block: The problem of each supply, ``[S]``, ascending.
        supply: The masses to be moved, ``[S]``.
        demand_block: The problem of each demand, ``[D]``, ascending.
        demand: The masses asked for, ``[D]``.
        pair_supply: The supply of each pair within a problem, ``[P]``.
        pair_demand: Its demand, ``[P]``.
        distance: Hops from the one to the other, 1 to 3, ``[P]``.
    """

    size: int
    supply_block: np.ndarray
    supply: Tensor
    demand_block: np.ndarray
    demand: Tensor
    pair_supply: np.ndarray
    pair_demand: np.ndarray
    distance: np.ndarray


def neighborhoods(graph: SimpleGraph, alpha: float) -> Neighborhoods:
    """The neighbours of all nodes, the share `alpha` staying at home."""
    source, target = graph.edge_index
    weight = graph.weight
    if weight is None:
        weight = torch.ones_like(source, dtype=torch.float64)
    rows = graph.adjacency().astype(bool)
    return Neighborhoods(
        into=_measures(target, source, weight, graph.num_nodes, alpha),
        out=_measures(source, target, weight, graph.num_nodes, alpha),
        rows=rows,
        columns=rows.tocsc(),
    )


def transport_problems(
    u: np.ndarray,  # shape: [B]
    v: np.ndarray,  # shape: [B]
    neighbors: Neighborhoods,
    *,
    keep_shared: bool = False,
) -> Problems:
    """What is to be moved from the measure into `u` to that out of `v`.

    With `keep_shared` the nodes at which the two measures are equal are among
    the supplies, with the mass zero: their potentials are of use.
    """
    block, node, excess = _excess(u, v, neighbors)
    sign = excess.detach().cpu().numpy()
    demand = np.flatnonzero(sign < -_SHARED)
    lowest = -_SHARED if keep_shared else _SHARED
    supply = np.flatnonzero(sign >= lowest)
    given, asked = (
        excess[torch.from_numpy(chosen).to(excess.device)]
        for chosen in (supply, demand)
    )
    demands = np.bincount(block[demand], minlength=u.size)
    count = demands[block[supply]]
    pair_supply = np.repeat(np.arange(supply.size), count)
    first = (np.cumsum(demands) - demands)[block[supply]]
    pair_demand = first[pair_supply] + count_up(count)
    return Problems(
        size=u.size,
        supply_block=block[supply],
        supply=given,
        demand_block=block[demand],
        demand=-asked,
        pair_supply=pair_supply,
        pair_demand=pair_demand,
        distance=_hops(
            neighbors, node[supply], node[demand], pair_supply, pair_demand
        ),
    )


def count_up(count: np.ndarray) -> np.ndarray:
    """The numbers from 0 below each count, one after the other."""
    first = np.cumsum(count) - count
    return np.arange(count.sum()) - np.repeat(first, count)


def _measures(
    owner: Tensor,  # shape: [M]
    neighbor: Tensor,  # shape: [M]
    weight: Tensor,  # shape: [M]
    num_nodes: int,
    alpha: float,
) -> Measures:
    total = weight.new_zeros(num_nodes).index_add(0, owner, weight)
    share = (1 - alpha) * weight / total[owner]
    # A node without neighbours keeps everything.
    stay = torch.where(total > 0, alpha, torch.ones_like(total))
    keeps = stay.nonzero().squeeze(1)
    owners = torch.cat([owner, keeps])
    order = owners.argsort(stable=True)
    count = owners.bincount(minlength=num_nodes).cpu().numpy()
    return Measures(
        start=np.concatenate([[0], np.cumsum(count)]),
        node=torch.cat([neighbor, keeps])[order].cpu().numpy(),
        mass=torch.cat([share, stay[keeps]])[order],
    )


def _excess(
    u: np.ndarray, v: np.ndarray, neighbors: Neighborhoods
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """The difference of the measures: block, node and mass, by block."""
    into, out = neighbors.into, neighbors.out
    num_nodes = neighbors.rows.shape[0]
    block_u, mass_u = into.of(u)
    block_v, mass_v = out.of(v)
    node = np.concatenate([into.node[mass_u], out.node[mass_v]])
    key = np.concatenate([block_u, block_v]) * num_nodes + node
    distinct, place = np.unique(key, return_inverse=True)
    signed = torch.cat([into.mass[mass_u], -out.mass[mass_v]])
    index = torch.from_numpy(place).to(signed.device)
    excess = signed.new_zeros(distinct.size).index_add(0, index, signed)
    return *np.divmod(distinct, num_nodes), excess


def _hops(
    neighbors: Neighborhoods,
    sources: np.ndarray,  # shape: [S]
    targets: np.ndarray,  # shape: [D]
    pair_source: np.ndarray,  # shape: [P]
    pair_target: np.ndarray,  # shape: [P]
) -> np.ndarray:  # shape: [P]
    """Distances that are known to be 1, 2 or 3."""
    rows, row = np.unique(sources, return_inverse=True)
    columns, column = np.unique(targets, return_inverse=True)
    pairs = row[pair_source], column[pair_target]
    leaving, entering = neighbors.rows[rows], neighbors.columns[:, columns]
    distance = np.full(pair_source.size, 3, dtype=np.int8)
    distance[(leaving @ entering.tocsr()).toarray()[pairs]] = 2
    distance[leaving[:, columns].toarray()[pairs]] = 1
    return distance
