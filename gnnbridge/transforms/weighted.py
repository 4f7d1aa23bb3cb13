"""Rewirings for which the weights of edges may count."""

from __future__ import annotations

from gnnbridge.transforms.base import Rewiring


class WeightedRewiring(Rewiring):
    """Base class of the methods that read ``edge_weight`` if asked to.

    Args:
        weighted: Whether weights count; without them all edges are equal.
        causal: Whether only edges to later nodes may be added.
    """

    def __init__(self, *, weighted: bool, causal: bool | None) -> None:
        super().__init__(causal=causal)
        self.weighted = weighted

    @property
    def static(self) -> bool:  # type: ignore[override]
        """Whether the changes depend on the edges alone."""
        return not self.weighted
