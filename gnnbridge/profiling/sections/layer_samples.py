"""What samplers keep of the token graphs that they see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch_geometric.data import Batch, Data

# Numbers, or arrays [H], of one sequence at one layer.
Found: TypeAlias = Mapping[str, Any]


def sequences_of(graph: Data) -> list[Data]:
    """The graphs of the sequences of one layer."""
    return graph.to_data_list() if isinstance(graph, Batch) else [graph]


def stacked(layers: Sequence[Sequence[Found]]) -> dict[str, np.ndarray]:
    """Samples of all sequences, ``[S, L]`` or ``[S, L, H]``.

    Args:
        layers: For each layer what was found of each sequence. Rows are
            filled up with NaN where layers differ in heads, or a layer lacks
            a quantity.
    """
    cells: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    for layer, sequences in enumerate(layers):
        for sequence, found in enumerate(sequences):
            for name, value in found.items():
                row = np.asarray(value, dtype=np.float64)
                cells.setdefault(name, {})[sequence, layer] = row
    size = (max(map(len, layers), default=0), len(layers))
    return {name: _filled(size, rows) for name, rows in cells.items()}


def _filled(
    size: tuple[int, int], rows: dict[tuple[int, int], np.ndarray]
) -> np.ndarray:
    dim = max(row.ndim for row in rows.values())
    longest = max(row.size for row in rows.values())
    out = np.full((*size, longest), np.nan)
    for place, row in rows.items():
        out[place][: row.size] = row
    return out if dim else out[..., 0]
