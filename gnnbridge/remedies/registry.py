"""All remedies by name."""

from __future__ import annotations

import os
from typing import Any, cast

from torch import nn

from gnnbridge.models.loading import load_pretrained
from gnnbridge.models.modified.files import saved_remedies
from gnnbridge.remedies.base import Remedy, applied
from gnnbridge.remedies.differential import Differential
from gnnbridge.remedies.gated import GatedAttention
from gnnbridge.remedies.runway import RunwayAware
from gnnbridge.remedies.sigmoid import SigmoidAttention
from gnnbridge.remedies.sink_logits import SinkLogit, SoftmaxOne
from gnnbridge.remedies.temperature import CalibratedTemperature
from gnnbridge.remedies.tokens import PauseTokens, SinkTokens
from gnnbridge.remedies.window import WindowWithSinks

_KINDS: tuple[type[Remedy], ...] = (
    SinkLogit,
    SoftmaxOne,
    GatedAttention,
    WindowWithSinks,
    SigmoidAttention,
    RunwayAware,
    CalibratedTemperature,
    PauseTokens,
    SinkTokens,
    Differential,
)
REMEDIES: dict[str, type[Remedy]] = {kind.name: kind for kind in _KINDS}


def make(name: str, **settings: Any) -> Remedy:
    """A remedy by its name.

    Args:
        name: A name of the registry.
        **settings: Its settings, all of which have defaults.

    Raises:
        ValueError: If there is no such remedy.
    """
    if name not in REMEDIES:
        raise ValueError(
            f"Expected 'name' to be one of {', '.join(REMEDIES)} (got "
            f"'{name}')."
        )
    return REMEDIES[name](**settings)


def load(model: Any, directory: str | os.PathLike[str] | None = None) -> Any:
    """Gives a model the remedies that were saved with it.

    ``save_pretrained`` writes what remedies added among the weights.
    ``from_pretrained`` alone ignores it, reports it as unexpected keys, and
    returns the model without them; this applies them again::

        model = gnnbridge.remedies.load(directory)

    Args:
        model: A directory that ``save_pretrained`` wrote, or a model that was
            loaded from one, without remedies.
        directory: The directory, for a model; where it was loaded from by
            default.

    Returns:
        The model; in evaluation mode if it was loaded here.

    Raises:
        LoadError: If the directory holds no model.
        ValueError: If no remedies were saved, or the model has some.
    """
    if not isinstance(model, nn.Module):
        directory = model if directory is None else directory
        settings = saved_remedies(directory)
        model, _ = load_pretrained(directory, without_remedies=True)
    else:
        directory = directory or cast(Any, model).name_or_path
        settings = saved_remedies(directory)
    if found := applied(model):
        raise ValueError(
            f'Expected a model without remedies (got one with {found}). '
            f'Remove them first.'
        )
    for one in settings:
        kind = REMEDIES[one.pop('name')]
        kind.of_settings(one).load(model, directory)
    return model
