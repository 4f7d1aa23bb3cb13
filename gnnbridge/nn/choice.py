"""Which kernel runs which graph.

The thresholds are where the kernels cross in the line ``choices`` of
``benchmarks/attention_kernels.py`` on a CPU; on a GPU they are not measured.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TypeGuard

from gnnbridge.nn.formats import Windows

BACKENDS = (
    'auto', 'dense', 'row_window', 'csr_cpu', 'csr_triton', 'flex', 'scatter',
)  # fmt: skip
# Kernel of compressed rows on each kind of device.
ROW_KERNELS = {'cpu': 'csr_cpu'}
if find_spec('triton') is not None:
    ROW_KERNELS['cuda'] = 'csr_triton'
# Pairs up to which a mask of all of them is the fastest.
SMALL = 1 << 16
# Share of the pairs in its blocks that a window graph must use.
_FILLED = 0.3
# Share of all pairs below which skipping the others in windows pays.
_WORTH = 0.6
# Share of all pairs above which a mask costs less than a list of edges.
_DENSE = 0.25


def check_backend(backend: str) -> None:
    """Raises a ValueError if there is no such backend."""
    if backend not in BACKENDS:
        raise ValueError(
            f"Expected 'backend' to be one of {', '.join(BACKENDS)} (got "
            f"'{backend}')."
        )


def choose(
    backend: str,
    device: str,
    num_edges: int,
    num_pairs: int,
    structure: str | None,
    windows: Windows | None,
    masked: bool = False,
) -> tuple[str, str]:
    """The kernel for a graph, and the reason for it.

    Args:
        backend: What the caller asks for, or ``'auto'``.
        device: Type of the device.
        num_edges: Number of edges.
        num_pairs: Number of pairs of a query and a key of the same graph.
        structure: ``'causal'``, ``'full'`` or None.
        windows: The ranges of keys of the rows, if they are few.
        masked: Whether the graph was given as a mask.

    Raises:
        ValueError: If the backend that is asked for cannot run this graph.
    """
    if backend != 'auto':
        _check_forced(backend, device, structure, windows)
        return backend, 'as asked for'
    if structure is not None:
        return 'dense', f"the graph is {structure}: torch's kernel, no edges"
    if masked:
        if device == 'cpu' and _pays(windows, num_pairs):
            return 'row_window', f'rows of the mask are ranges{_most(windows)}'
        return 'dense', 'the graph is a mask'
    if num_pairs <= SMALL:
        return 'dense', 'the graph is small: a mask costs less than a list'
    if _pays(windows, num_pairs) and num_edges >= _FILLED * windows.work:
        return 'row_window', (
            f'rows are ranges of keys{_most(windows)}, and blocks of '
            f'{windows.rows} queries use {num_edges / windows.work:.0%} of '
            'their pairs'
        )
    if num_edges >= _DENSE * num_pairs:
        return 'dense', 'many pairs are edges: a mask costs less than a list'
    if device in ROW_KERNELS:
        return ROW_KERNELS[device], 'the graph is sparse and irregular'
    return 'scatter', f'the graph is irregular and no kernel runs on {device}'


def _pays(windows: Windows | None, num_pairs: int) -> TypeGuard[Windows]:
    """Whether enough pairs are outside of the blocks of a window graph."""
    if windows is None or windows.start.is_meta:
        return False
    return 0 < windows.work <= _WORTH * num_pairs


def _most(windows: Windows) -> str:
    return f' (at most {windows.start.size(1)})'


def _check_forced(
    backend: str,
    device: str,
    structure: str | None,
    windows: Windows | None,
) -> None:
    if backend == 'csr_cpu' and device != 'cpu':
        raise ValueError(
            f"Expected a graph on the CPU for backend 'csr_cpu' (got one on "
            f"{device}). Use 'csr_triton' there."
        )
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if backend == 'csr_triton' and device == 'cpu' and not interpreted:
        raise ValueError(
            "Expected a graph on a GPU for backend 'csr_triton' (got one on "
            "the CPU). Use 'csr_cpu' there; to test without a GPU set "
            'TRITON_INTERPRET=1 before the first import.'
        )
    if backend == 'csr_triton' and find_spec('triton') is None:
        raise ValueError(
            "Expected Triton to be installed for backend 'csr_triton' (it is "
            "not). Use 'scatter', which needs nothing."
        )
    if (
        backend in ('row_window', 'flex')
        and windows is None
        and structure is None
    ):
        raise ValueError(
            f'Expected a graph whose rows are at most four ranges of keys for '
            f"backend '{backend}' (got one with more). Use 'csr_cpu' or "
            f"'csr_triton'."
        )
