"""Private configs: setting a backend must not reach another model.

transformers keeps the name of the backend on the config object, and models
that were built from one config object share it.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from gnnbridge.models.versions import PreTrainedConfig

# Parts of composite models that see no tokens keep their own attention.
_NOT_TEXT = ('vision', 'audio', 'speech', 'image')

Originals = list[tuple[nn.Module, str, PreTrainedConfig]]


def privatise_configs(model: PreTrainedModel, backend: str) -> Originals:
    """Gives a model its own copies of its configs, set to a backend.

    Returns:
        What to put back: module, attribute and original config.
    """
    memo: dict[int, Any] = {}
    originals: Originals = []
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, PreTrainedConfig):
                originals.append((module, name, value))
                private = copy.deepcopy(value, memo)
                object.__setattr__(module, name, private)
    for private in {id(c): c for c in _copies(originals)}.values():
        # A part that sees no tokens is left alone, a whole model is not.
        if private is model.config or not _is_other_part(private):
            _set_backend(private, backend)
    return originals


def restore_configs(originals: Originals) -> None:
    """Puts the original config objects back."""
    for module, name, config in originals:
        object.__setattr__(module, name, config)


def _copies(originals: Originals) -> list[PreTrainedConfig]:
    return [getattr(module, name) for module, name, _ in originals]


def _is_other_part(config: PreTrainedConfig) -> bool:
    kind = type(config).__name__.lower()
    return not config.sub_configs and any(word in kind for word in _NOT_TEXT)


def _set_backend(config: PreTrainedConfig, backend: str) -> None:
    """Sets a config and its text parts; other parts keep what they had."""
    config._attn_implementation_internal = backend
    for key in config.sub_configs:
        part = getattr(config, key, None)
        if part is not None and not any(word in key for word in _NOT_TEXT):
            _set_backend(part, backend)
