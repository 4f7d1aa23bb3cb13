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
    from gnnbridge.profiling import Profile as Profile
    from gnnbridge.profiling import profile as profile
    from gnnbridge.spectral.resistance import (
        effective_resistance as effective_resistance,
    )

_HOME_OF = {
    'capture': 'gnnbridge.models.capture',
    'convert': 'gnnbridge.models.convert',
    'convert_layer': 'gnnbridge.models.layer',
    'effective_resistance': 'gnnbridge.spectral.resistance',
    'extract_attention': 'gnnbridge.models.extract',
    'load_embedded': 'gnnbridge.models.embedded',
    'path_gains': 'gnnbridge.models.gains',
    'Profile': 'gnnbridge.profiling',
    'profile': 'gnnbridge.profiling',
    'restore': 'gnnbridge.models.convert',
    'rewire': 'gnnbridge.models.rewire',
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
