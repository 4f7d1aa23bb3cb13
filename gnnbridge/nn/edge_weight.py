"""Prior weights of edges as biases of their scores."""

from __future__ import annotations

import torch
from torch_geometric.typing import OptTensor


def log_edge_weight(edge_weight: OptTensor) -> OptTensor:
    """Turns prior edge weights into the bias that multiplies attention by them.

    Raises:
        ValueError: If a weight is negative, infinite or not a number.
    """
    if edge_weight is None:
        return None
    bad = ~((edge_weight >= 0) & edge_weight.isfinite())
    if bad.any():
        edge = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"Expected 'edge_weight' to be finite and non-negative (got "
            f'{float(edge_weight[edge])} at edge {edge}).'
        )
    # The logarithm has no gradient at zero: it would be NaN, not absent.
    dtype = torch.promote_types(edge_weight.dtype, torch.float32)
    absent = edge_weight == 0
    logarithm = edge_weight.to(dtype).masked_fill(absent, 1.0).log()
    return logarithm.masked_fill(absent, float('-inf'))
