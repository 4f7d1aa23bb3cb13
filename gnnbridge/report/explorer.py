"""The data of the attention graph that the page draws itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gnnbridge.report.graphs import layers_of
from gnnbridge.report.reading import dig, part, values


def explorer_data(
    profiles: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Markup | None:
    """The graphs of profiles as JSON for a script element.

    Args:
        profiles: What ``Profile.to_dict()`` returns.
        names: What each is called.

    Returns:
        Escaped JSON, ``None`` if no profile carries graphs.
    """
    panels = [
        _panel(profile, name)
        for profile, name in zip(profiles, names, strict=True)
    ]
    if not any(panel['layers'] for panel in panels):
        return None
    text = json.dumps({'panels': panels}, allow_nan=False)
    # What could end the element, or begin a comment in it.
    for char in '<>&':
        text = text.replace(char, f'\\u{ord(char):04x}')
    return Markup(text)


def _panel(profile: Mapping[str, Any], name: str) -> dict[str, Any]:
    size = dig(profile, 'graphs', 'tokens') or 0
    scores = _scores(profile)
    return {
        'name': name,
        'size': size,
        'tokens': values(profile, 'text', 'tokens')[:size],
        'layers': [
            {
                'layer': graph['layer'],
                'heads': graph['heads'],
                'keep': graph['keep'],
                'total': graph['edges_total'],
                'own': graph['self_share'],
                'first': graph['first_token_share'],
                'source': graph['source'],
                'weight': graph['weight'],
                'scores': scores.get(graph['layer']),
            }
            for graph in layers_of(profile)
        ],
    }


def _scores(profile: Mapping[str, Any]) -> dict[int, Any]:
    """The sink scores of the heads of each layer."""
    section = part(profile, 'sinks')
    if section is None:
        return {}
    layers = values(section.model, 'layer')
    rows = values(section.model, 'sink_score')
    return dict(zip(layers, rows, strict=False))


def most_sunk(profile: Mapping[str, Any]) -> int | None:
    """The layer that sends the most to the first token."""
    found = layers_of(profile)
    if not found:
        return None
    top = max(found, key=lambda graph: graph['first_token_share'] or 0)
    return int(top['layer'])
