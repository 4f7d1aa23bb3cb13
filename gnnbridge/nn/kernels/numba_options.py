"""How numba compiles the kernels of the CPU."""

from __future__ import annotations

from numba import njit

# All but the freedom to assume finite numbers: -inf is a score here.
_FAST = {'nnan', 'nsz', 'arcp', 'contract', 'afn', 'reassoc'}

# Without the interpreter's lock, and kept on disk for the next process.
compiled = njit(nogil=True, cache=True, error_model='numpy', fastmath=_FAST)
# For the parts of a kernel: a call would count references to every array that
# is passed.
inlined = njit(forceinline=True, error_model='numpy', fastmath=_FAST)
