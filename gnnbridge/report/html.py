"""Writes a profile as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from gnnbridge.report.attention import sinks, spread, token_graphs
from gnnbridge.report.section import (
    ProfileDict,
    SectionBuilder,
    number,
    percent,
)
from gnnbridge.report.smoothing import smoothing
from gnnbridge.report.squashing import squashing

# The order of the page. A builder returns None when its data are absent.
SECTIONS: tuple[SectionBuilder, ...] = (
    token_graphs,
    sinks,
    spread,
    smoothing,
    squashing,
)


def render(profile: ProfileDict) -> str:
    """Draws the page for a profile.

    The page needs no network, no script and no file beside it. All text that
    comes from the model or the prompt is escaped.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the same read back
            from its JSON.

    Returns:
        A complete HTML document.
    """
    environment = Environment(
        loader=PackageLoader('gnnbridge.report', '.'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    sections = [build(profile) for build in SECTIONS]
    return environment.get_template('report.html.jinja').render(
        profile=profile,
        sections=[section for section in sections if section is not None],
    )


def write(profile: ProfileDict, path: str | Path) -> Path:
    """Writes :func:`render`'s page to ``path`` and returns the path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate in a token has no UTF-8 form.
    target.write_text(render(profile), encoding='utf-8', errors='replace')
    return target
