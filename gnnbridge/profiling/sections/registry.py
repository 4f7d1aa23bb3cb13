"""The sections of a profile by their names."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from gnnbridge.profiling.sampling import SectionModule


def sections(names: Sequence[str]) -> list[SectionModule]:
    """The sections of these names, each a class of its module's name."""
    found = []
    for name in names:
        module = importlib.import_module(f'gnnbridge.profiling.sections.{name}')
        found.append(getattr(module, name.capitalize())())
    return found
