"""Tasks on tokens along causal edges."""

from __future__ import annotations

import math
from functools import partial

from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.draws import Counts, drawn
from gnnbridge.datasets.graphs.tokens import causal_copy, key_value_graphs


def causal_copy_task(
    *,
    length: int = 8,
    num_symbols: int = 4,
    lag: int | None = None,
    window: int | None = 3,
    graphs: Counts = (2000, 100, 200),
) -> Task:
    """An earlier token, asked at the last one.

    Args:
        length: The number of tokens.
        num_symbols: The number of different tokens.
        lag: How many places before the last the token stands; None for the
            first.
        window: How many tokens each sees, itself included; None for all
            before it.
        graphs: How many to train on, to choose by, and to report. A few
            hundred are learned by heart.
    """
    draw = partial(
        causal_copy,
        length=length,
        num_symbols=num_symbols,
        lag=lag,
        window=window,
    )
    which = 'first' if lag is None else f'{lag} places earlier'
    return Task(
        name='causal_copy',
        about=(
            f'Which token stands {which}? (CopyFirst and CopyLast of Marisca '
            'et al. 2025, with tokens)'
        ),
        level='node',
        metric='accuracy',
        outputs=num_symbols,
        features=(num_symbols, length),
        layers=_steps(length - 1 if lag is None else lag, window),
        chance=1 / num_symbols,
        load=drawn(draw, graphs),
        directed=True,
    )


def key_value_task(
    *,
    num_pairs: int = 3,
    num_symbols: int = 4,
    window: int | None = None,
    graphs: Counts = (400, 100, 200),
) -> Task:
    """The value of the key that comes last.

    Chance is to name one of the values that are there, which takes no lookup.

    Args:
        num_pairs: The number of pairs.
        num_symbols: The number of keys, and of values.
        window: How many tokens each sees, itself included; None for all
            before it.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        key_value_graphs,
        num_pairs=num_pairs,
        num_symbols=num_symbols,
        window=window,
    )
    length = 2 * num_pairs + 1
    return Task(
        name='key_value',
        about=(
            'Which value was bound to the key that comes last? (associative '
            'recall)'
        ),
        level='node',
        metric='accuracy',
        outputs=num_symbols,
        features=(2 * num_symbols, length),
        # A value must learn of its key, and then be found by it.
        layers=1 + _steps(length - 1, window),
        chance=(1 + (num_pairs - 1) / num_symbols) / num_pairs,
        load=drawn(draw, graphs),
        directed=True,
    )


def _steps(distance: int, window: int | None) -> int:
    """How many steps of message passing go that far back, at least 1."""
    if window is None or distance == 0:
        return 1
    return math.ceil(distance / max(window - 1, 1))
