"""Checks of the settings of remedies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Raises a ValueError if a setting is none of those known."""
    if value not in known:
        raise ValueError(
            f"Expected '{name}' to be one of {', '.join(known)} (got "
            f'{value!r}).'
        )


def check_count(name: str, value: Any, minimum: int) -> None:
    """Raises a ValueError if a setting is no whole number, or too small."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"Expected '{name}' to be an int (got {value!r}).")
    if value < minimum:
        raise ValueError(
            f"Expected '{name}' to be at least {minimum} (got {value})."
        )
