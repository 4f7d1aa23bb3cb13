"""Graphs in which every row sees all that the rows before it see."""

from __future__ import annotations

from collections.abc import MutableMapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gnnbridge.nn.plan import AttentionPlan


def nested_rows(plan: AttentionPlan) -> Tensor | None:
    """Which rows see a key ``[B | 1, Q]``; None where rows are not nested.

    Rows are nested if each sees the keys of the row before it and maybe more,
    as in causal and full graphs, also of padded sequences. A sum of earlier
    rows of attention then gathers the sum of what these rows gathered.

    Lists of edges are looked at by their ranges of keys; one whose rows have
    several counts as not nested.
    """
    if plan.structure is not None:
        num_keys, num_queries = plan.graph_size
        return torch.full(
            (1, num_queries), num_keys > 0, device=plan.device
        )  # fmt: skip
    if plan not in _known:
        _known[plan] = _looked_at(plan)
    return _known[plan]


# Plans are reused by many layers, and looking at one waits for the device.
_known: MutableMapping[AttentionPlan, Tensor | None] = WeakKeyDictionary()


def _looked_at(plan: AttentionPlan) -> Tensor | None:
    if plan.given_mask is not None:
        mask = plan.given_mask
        nested = not (mask[:, :-1] & ~mask[:, 1:]).any()
        return mask.any(dim=-1) if nested else None
    windows = plan.windows
    if windows is None or windows.start.size(1) != 1:
        return None
    start, stop = (
        x.view(plan.num_graphs, -1) for x in (windows.start, windows.stop)
    )
    seen = stop > start
    within = (start[:, 1:] <= start[:, :-1]) & (stop[:, 1:] >= stop[:, :-1])
    return seen if (within | ~seen[:, :-1]).all() else None
