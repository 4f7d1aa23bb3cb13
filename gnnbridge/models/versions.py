"""What transformers calls by other names before 5.4."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import Cache

__all__ = ['PreTrainedConfig', 'cache_offsets', 'mask_queries']

_name = 'PreTrainedConfig'
if not hasattr(transformers, _name):  # its name before 5.0
    _name = 'PretrainedConfig'
PreTrainedConfig = getattr(transformers, _name)


def mask_queries(given: dict[str, Any]) -> int:
    """The number of queries that a mask function is called for."""
    if 'q_length' in given:
        return given['q_length']
    # Before 5.4 it was given their positions.
    return given['cache_position'].shape[0]


def cache_offsets(
    cache: Cache, queries: int, layer: int
) -> tuple[int | Tensor, int]:
    """The sequence positions of the next query and of the first key kept."""
    first = cache.get_seq_length(layer)
    # A static cache counts in a tensor that it changes in place.
    first = first.clone() if isinstance(first, Tensor) else first
    sizes: Any = cache.get_mask_sizes
    try:
        return first, sizes(queries, layer)[1]
    except (AttributeError, TypeError):
        # Before 5.4 it took the positions of the queries.
        positions = torch.arange(queries) + torch.as_tensor(first).cpu()
        return first, sizes(positions, layer)[1]
