"""How numba compiles the kernels of the CPU."""

from __future__ import annotations

from numba import njit

# All but the freedom to assume finite numbers: -inf is a score here, and a NaN
# that comes in has to come out.
_FAST = {'nsz', 'arcp', 'contract', 'afn', 'reassoc'}

# No references are counted: that takes an atomic instruction, at which a core
# waits, for every row. Nothing can be allocated then, which callers do.
_COMMON = {'error_model': 'numpy', 'fastmath': _FAST, '_nrt': False}
# Without the interpreter's lock, and kept on disk for the next process.
compiled = njit(nogil=True, cache=True, **_COMMON)
# For the parts of a kernel.
inlined = njit(forceinline=True, **_COMMON)
