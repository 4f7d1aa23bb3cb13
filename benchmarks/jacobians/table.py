"""The tables of benchmarks/README.md, from the results."""

from __future__ import annotations

from typing import Any

from .agreement import COLUMNS
from .measure import JACOBIAN
from .scores import FULL

_TRAINED = ('embedded', 'gpt2', 'gpt2_wide', 'llama', 'neox')
_SCORES = (
    '-distance',
    '-source index',
    'uniform-graph rollout',
    'direct attention',
    'direct attention, gains',
    'plain rollout, mixing 1/2',
    'T, measured mixing',
    'V, measured mixing',
    'causal conductance',
    'depth-matched conductance',
    'envelope h*',
    'rms rollout, gains',
    '+ token gains',
    '+ key path',
    FULL,
    'full, paths incoherent',
    'full on uniform attention',
    '4 random probes',
)
_KNOCKOUT = (
    JACOBIAN,
    'knock-out energy',
    FULL,
    '+ token gains',
    'direct attention',
    'V, measured mixing',
    'depth-matched conductance',
)
_COLLAPSE = (
    'Lyapunov resistance',
    'uniform-graph resistance',
    'distance of rows of A',
    '|i - j|',
)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown by name."""
    groups = result['groups']
    trained = [name for name in _TRAINED if name in groups]
    new = [name for name in groups if name.endswith((' new', ' peaky'))]
    return {
        'jacobian': _scores(groups, trained, 'jacobian', _SCORES),
        'new': _by_group(groups, new),
        'knockout': _scores(groups, trained, 'knockout', _KNOCKOUT),
        'collapse': _collapse(groups, trained),
        'sources': _sources(groups, trained),
    }


def _scores(
    groups: dict[str, Any], names: list[str], part: str, scores: tuple[str, ...]
) -> str:
    """Scores by group."""
    lines = _head(['score', *names])
    for score in scores:
        cells = []
        for name in names:
            found = groups[name].get(part, {}).get(score)
            cells.append('' if found is None else _three(found))
        if any(cells):
            lines.append(_row([_bold(score), *cells]))
    return '\n'.join(lines)


def _by_group(groups: dict[str, Any], names: list[str]) -> str:
    """Groups by score: there are many of them."""
    scores = (
        'direct attention', 'plain rollout, mixing 1/2',
        'depth-matched conductance', '+ token gains', FULL,
        'full on uniform attention',
    )  # fmt: skip
    lines = _head(['weights', *scores])
    for name in names:
        found = groups[name]['jacobian']
        lines.append(_row([name, *(_three(found[score]) for score in scores)]))
    return '\n'.join(lines)


def _collapse(groups: dict[str, Any], names: list[str]) -> str:
    """Layers summed, means over texts."""
    everyone = [
        name
        for base in names
        for name in (base, f'{base} new')
        if 'collapse' in groups.get(name, {})
    ]
    lines = _head(['', *(x.replace('|i - j|', 'distance') for x in _COLLAPSE)])
    for name in everyone:
        found = groups[name]['collapse']
        cells = [
            ' / '.join(f'{found[x]["layers_summed"][c]:.2f}' for c in COLUMNS)
            for x in _COLLAPSE
        ]
        lines.append(_row([name, *cells]))
    return '\n'.join(lines)


def _sources(groups: dict[str, Any], names: list[str]) -> str:
    """Whether early tokens have the lower resistance to the last."""
    lines = _head(
        [
            '', 'unlimited depth, by layer', 'mean matrix', 'depth-matched',
            'full rollout', 'measured', 'received attention given the place',
        ]
    )  # fmt: skip
    for name in names:
        found = groups[name]['sources']
        layers = [x for key, x in found['layers'].items() if key != 'mean']
        mean = found['layers']['mean']
        place = [f'{x["unlimited"]["with_place"]:.2f}' for x in layers]
        lines.append(
            _row(
                [
                    name,
                    ', '.join(place),
                    f'{mean["unlimited"]["with_place"]:.2f}',
                    f'{mean["matched"]["with_place"]:.2f}',
                    f'{found["full rollout"]["with_place"]:.2f}',
                    f'{found["measured"]["with_place"]:.2f}',
                    f'{mean["matched"]["with_received_given_place"]:.2f}',
                ]
            )
        )
    return '\n'.join(lines)


def _three(found: dict[str, Any]) -> str:
    figures = found['without_token_0']
    return ' / '.join(f'{figures[c]["mean"]:.2f}' for c in COLUMNS)


def _bold(score: str) -> str:
    return f'**{score}**' if score == FULL else score


def _head(cells: list[str] | tuple[str, ...]) -> list[str]:
    return [_row(list(cells)), '|' + '---|' * len(cells)]


def _row(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'
