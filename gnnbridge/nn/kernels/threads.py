"""Running compiled functions side by side.

The kernels release the interpreter's lock, so that plain threads suffice. A
pool of our own spares us numba's threading layers, of which the portable one
must not be entered from two threads at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_parallel(
    function: Callable[..., None],
    calls: Sequence[tuple[Any, ...]],
    threads: int,
) -> None:
    """Calls a function once for each tuple of arguments.

    With one thread it is the caller's own. The first exception is raised
    again.
    """
    threads = min(threads, len(calls))
    if threads <= 1:
        for arguments in calls:
            function(*arguments)
        return
    # Threads do not survive a fork: a child process starts its own.
    key = (os.getpid(), threads)
    pool = _pools.get(key)
    if pool is None:
        pool = _pools[key] = ThreadPoolExecutor(threads, 'gnnbridge')
    for future in [pool.submit(function, *arguments) for arguments in calls]:
        future.result()
