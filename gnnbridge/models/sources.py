"""Graphs that attention is made to run on: given ones and computed ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.schema import sort, validate
from gnnbridge.models.pairs import (
    allows,
    check_heads,
    first_seen,
    make_pairs,
    mask_of,
    own_rows,
)
from gnnbridge.models.slots import Call, Pairs
from gnnbridge.nn.formats import lazy
from gnnbridge.nn.plan import plan_attention


@dataclass(frozen=True)
class Rule:
    """A graph in the form in which its rows are looked up: sorted by query.

    Attributes:
        source: Key of each edge ``[E]``.
        start: First edge of each query ``[N + 1]``.
        heads: Which heads use each edge ``[E, H]``, or None where all do.
    """

    source: Tensor
    start: Tensor
    heads: Tensor | None = None

    @lazy
    def mask(self) -> Tensor:
        """Which pairs of a query and a key are edges ``[N, N]``, bool."""
        row, edge = self.rows(torch.arange(self.num_nodes))
        mask = torch.zeros(
            self.num_nodes, self.num_nodes, dtype=torch.bool,
            device=self.source.device,
        )  # fmt: skip
        mask[row, self.source[edge]] = True
        return mask

    @classmethod
    def of(cls, data: Data) -> Rule:
        """The rows of a graph.

        Raises:
            TypeError: If ``edge_heads`` is not boolean.
            ValueError: If the graph is not valid.
        """
        heads = data.get('edge_heads')
        data = Data(edge_index=data.edge_index, num_nodes=data.num_nodes)
        if heads is not None:
            data.edge_heads = _check_edge_heads(heads, data.edge_index)
        # A graph without edges is none to analyse, but one to run on.
        if data.edge_index is None or data.edge_index.numel() > 0:
            data = validate(sort(data))
        source, target = data.edge_index
        degree = torch.bincount(target, minlength=data.num_nodes)
        zero = degree.new_zeros(1)
        start = torch.cat([zero, degree.cumsum(0)])
        return cls(source, start, data.get('edge_heads'))

    @property
    def num_nodes(self) -> int:
        """Number of tokens that the graph knows."""
        return self.start.numel() - 1

    def rows(self, token: Tensor) -> tuple[Tensor, Tensor]:
        """Edges into given tokens: position within ``token``, and edge."""
        first, last = self.start[token], self.start[token + 1]
        degree = last - first
        row = torch.repeat_interleave(degree)
        offset = degree.cumsum(0) - degree
        within = torch.arange(row.numel(), device=row.device) - offset[row]
        return row, first[row] + within

    def to(self, device: torch.device) -> Rule:
        """The graph on another device."""
        if self.source.device == device:
            return self
        heads = None if self.heads is None else self.heads.to(device)
        return Rule(self.source.to(device), self.start.to(device), heads)


class KnownPairs:
    """Pairs of the calls seen last: layers whose masks are the same share."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, Pairs, Pairs]] = []

    def of(
        self, call: Call, graphs: Any, make: Callable[[Call], Pairs]
    ) -> Pairs:
        """The pairs of a call, made if they are not known.

        Args:
            call: The call.
            graphs: What tells the graphs of one call from those of another.
            make: Makes the pairs.
        """
        frame = call.slot.frame
        key = (call.shape, int(frame.first_query), frame.first_key, graphs)
        for known_key, own, pairs in self.entries:
            if known_key == key and own is call.own:
                return pairs
        pairs = make(call)
        # A model has two or three kinds of masks in one forward.
        self.entries = [(key, call.own, pairs), *self.entries[:2]]
        return pairs


class GivenGraph:
    """Runs layers on one graph, the same for every sequence.

    All layers share it, and what one has found out for a call holds for the
    others whose masks are the same.
    """

    def __init__(self, rule: Rule, heads: Sequence[int] | None) -> None:
        self.rule, self.heads = rule, heads
        self.padding = Padding()
        self.known = KnownPairs()

    def pairs(self, call: Call) -> Pairs:
        """Pairs of the rewired graph for this call."""
        if torch.compiler.is_compiling():
            first = call.slot.frame.first_query
            if isinstance(first, int) and first == 0:
                return _for_heads(call, self._traced(call), self.heads)
            # What was padding was seen when the cache was filled.
            return self._looked_up(call)
        if torch._C._are_functorch_transforms_active():
            # What is made inside of a transform must not outlive it.
            return self._found(call)
        return self._looked_up(call)

    @torch.compiler.disable
    def _looked_up(self, call: Call) -> Pairs:
        return self.known.of(call, None, self._found)

    def _found(self, call: Call) -> Pairs:
        self.rule = self.rule.to(call.own.plan.device)
        padding = self.padding.of(call)
        rules = [self.rule] * call.shape[0]
        return rewired_pairs(call, rules, padding, self.heads)

    def _traced(self, call: Call) -> Pairs:
        """The same as a mask, by operations that do not look at numbers."""
        if self.rule.heads is not None:
            raise NotImplementedError(
                "Expected a graph without 'edge_heads' under torch.compile "
                '(got one with). Run the model without torch.compile.'
            )
        own, (_, _, queries, keys) = call.own, call.shape
        device = own.plan.device
        kept = mask_of(own)
        padding = first_seen(own).unsqueeze(1)
        query = torch.arange(queries, device=device) - padding
        key = torch.arange(keys, device=device) - padding
        size = self.rule.num_nodes
        ruled = ((query >= 0) & (query < size)).unsqueeze(2)
        inside = ((key >= 0) & (key < size)).unsqueeze(1)
        graph = self.rule.mask.to(device)[
            query.clamp(0, size - 1).unsqueeze(2),
            key.clamp(0, size - 1).unsqueeze(1),
        ]
        graph = graph & inside
        torch._assert_async(
            ~(ruled & graph & ~kept).any(),
            f'Expected edges that the mask of layer {call.slot.layer} allows '
            f'(got others). Run the model without torch.compile to see which.',
        )
        mask = torch.where(ruled, graph, kept)
        return Pairs(
            plan_attention(mask, backend=call.slot.shared.backend), call.shape,
            own.head_keep,
        )  # fmt: skip


class ComputedGraph:
    """Runs a layer on what a function makes of the layer's own graph.

    With a KV cache a call sees the newest queries only. The rows of earlier
    queries are remembered, so that the function always gets the whole graph.
    """

    def __init__(
        self,
        function: Callable[[int, Data], Data],
        heads: Sequence[int] | None,
    ) -> None:
        self.function, self.heads = function, heads
        self.padding = Padding()
        self.history: dict[int | None, list[Data]] = {}

    # What the function does is not for torch.compile to look into.
    @torch.compiler.disable
    def pairs(self, call: Call) -> Pairs:
        """Pairs of the rewired graph for this call."""
        padding = self.padding.of(call)
        with torch.no_grad():
            alpha = call.attend(call.own)[1].detach()
        frame = call.slot.frame
        earlier: list[Data | None] = [*self.history.get(frame.cache_layer, ())]
        if int(frame.first_query) == 0 or len(earlier) != call.shape[0]:
            earlier = [None] * call.shape[0]
        graphs = [
            _extend(graph, call, alpha, sequence, padding[sequence])
            for sequence, graph in enumerate(earlier)
        ]
        self.history[frame.cache_layer] = graphs
        rules = [self._apply(call.slot.layer, graph) for graph in graphs]
        return rewired_pairs(call, rules, padding, self.heads)

    def _apply(self, layer: int, graph: Data) -> Rule:
        result = self.function(layer, graph.clone())
        if not isinstance(result, Data):
            raise TypeError(
                f'Expected the rewiring function to return a Data (got '
                f"'{type(result).__name__}' in layer {layer})."
            )
        if result.num_nodes != graph.num_nodes:
            raise ValueError(
                f'Expected a rewired graph over the same {graph.num_nodes} '
                f'tokens (got {result.num_nodes} nodes in layer {layer}).'
            )
        return Rule.of(result)


class Padding:
    """Number of padding tokens on the left of each sequence."""

    def __init__(self) -> None:
        self.count: Tensor | None = None

    def of(self, call: Call) -> Tensor:  # [B]
        """The numbers for the sequences of a call."""
        num_sequences = call.shape[0]
        start = int(call.slot.frame.first_query)
        known = self.count is not None and len(self.count) == num_sequences
        if start > 0 and known:
            assert self.count is not None
            return self.count
        # The first key that is ever attended to is the first real token. In
        # the middle of a sequence a window hides it.
        first = first_seen(call.own) + call.slot.frame.first_key
        if start > 0 and (first > 0).any():
            raise ValueError(
                'Expected a KV cache that was filled inside the context, since '
                'the padding of its sequences is not known (got one filled '
                'before). Enter gnnbridge.rewire before the first forward.'
            )
        self.count = first
        return first


def rewired_pairs(
    call: Call,
    rules: Sequence[Rule],
    padding: Tensor,
    heads: Sequence[int] | None,
) -> Pairs:
    """The pairs of one call on rewired graphs, one for each sequence.

    Raises:
        ValueError: If a graph has an edge that the layer's mask forbids.
    """
    num_queries = call.shape[2]
    own = call.own
    frame = call.slot.frame
    position = torch.arange(num_queries, device=padding.device)
    position = position + int(frame.first_query)
    batches, queries, keys, used = [], [], [], []
    by_heads = any(rule.heads is not None for rule in rules)
    for sequence, rule in enumerate(rules):
        token = position - padding[sequence]
        ruled = (token >= 0) & (token < rule.num_nodes)
        query = ruled.nonzero().view(-1)
        row, edge = rule.rows(token[query])
        source = rule.source[edge]
        key = source + padding[sequence] - frame.first_key
        query = query[row]
        batch = torch.full_like(query, sequence)
        allowed = allows(own, batch, query, key)
        if not allowed.all():
            bad = int((~allowed).nonzero()[0, 0])
            raise ValueError(
                f'Expected edges that the mask of layer {call.slot.layer} '
                f"('{call.slot.name}') allows (got key {int(source[bad])} -> "
                f'query {int(token[query[bad]])}). Intersect the graph '
                f"with the layer's own, or choose other layers."
            )
        # Rows that the graph does not know keep the model's own edges.
        unruled = (~ruled).nonzero().view(-1)
        row, own_key = own_rows(
            own, torch.full_like(unruled, sequence), unruled
        )
        # Padding comes before the graph's rows, tokens past its end after.
        query = torch.cat([query, unruled[row]])
        order = query.argsort(stable=True)
        batches.append(torch.full_like(query, sequence))
        queries.append(query[order])
        keys.append(torch.cat([key, own_key])[order])
        if by_heads:
            heads_of = _heads_of(rule, edge, call)
            every = heads_of.new_ones(len(own_key), heads_of.size(1))
            used.append(torch.cat([heads_of, every])[order])
    pairs = make_pairs(
        torch.cat(batches),
        torch.cat(queries),
        torch.cat(keys),
        call.shape,
        call.slot.shared.backend,
    )
    if by_heads:
        bias = torch.zeros(pairs.plan.num_edges, call.shape[1])
        closed = ~torch.cat(used)
        bias = bias.to(closed.device).masked_fill(closed, float('-inf'))
        pairs = pairs.with_bias(bias)
    return _for_heads(call, replace(pairs, head_keep=own.head_keep), heads)


def _heads_of(rule: Rule, edge: Tensor, call: Call) -> Tensor:
    """Which heads use some edges of a graph ``[E, H]``."""
    heads = call.shape[1]
    if rule.heads is None:
        return edge.new_ones(len(edge), heads, dtype=torch.bool)
    if rule.heads.size(1) != heads:
        raise ValueError(
            f"Expected 'edge_heads' of shape [E, {heads}] for layer "
            f'{call.slot.layer} (got {list(rule.heads.shape)}).'
        )
    return rule.heads[edge]


def _check_edge_heads(heads: Tensor, edge_index: Tensor) -> Tensor:
    if not isinstance(heads, Tensor) or heads.dtype != torch.bool:
        kind = getattr(heads, 'dtype', type(heads).__name__)
        raise TypeError(
            f"Expected 'edge_heads' to be bool, true where a head uses the "
            f'edge (got {kind}).'
        )
    if heads.dim() != 2 or heads.size(0) != edge_index.size(1):
        raise ValueError(
            f"Expected 'edge_heads' of shape [{edge_index.size(1)}, H] (got "
            f'{list(heads.shape)}).'
        )
    return heads


def _for_heads(call: Call, pairs: Pairs, heads: Sequence[int] | None) -> Pairs:
    """Pairs for some heads, the model's own for the others."""
    if heads is None:
        return pairs
    chosen = tuple(sorted(set(check_heads(heads, call.shape[1]))))
    return replace(pairs, heads=chosen, rest=call.own)


def _extend(
    earlier: Data | None,
    call: Call,
    alpha: Tensor,
    sequence: int,
    padding: Tensor,
) -> Data:
    """The graph of one sequence with the rows of this call appended."""
    used = call.own.batch == sequence
    frame = call.slot.frame
    query = call.own.query[used] + int(frame.first_query) - padding
    key = call.own.key[used] + frame.first_key - padding
    real = (query >= 0) & (key >= 0)
    edge_index = torch.stack([key[real], query[real]])
    edge_attr = alpha[used][real]
    if earlier is not None:
        # A module that attends twice, or a cache that was cut back, comes
        # again with rows that are known: the newer ones hold.
        before = earlier.edge_index[1] < int(frame.first_query) - padding
        edge_index = torch.cat(
            [earlier.edge_index[:, before], edge_index], dim=1
        )
        edge_attr = torch.cat([earlier.edge_attr[before], edge_attr])
    num_nodes = int(frame.first_query) + call.shape[2] - int(padding)
    return Data(
        edge_index=edge_index,
        edge_attr=edge_attr,
        edge_weight=edge_attr.mean(dim=1),
        position=torch.arange(num_nodes, device=edge_index.device),
        layer=call.slot.layer,
        num_heads=edge_attr.size(1),
        num_nodes=num_nodes,
    )
