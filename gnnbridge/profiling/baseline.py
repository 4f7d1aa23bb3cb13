"""The model that a profile is compared with: the same, and untrained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gnnbridge.models.convert import Mode, convert
from gnnbridge.models.loading import reinitialize
from gnnbridge.remedies.base import applied

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel


def untrained(model: PreTrainedModel, seed: int, mode: Mode) -> PreTrainedModel:
    """A converted model of the same kind with freshly drawn weights.

    It has the remedies of the given one, as they are when they are applied.
    """
    fresh = reinitialize(model, seed)
    for remedy in applied(model):
        # It has inserted tokens already.
        if remedy.part != 'tokens':
            remedy.apply(fresh)
    return convert(fresh, mode=mode)
