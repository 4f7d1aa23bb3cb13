"""What a comparison of rewirings is to measure, and on which graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gnnbridge.graph.checks import check_size
from gnnbridge.models.rewire import Rewiring
from gnnbridge.transforms.patterns import pattern

#: The name of the model's own graph.
BEFORE = 'before'
Transforms: TypeAlias = 'str | Rewiring | Mapping[str, str | Rewiring]'


@dataclass(frozen=True)
class RewiringSettings:
    """What a comparison of rewirings is to measure, and on which graphs.

    Attributes:
        budget: Edges per token, the self-loop included, of the patterns that
            are given by name.
        sinks: First tokens that all later ones see in these.
        hops: Depth for which resistances are matched, in these patterns and
            in the metrics: ``inf`` for none, and if not given what the model
            was measured to have, the sum over its layers of the share that
            attention has in the residual stream.
        layers: Layers to rewire, all by default.
        heads: Heads to rewire, all by default.
        max_tokens: How many tokens of the text to read at most.
        pairs: Bindings in each sequence of the retrieval task.
        questions: How many keys are asked for in all.
        seed: Source of chance, of patterns and of the task.
    """

    budget: int = 16
    sinks: int = 1
    hops: float | None = None
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    max_tokens: int = 256
    pairs: int = 16
    questions: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Check everything that needs no model."""
        for name, minimum in (
            ('budget', 1),
            ('sinks', 0),
            ('max_tokens', 2),
            ('pairs', 2),
            ('questions', 1),
            ('seed', 0),
        ):
            check_size(name, getattr(self, name), minimum)
        if self.hops is not None and not self.hops >= 0:
            raise ValueError(
                f"Expected 'hops' to be at least 0, or inf for an unlimited "
                f'depth (got {self.hops}).'
            )


@dataclass(frozen=True)
class Choice:
    """One rewiring of a comparison.

    Attributes:
        name: What it is called.
        make: What :func:`gnnbridge.rewire` is given for sequences of a
            length, and a depth; ``None`` if it would change nothing.
        budgeted: Whether it was given by the name of a pattern, which the
            budget is for.
    """

    name: str
    make: Callable[[int, float | None], Rewiring | None]
    budgeted: bool = False


def choices(transforms: Transforms, settings: RewiringSettings) -> list[Choice]:
    """The rewirings that are asked for, checked as far as names go.

    Raises:
        ValueError: If there is none, a name is unknown, or the budget too
            small for it.
    """
    named: dict[str, Any]
    if isinstance(transforms, str):
        named = {transforms: transforms}
    elif isinstance(transforms, Mapping) and all(
        # Those of gnnbridge.rewire have the numbers of layers.
        isinstance(name, str)
        for name in transforms
    ):
        named = {str(name): what for name, what in transforms.items()}
    else:
        named = {type(transforms).__name__: transforms}
    if not named or BEFORE in named:
        raise ValueError(
            f"Expected names of transforms, other than '{BEFORE}' (got "
            f'{list(named)}).'
        )
    return [_choice(name, what, settings) for name, what in named.items()]


def _choice(name: str, what: Any, settings: RewiringSettings) -> Choice:
    if not isinstance(what, str):
        return Choice(name, lambda num_tokens, hops: what)

    def make(num_tokens: int, hops: float | None) -> Rewiring | None:
        if num_tokens <= settings.budget:
            return None
        return pattern(
            what,
            settings.budget,
            num_tokens,
            sinks=settings.sinks,
            seed=settings.seed,
            hops=hops,
        )

    # Its errors before anything is measured.
    make(settings.budget + 1, None)
    return Choice(name, make, budgeted=True)
