"""What is said of a model, and of the versions that it ran on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnbridge import __version__

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Name, architecture, size, and where a model runs."""
    name = str(model.config.name_or_path or type(model).__name__)
    return {
        # A model from a directory has the directory's path for its name.
        'name': Path(name).name if Path(name).is_dir() else name,
        'architecture': type(model).__name__,
        'num_parameters': sum(p.numel() for p in model.parameters()),
        'dtype': str(model.dtype).removeprefix('torch.'),
        'device': str(model.device),
    }


def versions() -> dict[str, str]:
    """The versions of everything that can change a number."""
    packages = ('torch', 'torch-geometric', 'transformers')
    return {
        'gnnbridge': __version__,
        'python': platform.python_version(),
        **{package: version(package) for package in packages},
    }
