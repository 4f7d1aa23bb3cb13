"""BORF: edges where transport along edges of low Ricci curvature is costly."""

from __future__ import annotations

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder, Rewiring
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.costliest_pair import costliest_pair
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets
from gnnbridge.transforms.ollivier_table import OllivierTable

# Curvatures are sums of fractions of the order of one.
ROUNDING = 1e-9


class BORF(Rewiring):
    r"""Batch Ollivier-Ricci flow (Nguyen et al., 2023).

    Algorithm 1 of `"Revisiting over-smoothing and over-squashing using
    Ollivier-Ricci curvature" <https://arxiv.org/abs/2211.15779>`_. For each
    batch the curvature

    .. math::
        \kappa(u, v) = 1 - W_1(\mu_u, \mu_v), \qquad
        W_1 = \min_\pi \sum_{p, q} \pi(p, q) \, d(p, q)

    of all edges is computed, :math:`\mu_u` spread evenly over the neighbours
    of :math:`u` (:func:`~gnnbridge.curvature.ollivier_ricci`). The edges of
    lowest curvature, from the lowest up, each get an edge :math:`p \sim q`
    where the best plan :math:`\pi` is most costly,

    .. math::
        (p, q) = \operatorname*{arg\,max}_{p \nsim q}
        \; \max_\pi \; \pi(p, q) \, d(p, q)

    and those of highest curvature are removed.

    The best plan need not be one alone, and then the maximum is over all of
    them that leave what :math:`\mu_u` and :math:`\mu_v` share in its place:
    the result does not depend on a solver. An edge whose pair is taken in
    the same batch, or that has none, is passed over, and the next one takes
    its place. Methods that go by plans have nothing to add where all mass
    moves along edges, as in a ring.

    Weights play no part. In a graph with directions, causal or not, mass
    moves from the nodes before :math:`u` to those after :math:`v`, along
    edges, and one edge :math:`p \to q` is added: a causal graph stays causal.
    Components, isolated nodes and graphs without edges need no care: edges
    are added within components.

    Changes have no trace, as curvatures are known between batches alone; each
    edge that is added is a step, and the removals of a batch are part of its
    last one. The first steps are those of a smaller budget.

    .. note::
        The released code considers pairs with an edge, too, and adds nothing
        if one of them is most costly, or taken; it takes the plan that its
        solver ends with. It removes all edges if asked to remove none, and
        adds one direction of an edge.

    The first batch takes about as long as
    :func:`~gnnbridge.curvature.ollivier_ricci`; later ones compute again only
    what has changed. No matrix of all pairs is made.

    Args:
        num_edges: The number of edges to add: one in each direction, or a
            single one in a graph with directions.
        batch_add: How many of them in one batch, the :math:`h` of the paper.
        batch_remove: How many edges to remove after each whole batch, its
            :math:`k`; a last batch that `num_edges` cuts short removes none.
        causal: See :class:`~gnnbridge.transforms.base.Rewiring`.

    Raises:
        TypeError: If one of the numbers is not an integer.
        ValueError: If one of them is negative, or `batch_add` zero.

    Example:
        >>> barbell = to_undirected(torch.tensor(
        ...     [[0, 0, 1, 2, 3, 3, 4], [1, 2, 2, 3, 4, 5, 5]]))
        >>> BORF(1).plan(barbell).added  # around 2 - 3, from 0 to 4
        tensor([[0, 4],
                [4, 0]])
    """

    def __init__(
        self,
        num_edges: int,
        *,
        batch_add: int = 4,
        batch_remove: int = 0,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        self.num_edges = check_size('num_edges', num_edges, minimum=0)
        self.batch_add = check_size('batch_add', batch_add)
        self.batch_remove = check_size('batch_remove', batch_remove, minimum=0)

    def _plan(self, graph: InputGraph) -> Changes:
        neighbors = NeighborSets(graph)
        table = OllivierTable(neighbors)
        recorder = Recorder(graph, directed=neighbors.directed)
        while recorder.step < self.num_edges:
            batch, removed = _batch(table, self.batch_add), []
            if not batch:
                return recorder.changes(exhausted=True)
            added = batch[: self.num_edges - recorder.step]
            if added == batch:
                removed = table.ranked(descending=True)[0][: self.batch_remove]
            for edge in added:
                table.add(*edge)
                recorder.add(*edge)
                if edge != added[-1]:
                    recorder.end_step()
            for edge in removed:
                table.remove(*edge)
                recorder.remove(*edge)
            recorder.end_step()
        return recorder.changes()


def _batch(table: OllivierTable, size: int) -> list[Edge]:
    """The first distinct pairs of the edges of lowest curvature."""
    found: dict[Edge, None] = {}
    for edge, curvature in zip(*table.ranked(), strict=True):
        if len(found) == size:
            break
        if _moves_far(table.neighbors, edge, curvature):
            pair = costliest_pair(table.neighbors, edge)
            found.update({} if pair is None else {pair: None})
    return list(found)


def _moves_far(neighbors: NeighborSets, edge: Edge, curvature: float) -> bool:
    """Whether transport is more than each mass moving along an edge."""
    u, v = edge
    into_u, from_v = neighbors.before[u] or {u}, neighbors.after[v] or {v}
    shared = len(into_u & from_v) / max(len(into_u), len(from_v))
    return curvature < shared - ROUNDING
