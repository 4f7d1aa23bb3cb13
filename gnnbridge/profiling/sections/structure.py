"""Resistance and reach of the token graphs of a corpus."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.reach import Reach
from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.graph.schema import is_causal
from gnnbridge.profiling.sampling import Samples, Tally
from gnnbridge.profiling.sections.layer_samples import sequences_of
from gnnbridge.spectral.layers import renormalized
from gnnbridge.spectral.resistance import effective_resistance

_NOT_CAUSAL = (
    'Expected a causal model (got one in which tokens attend to later ones). '
    'Resistance by position is that of causal graphs.'
)


class StructureSampler:
    """Causal resistance by position, and what is out of reach.

    Resistance is that of the mean attention over the layers, matched to the
    expected number of attention hops. Curves are kept by the length of the
    sequence, since positions before the readout compare among sequences of
    one length alone. Held are three matrices ``[N, N]`` for each sequence,
    however many layers there are.
    """

    def __init__(self) -> None:
        self._total: list[Tensor] = []
        self._hops: list[float] = []
        self._reach: list[Reach] = []
        self._layers = 0

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer.

        Raises:
            NotImplementedError: If it is not causal.
        """
        if not is_causal(graph):
            raise NotImplementedError(_NOT_CAUSAL)
        parts = sequences_of(graph)
        if not self._total:
            sizes = [int(part.num_nodes or 0) for part in parts]
            self._total = [torch.zeros(size, size) for size in sizes]
            self._hops = [0.0 for _ in sizes]
            self._reach = [Reach(size) for size in sizes]
        self._layers += 1
        for number, part in enumerate(parts):
            size = len(self._total[number])
            A = edges_to_dense(part.edge_index, part.edge_weight.float(), size)
            self._total[number] += renormalized(A)
            mixing = part.get('mixing')
            self._hops[number] += (
                float('nan') if mixing is None else float(mixing.mean())
            )
            self._reach[number].add(part)

    def result(self, outgoing: list[Tensor]) -> Samples:
        """Samples of the batch."""
        rows: dict[str, list[Any]] = {}
        for total, hops, reach in zip(
            self._total, self._hops, self._reach, strict=True
        ):
            size = len(total)
            found: dict[str, Any] = {f'hops/{size}': hops}
            known = None if np.isnan(hops) else hops
            found |= {
                f'resistance_{name}/{size}': curve
                for name, curve in _resistance(
                    total / self._layers, known
                ).items()
            }
            found |= {
                f'{name}/{size}': value
                for name, value in dataclasses.asdict(reach.result()).items()
            }
            for name, value in found.items():
                rows.setdefault(f'squashing/{name}', []).append(value)
        return {name: np.array(values) for name, values in rows.items()}


def structure_of(own: Tally) -> dict[str, Any]:
    """Resistance and reach at the commonest length of a sequence."""
    size = _commonest_length(own)
    if size is None:
        return {'resistance': None, 'under_reach': None}
    return {
        'resistance': {
            'tokens': size,
            'hops': float(own.mean(f'hops/{size}')),
            'last': own.mean(f'resistance_last/{size}'),
            'mean': own.mean(f'resistance_mean/{size}'),
        },
        'under_reach': {
            'tokens': size,
            'depth': round(float(own.mean(f'depth/{size}'))),
            'diameter': round(float(own.mean(f'diameter/{size}'))),
            'unreachable_share': own.mean(f'unreachable_share/{size}'),
            'beyond_depth_share': own.mean(f'beyond_depth_share/{size}'),
        },
    }


def uniform_resistance(own: Tally) -> dict[str, Any] | None:
    """Resistance of uniform causal attention in as many hops."""
    size = _commonest_length(own)
    if size is None:
        return None
    hops = float(own.mean(f'hops/{size}'))
    A = renormalized(torch.ones(size, size).double().tril())
    found = _resistance(A, None if np.isnan(hops) else hops)
    return {'tokens': size, 'hops': hops, **found}


def _resistance(A: Tensor, hops: float | None) -> dict[str, np.ndarray]:
    """By source, from the last receiver and the mean of all later ones."""
    flow = effective_resistance(A, hops=hops, conductance=True).tril(-1)
    count = torch.arange(len(A) - 1, -1, -1)
    # Where nothing arrives there is no number.
    last = 1 / flow[-1].masked_fill(flow[-1] == 0, torch.nan)
    total = flow.sum(0)
    mean = count / total.masked_fill(total == 0, torch.nan)
    return {'last': last.numpy(), 'mean': mean.numpy()}


def _commonest_length(own: Tally) -> int | None:
    """The length of most sequences, the longest of equally common ones."""
    start = 'resistance_last/'
    count = {
        int(name.removeprefix(start)): float(
            own.count(f'depth/{name[len(start) :]}')
        )
        for name in own.moments
        if name.startswith(start)
    }
    return max(count, key=lambda size: (count[size], size), default=None)
