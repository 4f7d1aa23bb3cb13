"""Attention patterns by name, at a number of edges per token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch_geometric.transforms import BaseTransform, Compose

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.attention_sinks import AttentionSinks
from gnnbridge.transforms.causal_resistance import CausalResistanceRewiring
from gnnbridge.transforms.expander import Expander
from gnnbridge.transforms.fosr import FoSR
from gnnbridge.transforms.gtr import GTR
from gnnbridge.transforms.random_edges import RandomEdges
from gnnbridge.transforms.sliding_window import SlidingWindow
from gnnbridge.transforms.top_k import TopK


@dataclass(frozen=True)
class Budget:
    """What a pattern may use.

    Attributes:
        edges: Edges per token, its self-loop included.
        sinks: First tokens that all later ones see.
        tokens: The length of the sequence.
        seed: Source of chance.
        hops: Depth for which resistances are matched.
    """

    edges: int
    sinks: int
    tokens: int
    seed: int
    hops: float | None

    @property
    def local(self) -> AttentionSinks:
        """Half of the budget as a window, with the sinks."""
        return AttentionSinks(self.window, self.sinks)

    @property
    def window(self) -> int:
        """Tokens in that window, itself included."""
        return max((self.edges - self.sinks + 1) // 2, 1)

    @property
    def spare(self) -> int:
        """Edges that are left for each token."""
        return self.edges - self.sinks - self.window


def _window(budget: Budget) -> BaseTransform:
    return SlidingWindow(budget.edges)


def _sinks(budget: Budget) -> BaseTransform:
    return AttentionSinks(max(budget.edges - budget.sinks, 1), budget.sinks)


def _bigbird(budget: Budget) -> BaseTransform:
    random = RandomEdges(per_node=budget.spare, seed=budget.seed)
    return Compose([budget.local, random])


def _expander(budget: Budget) -> BaseTransform:
    if budget.spare < 2:
        raise ValueError(
            f"Expected 'edges_per_token' of at least {budget.sinks + 4} for an "
            f'expander (got {budget.edges}).'
        )
    # Each edge of a regular graph is one token's to receive.
    expander = Expander(
        'random_regular', degree=2 * budget.spare, seed=budget.seed
    )
    return Compose([budget.local, expander])


def _fosr(budget: Budget) -> BaseTransform:
    rewiring = FoSR(
        budget.spare * budget.tokens, seed=budget.seed, weighted=False
    )
    return Compose([budget.local, rewiring])


def _gtr(budget: Budget) -> BaseTransform:
    rewiring = GTR(budget.spare * budget.tokens, weighted=False)
    return Compose([budget.local, rewiring])


def _top_k(budget: Budget) -> BaseTransform:
    return TopK(budget.edges)


def _causal_resistance(budget: Budget) -> BaseTransform:
    return CausalResistanceRewiring(
        edges_per_token=budget.edges,
        hops=budget.hops,
        start=budget.local,
        weighted=False,
    )


def _measured_resistance(budget: Budget) -> BaseTransform:
    return CausalResistanceRewiring(
        edges_per_token=budget.edges, hops=budget.hops, start=budget.local
    )


_PATTERNS: dict[str, Callable[[Budget], BaseTransform]] = {
    'window': _window,
    'sinks': _sinks,
    'bigbird': _bigbird,
    'expander': _expander,
    'fosr': _fosr,
    'gtr': _gtr,
    'top-k': _top_k,
    'causal-resistance': _causal_resistance,
    'measured-resistance': _measured_resistance,
}

PATTERNS = tuple(_PATTERNS)
"""The names that :func:`pattern` knows."""


def pattern(
    name: str,
    edges_per_token: int,
    num_tokens: int,
    *,
    sinks: int = 1,
    seed: int = 0,
    hops: float | None = None,
) -> BaseTransform:
    """A transform that leaves a causal graph about so many edges per token.

    ==========================  ===========================================
    ``'window'``                the last tokens
    ``'sinks'``                 the last tokens and the first ones
    ``'bigbird'``               half of them and random ones
    ``'expander'``              half of them and a random regular graph
    ``'fosr'``, ``'gtr'``       half of them and what these methods add to it
    ``'causal-resistance'``     half of them and what
                                :class:`CausalResistanceRewiring` adds, with
                                even attention
    ``'measured-resistance'``   the same with the attention of the very input
    ``'top-k'``                 the edges of most attention on the very input
    ==========================  ===========================================

    Args:
        name: One of :data:`PATTERNS`.
        edges_per_token: The budget, a token's self-loop included. It is kept
            to exactly by all but ``'expander'``, ``'fosr'`` and ``'gtr'``,
            whose number of edges is that of the budget or less in all.
        num_tokens: The length of the sequences, on which ``'fosr'`` and
            ``'gtr'`` depend.
        sinks: How many first tokens all later ones see, in all patterns but
            ``'window'`` and ``'top-k'``.
        seed: Source of chance, for those that use any.
        hops: The depth for which resistances are matched; unlimited if not
            given.

    Raises:
        ValueError: If the name is unknown, or the budget has no room for the
            sinks and a window.
    """
    if name not in _PATTERNS:
        raise ValueError(
            f"Expected 'name' to be one of {PATTERNS} (got {name!r})."
        )
    check_size('edges_per_token', edges_per_token)
    check_size('num_tokens', num_tokens)
    check_size('sinks', sinks, minimum=0)
    if name not in ('window', 'top-k') and edges_per_token <= sinks:
        raise ValueError(
            f"Expected 'edges_per_token' to be more than the number of sinks, "
            f'{sinks} (got {edges_per_token}).'
        )
    return _PATTERNS[name](
        Budget(edges_per_token, sinks, num_tokens, seed, hops)
    )
