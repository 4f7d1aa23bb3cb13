"""Graphs that a transform makes of the number of tokens alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform, Compose

from gnnbridge.models.pairs import mask_of
from gnnbridge.models.slots import Call, Pairs
from gnnbridge.models.sources import (
    ComputedGraph,
    KnownPairs,
    Padding,
    Rule,
    rewired_pairs,
)
from gnnbridge.transforms.base import Rewiring

# Pairs of a call up to which its mask is looked at.
_SMALL = 1 << 24
# Lengths of sequences whose graphs are kept.
_REMEMBERED = 64


def is_static(transform: BaseTransform) -> bool:
    """Whether a transform looks at nothing but edges."""
    if isinstance(transform, Compose):
        return all(is_static(part) for part in transform.transforms)
    return isinstance(transform, Rewiring) and transform.static


def sets_only_weights(transform: BaseTransform) -> bool:
    """Whether a transform changes nothing that a model would notice."""
    return isinstance(transform, Rewiring) and transform.only_weights


def _keeps_rows(transform: BaseTransform) -> bool:
    """Whether a longer sequence keeps the rows of a shorter one."""
    if isinstance(transform, Compose):
        return all(_keeps_rows(part) for part in transform.transforms)
    return isinstance(transform, Rewiring) and transform.prefix


def _on_causal(transform: BaseTransform, n: int, device: torch.device) -> Data:
    """What a transform makes of `n` tokens that see all earlier ones."""
    if isinstance(transform, Rewiring):
        return transform.on_causal(n, device)
    assert isinstance(transform, Compose)  # all of them are static
    first, *others = transform.transforms
    data = _on_causal(first, n, device)
    for other in others:
        data = other(data)
    return data


class StaticGraph:
    """Runs layers on a graph that is planned once for all of them.

    In layers where every token sees all earlier ones, a static transform
    makes the same graph of any sequence of a length. Layers with other masks
    are left to the transform call by call.

    Args:
        transform: A transform for which :func:`is_static` holds.
        heads: The heads that run on its graphs.
    """

    def __init__(
        self, transform: BaseTransform, heads: Sequence[int] | None
    ) -> None:
        self.transform, self.heads = transform, heads
        self.padding = Padding()
        self.planned: dict[int, Rule] = {}
        self.known = KnownPairs()
        self.judged: tuple[Pairs, bool] | None = None
        self.computed = ComputedGraph(lambda _, data: transform(data), heads)

    @torch.compiler.disable
    def pairs(self, call: Call) -> Pairs:
        """Pairs of the rewired graph for this call."""
        padding = self.padding.of(call)
        counts = tuple(padding.tolist())
        if not self._sees_all(call, counts):
            return self.computed.pairs(call)
        total = int(call.slot.frame.first_query) + call.shape[2]
        device = call.own.plan.device
        rules = [self._rule(total - count, device) for count in counts]
        # The padding tells the lengths, and these the graphs.
        return self.known.of(
            call,
            counts,
            lambda call: rewired_pairs(call, rules, padding, self.heads),
        )

    def _sees_all(self, call: Call, padding: Sequence[int]) -> bool:
        """The same for all layers that share a mask."""
        if self.judged is None or self.judged[0] is not call.own:
            self.judged = call.own, _sees_all(call, padding)
        return self.judged[1]

    def _rule(self, size: int, device: torch.device) -> Rule:
        if size in self.planned:
            return self.planned[size]
        if _keeps_rows(self.transform):
            longest = max(self.planned, default=0)
            if size <= longest:
                return self.planned[longest]
            # In generation each call has one more token.
            size = size if longest == 0 else max(size, 2 * longest)
            self.planned.clear()
        elif len(self.planned) >= _REMEMBERED:
            del self.planned[next(iter(self.planned))]
        data = _on_causal(self.transform, max(size, 1), device)
        if data.num_nodes != max(size, 1):
            raise ValueError(
                f'Expected a rewired graph over the same {size} tokens (got '
                f'{data.num_nodes} nodes from {self.transform!r}).'
            )
        self.planned[size] = Rule.of(data)
        return self.planned[size]


def _sees_all(call: Call, padding: Sequence[int]) -> bool:
    """Whether every token sees itself and all earlier ones, but padding."""
    own, frame = call.own, call.slot.frame
    if own.head_keep is not None or frame.first_key > 0:
        return False
    if own.plan.structure == 'causal' and not any(padding):
        return True
    _, _, queries, keys = call.shape
    if len(padding) * queries * keys > _SMALL:
        return False
    device = own.plan.device
    query = torch.arange(queries, device=device) + int(frame.first_query)
    key = torch.arange(keys, device=device)
    first = torch.tensor(padding, device=device).view(-1, 1, 1)
    real = query.view(1, -1, 1) >= first
    wanted = (key <= query.unsqueeze(1)) & (key >= first)
    return bool((~real | (mask_of(own) == wanted)).all())
