"""Whether two runs measure the same thing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch_geometric.data import Data

from gnnbridge import __version__
from gnnbridge.profiling.settings import ProfileSettings

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

# Numbers of each parameter that are looked at.
_LOOKED_AT = 256


def fingerprint(
    model: PreTrainedModel,
    settings: ProfileSettings,
    sequences: Sequence[Tensor],
    rewiring: Any,
) -> str:
    """A hash of all that a run's numbers depend on.

    Of the weights some numbers of each parameter, of the corpus its first
    sequences: the others have a hash of their own each.

    Args:
        model: The model.
        settings: What is measured.
        sequences: The first sequences of the corpus.
        rewiring: What the model is rewired to, if it is.
    """
    config = model.config.to_dict()
    # Where a model was loaded from does not change it.
    config = {k: v for k, v in config.items() if not k.startswith('_')}
    parts = [
        __version__,
        type(model).__name__,
        str(model.dtype),
        json.dumps(config, sort_keys=True, default=str),
        json.dumps(dataclasses.asdict(settings), sort_keys=True),
        _described(rewiring),
        *(_digest(sequence) for sequence in sequences),
        *(f'{name} {_weights(p)}' for name, p in model.named_parameters()),
    ]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def _weights(parameter: Tensor) -> str:
    if parameter.device.type == 'meta':  # offloaded
        return str(tuple(parameter.shape))
    some = parameter.detach().flatten()[:_LOOKED_AT].float().cpu()
    return f'{tuple(parameter.shape)} {_digest(some)}'


def _digest(x: Tensor) -> str:
    array = x.detach().cpu().contiguous().numpy()
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def _described(rewiring: Any) -> str:
    """What tells one rewiring from another."""
    if isinstance(rewiring, Mapping):
        return str({k: _described(v) for k, v in rewiring.items()})
    if isinstance(rewiring, Data):
        return _digest(rewiring.edge_index)
    if isinstance(rewiring, Tensor):
        return _digest(rewiring)
    name = getattr(rewiring, '__qualname__', None)
    return repr(rewiring) if name is None else str(name)
