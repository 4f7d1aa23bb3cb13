"""Results as strict JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor


@dataclass
class Result:
    """Base class of dataclasses of plain data."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data; values that are not finite are ``None``."""
        return plain(asdict(self))

    def to_json(self, path: str | Path) -> Path:
        """Writes strict JSON to ``path`` and returns the path."""
        return write_json(self.to_dict(), path)


def plain(value: Any) -> Any:
    """The same as JSON can hold it.

    Numbers that are not finite become ``None``, arrays lists.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(value: Any, path: str | Path) -> Path:
    """Writes plain data to ``path``, as one line, and returns the path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, allow_nan=False)
    target.write_text(text, encoding='utf-8')
    return target
