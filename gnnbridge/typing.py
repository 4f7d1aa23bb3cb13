"""Type aliases that the whole package shares."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch_geometric.typing import OptTensor as OptTensor

Weights: TypeAlias = Literal['nonnegative', 'signed']
r"""Which edge weights a function accepts.

``'nonnegative'`` refuses a negative weight; ``'signed'`` lets it through, for
maps such as those of differential attention, where the caller knows that the
rows are not probabilities.
"""

__all__ = ['OptTensor', 'Weights']
