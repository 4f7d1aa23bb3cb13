"""Plans: a token graph checked once and reused by every layer that runs it."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from gnnbridge.graph.ranges import range_edges
from gnnbridge.nn.choice import check_backend, choose
from gnnbridge.nn.edges import (
    check_num_graphs,
    check_range,
    check_within_graphs,
    plain_edges,
    rows_of,
)
from gnnbridge.nn.formats import (
    Rows,
    Windows,
    find_windows,
    lazy,
    mask_windows,
)

Structure: TypeAlias = Literal['causal', 'full']


# Pairs of a mask below which torch's kernel runs it at no loss.
_WORTH_LOOKING = 1 << 18
_CPU = torch.device('cpu')


# Tensors have no truth value to compare plans by, so plans are themselves.
@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """A checked token graph, ready to be run by :class:`AttentionConv`.

    Build one with :func:`plan_attention` and pass it in place of
    ``edge_index`` wherever the same graph is used again.

    Attributes:
        size: ``(num_keys, num_queries)``.
        num_edges: Number of edges of the graph.
        backend: The kernel that runs the graph where nothing but outputs and
            gradients is asked for: ``'dense'``, ``'row_window'``,
            ``'csr_cpu'``, ``'csr_triton'``, ``'flex'`` or ``'scatter'``.
        reason: Why it is this one.
        structure: ``'causal'`` or ``'full'`` where edges need not be listed.
        num_graphs: Number of graphs of one size side by side that
            ``structure`` or a mask speaks of.
        forced: Whether the caller chose the backend.
        device: Device of the graph.
        listed: The edges that were given.
        given_mask: The mask that was given ``[num_graphs, Q, K]``.
        found_windows: What was found of ranges of keys in them.
        sorted_rows: The edges by row.
    """

    size: tuple[int, int]
    num_edges: int
    backend: str
    reason: str
    structure: Structure | None = None
    num_graphs: int = 1
    forced: bool = False
    device: torch.device = _CPU
    listed: Tensor | None = None
    given_mask: Tensor | None = None
    found_windows: Windows | None = None
    sorted_rows: Rows | None = None

    @property
    def edge_index(self) -> Tensor:
        """Edges ``[2, E]`` int64, row 0 the key and row 1 the query.

        In the caller's order; those of a structure or a mask come into being
        when they are first asked for, sorted by query, then key.
        """
        return self._listed_edges if self.listed is None else self.listed

    @property
    def rows(self) -> Rows:
        """The edges as compressed rows."""
        return self._rows if self.sorted_rows is None else self.sorted_rows

    @property
    def graph_size(self) -> tuple[int, int]:
        """``(num_keys, num_queries)`` of each graph."""
        num_keys, num_queries = self.size
        return num_keys // self.num_graphs, num_queries // self.num_graphs

    @property
    def num_pairs(self) -> int:
        """Number of pairs of a query and a key of the same graph."""
        num_keys, num_queries = self.graph_size
        return self.num_graphs * num_keys * num_queries

    @lazy
    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Graph, query within it and key within it of each edge, ``[E]``."""
        key, query = self.edge_index
        num_keys, num_queries = (max(size, 1) for size in self.graph_size)
        return query // num_queries, query % num_queries, key % num_keys

    @lazy
    def mask(self) -> Tensor:
        """Which pairs are edges ``[num_graphs, Q, K]``, bool."""
        if self.given_mask is not None:
            return self.given_mask
        num_keys, num_queries = self.graph_size
        mask = torch.zeros(
            self.num_graphs, num_queries, num_keys,
            dtype=torch.bool, device=self.device,
        )  # fmt: skip
        mask[self.places] = True
        return mask

    @lazy
    def block_mask(self) -> Any:
        """The blocks that flex attention visits."""
        from gnnbridge.nn.kernels import flex

        assert self.windows is not None  # checked with the backend
        windows = self.windows
        return flex.block_mask(windows.start, windows.stop, self.size[0])

    @lazy
    def _listed_edges(self) -> Tensor:
        if self.given_mask is not None:
            graph, query, key = self.given_mask.nonzero(as_tuple=True)
            num_keys, num_queries = self.graph_size
            return torch.stack(
                [graph * num_keys + key, graph * num_queries + query]
            )
        start, stop = self._ranges()
        return range_edges(start, stop - start)

    @lazy
    def _rows(self) -> Rows:
        if self.listed is not None:
            return rows_of(self.listed, self.size)
        # Edges that we list ourselves are sorted and distinct.
        if self.given_mask is not None:
            count = self.given_mask.sum(dim=-1).flatten()
        else:
            start, stop = self._ranges()
            count = stop - start
        first = torch.cat([count.new_zeros(1), count.cumsum(0)])
        return Rows(first, self.edge_index[0].int(), None, self.size[0])

    @lazy
    def windows(self) -> Windows | None:
        """The ranges of keys of each row, or None where a row has many."""
        if self.structure is None:
            return self.found_windows
        start, stop = self._ranges()
        return Windows.of(start.unsqueeze(1), stop.unsqueeze(1))

    def _ranges(self) -> tuple[Tensor, Tensor]:
        """First key and end of the keys of each query of a structure."""
        num_keys, num_queries = self.graph_size
        query = torch.arange(self.size[1], device=self.device)
        start = query // max(num_queries, 1) * num_keys
        if self.structure == 'full':
            return start, start + num_keys
        within = query % max(num_queries, 1)
        return start, start + within + num_keys - num_queries + 1

    def to(self, device: torch.device | str) -> AttentionPlan:
        """Returns the plan on another device.

        Raises:
            ValueError: If the backend was chosen by the caller and does not
                run there.
        """
        device = torch.empty(0, device=device).device
        if device == self.device:
            return self
        found = self.found_windows
        windows = None if found is None else found.to(device)
        rows = self.sorted_rows
        rows = None if rows is None else rows.to(device)
        listed, mask = (
            None if x is None else x.to(device)
            for x in (self.listed, self.given_mask)
        )
        moved = replace(
            self,
            device=device,
            listed=listed,
            given_mask=mask,
            found_windows=windows,
            sorted_rows=rows,
        )
        return _chosen(moved, self.backend if self.forced else 'auto')

    def explain(self) -> str:
        """Says which kernel runs this graph, and why."""
        num_keys, num_queries = self.size
        density = self.num_edges / max(self.num_pairs, 1)
        return (
            f"backend '{self.backend}' on {self.device.type}: {self.reason}; "
            f'{self.num_edges} edges, {num_queries} queries x {num_keys} keys '
            f'({density:.1%} of all pairs)'
        )


def plan_attention(
    edge_index: Tensor | Structure,
    size: tuple[int, int] | None = None,
    *,
    backend: str = 'auto',
    num_graphs: int = 1,
) -> AttentionPlan:
    """Checks a token graph and finds out how it is run fastest.

    The plan of a tensor is kept as long as the tensor lives: planning it again
    costs nothing, unless it was changed.

    Args:
        edge_index: ``[2, E]`` int64 in any order: row 0 the key (source), row
            1 the query (target). Or ``'causal'`` or ``'full'`` for these
            graphs without a list of their edges; causal queries are the last
            of the keys. Or a bool mask ``[Q, K]``, true where there is an
            edge, or ``[B, Q, K]`` for as many graphs side by side.
        size: ``(num_keys, num_queries)``; a mask has its own.
        backend: Kernel to use: ``'dense'``
            (:func:`torch.nn.functional.scaled_dot_product_attention`),
            ``'row_window'`` (blocks of queries against the few keys that they
            see), ``'csr_cpu'`` and ``'csr_triton'`` (compressed rows),
            ``'flex'`` (:func:`torch.nn.attention.flex_attention`),
            ``'scatter'`` (PyG's gather and scatter), or ``'auto'``.
        num_graphs: Number of graphs of one size that lie side by side in
            ``size``, as the sequences of a batch do; no edge leaves its graph.

    Returns:
        A plan for :class:`AttentionConv`; the input is not changed.

    Raises:
        TypeError: If ``edge_index`` is neither an int64 tensor, nor bool.
        ValueError: If it has another shape than ``[2, E]``, if an edge leaves
            the range of ``size``, if an edge occurs twice, if the backend is
            unknown or does not run this graph on this device.
    """
    check_backend(backend)
    if isinstance(edge_index, str):
        return _structural(edge_index, size, backend, num_graphs)
    if isinstance(edge_index, Tensor) and edge_index.dtype == torch.bool:
        return _masked(edge_index, size, backend)
    if size is None:
        raise ValueError(
            "Expected 'size' as (num_keys, num_queries) with edges (got None)."
        )
    check_num_graphs(size, num_graphs)
    given = edge_index
    edge_index = plain_edges(edge_index)
    # Under torch.compile the checks would break the graph; a plan that is
    # built outside of the compiled region has been through them.
    if torch.compiler.is_compiling():
        return AttentionPlan(
            size, edge_index.size(1), 'scatter', 'planned while compiling',
            device=edge_index.device, listed=edge_index,
            num_graphs=num_graphs,
        )  # fmt: skip
    key = (tuple(size), backend, num_graphs, _version(edge_index))
    known = _plans.get(given, {})
    if key in known:
        return known[key]
    # The plan must not keep alive the tensor under which it is kept.
    plan = _planned(edge_index.detach(), size, backend, num_graphs)
    if key[-1] is not None:
        _plans[given] = {key: plan}
    return plan


# One plan for each tensor that is alive.
_plans: MutableMapping[Tensor, dict[Any, AttentionPlan]] = WeakIdKeyDictionary()


def _version(edge_index: Tensor) -> int | None:
    return None if edge_index.is_inference() else edge_index._version


def _masked(
    mask: Tensor, size: tuple[int, int] | None, backend: str
) -> AttentionPlan:
    if mask.dim() not in (2, 3):
        raise ValueError(
            f'Expected a mask of shape [Q, K] or [B, Q, K] (got '
            f'{list(mask.shape)}).'
        )
    mask = mask.unsqueeze(0) if mask.dim() == 2 else mask
    graphs, num_queries, num_keys = mask.shape
    own = (graphs * num_keys, graphs * num_queries)
    if size is not None and tuple(size) != own:
        raise ValueError(
            f'Expected the size {own} of the mask (got {tuple(size)}).'
        )
    # Too little to gain from looking in a small one, unless it is asked for.
    worth = backend != 'auto' or num_queries * num_keys >= _WORTH_LOOKING
    windows = mask_windows(mask) if worth else None
    plan = AttentionPlan(
        own, int(mask.sum()), '', '', num_graphs=graphs, device=mask.device,
        given_mask=mask, found_windows=windows,
    )  # fmt: skip
    return _chosen(plan, backend)


def _structural(
    structure: str,
    size: tuple[int, int] | None,
    backend: str,
    num_graphs: int,
) -> AttentionPlan:
    if structure not in ('causal', 'full') or size is None:
        raise ValueError(
            f"Expected 'edge_index' to be a tensor, or 'causal' or 'full' "
            f"with a size (got '{structure}' and {size})."
        )
    num_keys, num_queries = size
    check_num_graphs(size, num_graphs)
    num_keys, num_queries = num_keys // num_graphs, num_queries // num_graphs
    num_edges = num_keys * num_queries
    if structure == 'causal':
        if num_queries > num_keys:
            raise ValueError(
                f'Expected at least as many keys as causal queries (got '
                f'{num_keys} keys and {num_queries} queries).'
            )
        num_edges -= num_queries * (num_queries - 1) // 2
    plan = AttentionPlan(
        (size[0], size[1]), num_edges * num_graphs, '', '',
        structure=cast(Structure, structure), num_graphs=num_graphs,
    )  # fmt: skip
    return _chosen(plan, backend)


def _planned(
    edge_index: Tensor,
    size: tuple[int, int],
    backend: str,
    num_graphs: int,
) -> AttentionPlan:
    check_range(edge_index, size)
    if num_graphs > 1:
        check_within_graphs(edge_index, size, num_graphs)
    rows = rows_of(edge_index, size)
    windows = find_windows(rows)
    plan = AttentionPlan(
        (size[0], size[1]), edge_index.size(1), '', '',
        num_graphs=num_graphs, device=edge_index.device, listed=edge_index,
        found_windows=windows, sorted_rows=rows,
    )  # fmt: skip
    return _chosen(replace(plan, structure=_structure(plan)), backend)


def _chosen(plan: AttentionPlan, backend: str) -> AttentionPlan:
    name, reason = choose(
        backend,
        plan.device.type,
        plan.num_edges,
        plan.num_pairs,
        plan.structure,
        plan.found_windows,
        masked=plan.given_mask is not None,
    )
    return replace(plan, backend=name, reason=reason, forced=backend != 'auto')


def _structure(plan: AttentionPlan) -> Structure | None:
    """What the windows of all rows make of the graphs."""
    windows, (num_keys, num_queries) = plan.found_windows, plan.graph_size
    if windows is None or windows.start.size(1) > 1:
        return None
    query = torch.arange(plan.size[1], device=plan.device)
    first = query // num_queries * num_keys
    if not (windows.start[:, 0] == first).all():
        return None
    count = windows.stop[:, 0] - first
    if (count == num_keys).all():
        return 'full'
    causal = query % num_queries + num_keys - num_queries + 1
    return 'causal' if (count == causal).all() else None
