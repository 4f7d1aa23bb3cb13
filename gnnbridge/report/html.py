"""Writes a profile as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gnnbridge.report.explorer import explorer_data, most_sunk
from gnnbridge.report.figures.attention import plot_attention_graph
from gnnbridge.report.overview import counted, tiles, told, worst
from gnnbridge.report.panels import panel
from gnnbridge.report.reading import TITLES, as_dict, part
from gnnbridge.report.section import Panel, Section, numeral, percent, whole
from gnnbridge.report.sections.collapse import collapse
from gnnbridge.report.sections.retrieval import retrieval
from gnnbridge.report.sections.runway import runway
from gnnbridge.report.sections.sinks import sinks
from gnnbridge.report.sections.smoothing import smoothing
from gnnbridge.report.sections.squashing import squashing
from gnnbridge.report.sections.wanted import refused
from gnnbridge.report.theme import declarations

# In this order: names are those of one scope.
_SCRIPTS = ('theme.js', 'edges.js', 'drawing.js', 'explorer.js')
SECTIONS = {
    'sinks': sinks,
    'smoothing': smoothing,
    'squashing': squashing,
    'collapse': collapse,
    'runway': runway,
    'retrieval': retrieval,
}


def render(profile: Any) -> str:
    """Draws the page for a profile.

    The page needs no network and no file beside it. All text that comes from
    the model or the prompt is escaped; the page's own script is the only one
    that its security policy lets run.

    Args:
        profile: What ``Profile.to_dict()`` returns, the same read back from
            its JSON, or the profile itself.

    Returns:
        A complete HTML document.

    Raises:
        ValueError: If the profile was written in another version of the
            format.
    """
    plain = as_dict(profile)
    found = told(plain)
    return page(
        'profile.html.jinja',
        profile=plain,
        title=plain['model']['name'],
        findings=found,
        tiles=tiles(plain),
        sections=sections_of(plain),
        graph_data=explorer_data([plain], [plain['model']['name']]),
        start_layer=most_sunk(plain),
        still=_still(plain),
        titles=TITLES,
        worst=worst,
        counted=counted,
    )


def write(profile: Any, path: str | Path) -> Path:
    """Writes :func:`render`'s page to ``path`` and returns the path."""
    return write_page(render(profile), path)


def write_page(text: str, path: str | Path) -> Path:
    """Writes a page to ``path`` and returns the path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate in a token has no UTF-8 form.
    target.write_text(text, encoding='utf-8', errors='replace', newline='\n')
    return target


def sections_of(profile: Mapping[str, Any]) -> list[Section]:
    """The sections of the diagnostics that were asked for."""
    sections = []
    for name, build in SECTIONS.items():
        found = part(profile, name)
        if found is not None:
            sections.append(
                build(profile, found) if found.model else refused(found)
            )
    return sections


def page(template: str, **values: Any) -> str:
    """Fills a template of this package, with its style and its script."""
    script = _script()
    digest = hashlib.sha256(script.encode()).digest()
    return (
        _environment()
        .get_template(template)
        .render(
            script=Markup(script),
            script_hash=base64.b64encode(digest).decode(),
            style=Markup(_asset('page.css')),
            light=Markup(declarations(dark=False)),
            dark=Markup(declarations(dark=True)),
            **values,
        )
    )


def _asset(name: str) -> str:
    return (files('gnnbridge.report') / 'page' / name).read_text('utf-8')


@cache
def _script() -> str:
    """The page's only script, in a scope of its own."""
    parts = [_asset(name) for name in _SCRIPTS]
    return "\n'use strict';\n(() => {\n" + '\n'.join(parts) + '})();\n'


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader('gnnbridge.report', 'page'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=numeral, percent=percent, whole=whole, setting=_setting
    )
    return environment


def _setting(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, list | tuple):
        return ', '.join(map(str, value))
    return (
        {True: 'yes', False: 'no', None: '–'}.get(value, str(value))
        if (value is None or isinstance(value, bool))
        else str(value)
    )


def _still(profile: Mapping[str, Any]) -> Panel | None:
    """A picture of the layer with the most of a sink, without a script."""
    layer = most_sunk(profile)
    if layer is None:
        return None
    return panel(
        plot_attention_graph,
        profile,
        'The strongest edges of the layer that sends the most to the first '
        'token. With scripts every layer and head can be chosen.',
        layer=layer,
    )
