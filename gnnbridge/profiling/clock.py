"""Progress and wall time of the steps of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm


class Clock:
    """A progress bar that keeps the wall time of every step.

    Args:
        steps: The names of the steps.
        progress: Whether to show the bar.
    """

    def __init__(self, steps: Sequence[str], progress: bool) -> None:
        self.timings: dict[str, float] = {}
        self.bar = tqdm(total=len(steps), disable=not progress, leave=False)

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Times a step."""
        self.bar.set_description(step)
        start = time.perf_counter()
        yield
        self.timings[step] = round(time.perf_counter() - start, 4)
        self.bar.update()
