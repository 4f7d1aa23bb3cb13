"""What a profile holds, and the forms in which it is written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gnnbridge.profiling.plain import Result

SCHEMA_VERSION = 2


@dataclass
class Profile(Result):
    """What :func:`profile` found; plain data throughout.

    ``profile.schema.json`` beside this module describes every field.

    Attributes:
        model: Name, architecture, sizes, dtype.
        text: Its source, how much was read, and the tokens of the sequence
            that is shown.
        parity: How far the logits of the model run as message passing are
            from the original's; ``None`` for a model that came rewired or
            with remedies.
        findings: What is wrong with the model and where, in words.
        diagnostics: What each diagnostic found, of the model, of the same
            architecture with re-initialised weights, and without either.
        graphs: The strongest edges of each layer and head.
        notes: What the reader has to know before the figures.
        settings: The arguments of the run.
        versions: Of everything that can change a number.
        timings: Wall time of each step in seconds.
        resources: Memory, processes and time, beside what was estimated.
        schema_version: Of this form.
    """

    model: dict[str, Any]
    text: dict[str, Any]
    parity: dict[str, Any] | None
    findings: list[dict[str, Any]]
    diagnostics: dict[str, dict[str, Any]]
    graphs: dict[str, Any]
    notes: list[str]
    settings: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float]
    resources: dict[str, Any]
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, path: str | Path) -> Profile:
        """Reads a profile that :meth:`to_json` wrote.

        Raises:
            ValueError: If the file holds something else, or a profile of
                another version of the form.
        """
        try:
            found = json.loads(Path(path).read_text(encoding='utf-8'))
        except ValueError as error:
            raise ValueError(
                f"Expected the JSON of a profile in '{path}' (got {error})."
            ) from None
        names = {field.name for field in fields(cls)}
        version = found.get('schema_version') if isinstance(found, dict) else 0
        if version != SCHEMA_VERSION or set(found) != names:
            raise ValueError(
                f"Expected a profile of version {SCHEMA_VERSION} in '{path}' "
                f'(got version {version}). Measure the model again.'
            )
        return cls(**found)

    def to_html(self, path: str | Path) -> Path:
        """Writes the report, one self-contained page, and returns its path."""
        # Drawing is needed here only, and takes a second to import.
        from gnnbridge.report.html import write

        return write(self.to_dict(), path)


def write_comparison(
    profiles: Sequence[Profile], names: Sequence[str], path: str | Path
) -> Path:
    """Writes a page that sets profiles side by side, and returns its path.

    Args:
        profiles: Two or more: before and after, or of several models.
        names: What each is called.
        path: Where to write.

    Raises:
        ValueError: If there are fewer than two, or not as many names.
    """
    from gnnbridge.report.comparing import write_comparison as write

    return write([profile.to_dict() for profile in profiles], names, path)
