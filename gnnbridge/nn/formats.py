"""The forms in which kernels read a token graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Ranges of keys in a row up to which a graph counts as row windows.
_MAX_RANGES = 4


class lazy:
    """An attribute that is computed when it is first asked for.

    :class:`functools.cached_property` takes a lock before Python 3.12, and
    ``torch.compile`` cannot follow it there.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        value = self.function(instance)
        # From now on the instance answers itself. What is compiled must not
        # change objects that it was given, and computes it each time.
        if not torch.compiler.is_compiling():
            instance.__dict__[self.name] = value
        return value


@dataclass(frozen=True, eq=False)
class Columns:
    """The edges of a graph sorted by key, then query.

    Attributes:
        start: First edge of each key ``[Nk + 1]`` int64.
        query: Query of each edge ``[E]`` int32.
        edge: Position of each edge in the order of the rows ``[E]`` int64.
    """

    start: Tensor
    query: Tensor
    edge: Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """The edges of a graph sorted by query, then key (compressed rows).

    Attributes:
        start: First edge of each query ``[Nq + 1]`` int64.
        key: Key of each edge ``[E]`` int32.
        order: Place of each edge in the caller's order ``[E]`` int64, or None
            where that is sorted already.
        num_keys: Number of keys.
    """

    start: Tensor
    key: Tensor
    order: Tensor | None
    num_keys: int

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return self.start.numel() - 1

    @lazy
    def query(self) -> Tensor:
        """Query of each edge ``[E]`` int64."""
        return torch.repeat_interleave(
            self.start.diff(), output_size=self.key.numel()
        )

    @lazy
    def columns(self) -> Columns:
        """The same edges sorted by key: the backward pass needs them."""
        edge = torch.argsort(self.key, stable=True)
        count = torch.bincount(self.key, minlength=self.num_keys)
        start = torch.cat([count.new_zeros(1), count.cumsum(0)])
        return Columns(start, self.query[edge].int(), edge)

    @lazy
    def longest(self) -> int:
        """Number of edges of the longest row."""
        return int(self.start.diff().max()) if self.num_queries else 0

    def sorted(self, x: Tensor) -> Tensor:
        """Something per edge, from the caller's order to that of the rows."""
        return x if self.order is None else x[self.order]

    def unsorted(self, x: Tensor) -> Tensor:
        """Something per edge, back into the caller's order."""
        if self.order is None:
            return x
        return x.new_empty(x.shape).index_copy(0, self.order, x)

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on another device."""
        order = None if self.order is None else self.order.to(device)
        return Rows(
            self.start.to(device), self.key.to(device), order, self.num_keys
        )


@dataclass(frozen=True, eq=False)
class Windows:
    """A graph whose rows are a few ranges of keys, in blocks of queries.

    Attributes:
        start: First key of each range of a row ``[Nq, R]`` int32.
        stop: End of each range ``[Nq, R]`` int32; empty where not above
            ``start``.
        rows: Queries of a block.
        cover_start: First key of each range of a block ``[blocks, R]`` int32.
        cover_stop: End of each range of a block. Together they cover the
            ranges of all its rows, in increasing order, and are disjoint.
        width: Most keys that a block covers.
    """

    start: Tensor
    stop: Tensor
    rows: int
    cover_start: Tensor
    cover_stop: Tensor
    width: int

    @classmethod
    def of(cls, start: Tensor, stop: Tensor, rows: int = 64) -> Windows:
        """Blocks of rows with the given ranges, disjoint within a row."""
        (num_queries, ranges), full = start.shape, torch.iinfo(torch.int32).max
        # Empty ranges go last, so that those of a block increase as well.
        order = start.masked_fill(stop <= start, full).argsort(dim=1)
        start, stop = start.gather(1, order), stop.gather(1, order)
        blocks = -(-num_queries // rows)
        missing = blocks * rows - num_queries
        empty = stop <= start
        low = start.masked_fill(empty, full)
        high = stop.masked_fill(empty, 0)
        pad = torch.nn.functional.pad
        low = pad(low, (0, 0, 0, missing), value=full)
        high = pad(high, (0, 0, 0, missing), value=0)
        low = low.view(blocks, rows, ranges).amin(dim=1)
        high = high.view(blocks, rows, ranges).amax(dim=1)
        # What earlier ranges of the block cover is not covered again.
        reach = torch.zeros_like(low[:, :1])
        reach = torch.cat([reach, high[:, :-1]], dim=1).cummax(dim=1).values
        low = torch.maximum(low, reach)
        empty = high <= low
        low = low.masked_fill(empty, 0)
        high = high.masked_fill(empty, 0)
        return cls(
            start.int().contiguous(),
            stop.int().contiguous(),
            rows,
            low.int().contiguous(),
            high.int().contiguous(),
            int((high - low).sum(dim=1).max()) if blocks else 0,
        )

    @classmethod
    def causal(
        cls, num_queries: int, num_keys: int, device: torch.device | str
    ) -> Windows:
        """The windows of queries that are the last of the keys."""
        stop = torch.arange(
            num_keys - num_queries + 1, num_keys + 1, device=device
        ).unsqueeze(1)
        return cls.of(torch.zeros_like(stop), stop.clamp(min=0))

    @lazy
    def compacted(self) -> tuple[Tensor, Tensor]:
        """The keys of each block ``[blocks, width]``, and which a row sees.

        The latter is a mask ``[blocks, rows, width]``.
        """
        start, stop = self.cover_start.long(), self.cover_stop.long()
        length = stop - start
        before = length.cumsum(dim=1) - length
        slot = torch.arange(self.width, device=start.device)
        within = slot - before.unsqueeze(-1)  # [blocks, R, width]
        inside = (within >= 0) & (within < length.unsqueeze(-1))
        key = ((start.unsqueeze(-1) + within) * inside).sum(dim=1)
        blocks = start.size(0)
        missing = blocks * self.rows - self.num_queries
        low, high = (
            torch.nn.functional.pad(x, (0, 0, 0, missing))
            .unflatten(0, (blocks, self.rows))
            .unsqueeze(-1)
            for x in (self.start, self.stop)
        )
        seen = key.view(blocks, 1, 1, self.width)
        seen = ((seen >= low) & (seen < high)).any(dim=2)
        return key, seen & inside.any(dim=1).unsqueeze(1)

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return self.start.size(0)

    @property
    def work(self) -> int:
        """Query-key pairs that the blocks compute."""
        cover = (self.cover_stop - self.cover_start).sum(dim=1)
        return int(cover.long().sum()) * self.rows

    def to(self, device: torch.device | str) -> Windows:
        """The same windows on another device."""
        return Windows(
            self.start.to(device),
            self.stop.to(device),
            self.rows,
            self.cover_start.to(device),
            self.cover_stop.to(device),
            self.width,
        )


def find_windows(rows: Rows) -> Windows | None:
    """The ranges of keys of each row, or None where a row has many."""
    key, num_queries = rows.key, rows.num_queries
    if key.numel() == 0:
        nothing = key.new_zeros(num_queries, 1)
        return Windows.of(nothing, nothing)
    starts = torch.ones_like(key, dtype=torch.bool)
    torch.ne(key[1:], key[:-1] + 1, out=starts[1:])
    starts[rows.start[:-1][rows.start.diff() > 0]] = True
    first = starts.nonzero().view(-1)
    if first.numel() > _MAX_RANGES * num_queries:
        return None
    row = torch.searchsorted(rows.start, first, right=True) - 1
    count = torch.bincount(row, minlength=num_queries)
    most = int(count.max())
    if most > _MAX_RANGES:
        return None
    # The kernels know one, two or four ranges.
    most = 4 if most == 3 else most
    slot = torch.arange(row.numel(), device=row.device)
    slot = slot - (count.cumsum(0) - count)[row]
    end = torch.cat([first[1:], first.new_tensor([key.numel()])])
    start = key.new_zeros(num_queries, most)
    stop = key.new_zeros(num_queries, most)
    start[row, slot] = key[first]
    stop[row, slot] = key[first] + (end - first).to(key.dtype)
    return Windows.of(start, stop)


def mask_windows(mask: Tensor) -> Windows | None:
    """The ranges of keys of each row of masks ``[B, Q, K]``.

    Rows and keys of the graphs are numbered through. None where a row has
    many ranges.
    """
    _, num_queries, num_keys = mask.shape
    first = mask.clone()
    first[..., 1:] &= ~mask[..., :-1]
    count = first.sum(dim=-1).flatten()
    most = max(int(count.max()), 1) if count.numel() else 1
    if most > _MAX_RANGES:
        return None
    last = mask.clone()
    last[..., :-1] &= ~mask[..., 1:]
    graph, query, start = first.nonzero(as_tuple=True)
    stop = last.nonzero(as_tuple=True)[2] + 1
    row = graph * num_queries + query
    slot = torch.arange(row.numel(), device=row.device)
    slot = slot - (count.cumsum(0) - count)[row]
    most = 4 if most == 3 else most
    starts, stops = (start.new_zeros(count.numel(), most) for _ in range(2))
    starts[row, slot] = start + graph * num_keys
    stops[row, slot] = stop + graph * num_keys
    return Windows.of(starts, stops)
