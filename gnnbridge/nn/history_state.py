"""What decoding with a KV cache keeps of the attention of earlier rows."""

from __future__ import annotations

from typing import Optional

from torch import Tensor

from gnnbridge.nn.history_sums import received_by_keys
from gnnbridge.nn.plan import AttentionPlan


class HistoryState:
    """The attention that keys received from the rows seen so far.

    It lives beside the KV cache of one layer: start with an empty one and pass
    it with every call, in which new queries come with all keys, old and new.
    It is changed in place.

    Attributes:
        received: :obj:`[B, K, H]` for :obj:`B` sequences of :obj:`K` keys, in
            at least float32, or None before the first row. With gradients
            enabled it is part of the graph of autograd.
    """

    def __init__(self) -> None:
        self.received: Optional[Tensor] = None

    def __bool__(self) -> bool:
        """Whether there is something to remember."""
        return self.received is not None

    @property
    def num_keys(self) -> int:
        """Number of keys that have been seen."""
        return 0 if self.received is None else self.received.size(1)

    def reset(self) -> None:
        """Forgets everything: the next call begins a sequence."""
        self.received = None

    def reorder(self, index: Tensor) -> None:
        """Takes sequences by their numbers, as beam search does with a cache.

        Args:
            index: Sequences to go on with :obj:`[B]`.
        """
        if self.received is not None:
            self.received = self.received.index_select(0, index)

    def check(self, plan: AttentionPlan, heads: int) -> None:
        """Raises a ValueError if the rows of a plan do not follow on it."""
        if self.received is None:
            return
        shape = (plan.num_graphs, heads)
        if (self.received.size(0), self.received.size(2)) != shape:
            raise ValueError(
                f"Expected 'state' of {shape[0]} sequences and {shape[1]} "
                f'heads (got {list(self.received.shape)}). Each layer and '
                f'batch has its own; plan with num_graphs= for a batch.'
            )
        num_keys, num_queries = plan.graph_size
        if num_keys != self.num_keys + num_queries:
            raise ValueError(
                f'Expected {self.num_keys + num_queries} keys, those that '
                f"'state' has seen and one for each new query (got "
                f'{num_keys}). Keys keep their places: use a cache that grows '
                f'and drops none, and a new HistoryState for a new sequence.'
            )

    def advance(
        self, plan: AttentionPlan, weight: Tensor, decay: Tensor
    ) -> None:
        """Adds the rows of a graph.

        Args:
            plan: The graph of the new rows.
            weight: Their map on its edges :obj:`[E, H]`.
            decay: What a row keeps of the rows before it :obj:`[H]`.
        """
        self.received = received_by_keys(plan, weight, decay, self.received)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(num_keys={self.num_keys})'
