"""A graph-theory bridge between PyTorch Geometric and attention.

A transformer layer is a GNN layer: token ``i`` aggregates values from the
tokens ``j`` that it attends to. This package re-expresses the attention of
real transformers as message passing on directed token graphs, with the same
numbers as the original, so that graph tools apply to it directly.

Importing the package is cheap: every name below is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

if TYPE_CHECKING:
    from gnnbridge.models.capture import capture as capture
    from gnnbridge.models.convert import convert as convert
    from gnnbridge.models.convert import restore as restore
    from gnnbridge.models.embedded import load_embedded as load_embedded
    from gnnbridge.models.extract import extract_attention as extract_attention
    from gnnbridge.models.gains import path_gains as path_gains
    from gnnbridge.models.layer import convert_layer as convert_layer
    from gnnbridge.models.rewire import rewire as rewire
    from gnnbridge.models.tokens.add import add_tokens as add_tokens
    from gnnbridge.models.tokens.add import remove_tokens as remove_tokens
    from gnnbridge.models.tokens.nodes import token_layout as token_layout
    from gnnbridge.models.tokens.saving import load_tokens as load_tokens
    from gnnbridge.profiling import Profile as Profile
    from gnnbridge.profiling import profile as profile
    from gnnbridge.spectral.resistance import (
        effective_resistance as effective_resistance,
    )

_HOME_OF = {
    'add_tokens': 'gnnbridge.models.tokens.add',
    'capture': 'gnnbridge.models.capture',
    'convert': 'gnnbridge.models.convert',
    'convert_layer': 'gnnbridge.models.layer',
    'effective_resistance': 'gnnbridge.spectral.resistance',
    'extract_attention': 'gnnbridge.models.extract',
    'load_embedded': 'gnnbridge.models.embedded',
    'load_tokens': 'gnnbridge.models.tokens.saving',
    'path_gains': 'gnnbridge.models.gains',
    'Profile': 'gnnbridge.profiling',
    'profile': 'gnnbridge.profiling',
    'remove_tokens': 'gnnbridge.models.tokens.add',
    'restore': 'gnnbridge.models.convert',
    'rewire': 'gnnbridge.models.rewire',
    'token_layout': 'gnnbridge.models.tokens.nodes',
}

__all__ = sorted([*_HOME_OF, '__version__'])


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(
            f"module 'gnnbridge' has no attribute '{name}'. "
            f'Public names: {", ".join(__all__)}.'
        )
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
