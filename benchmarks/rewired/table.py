"""The tables of benchmarks/README.md, from the results."""

from __future__ import annotations

from typing import Any

from .patterns import NAMES


def tables(result: dict[str, Any]) -> dict[str, str]:
    """One for the embedded model, and one for all others."""
    others = [name for name in result['models'] if name != 'embedded']
    return {
        'embedded': _table(result, ['embedded']),
        'others': _table(result, others),
    }


def _table(result: dict[str, Any], models: list[str]) -> str:
    columns = [
        (name, budget)
        for name in models
        for budget in result['models'][name]['patterns']['window']
    ]
    heads = (f'{name} {budget}' for name, budget in columns)
    lines = [
        '| pattern | ' + ' | '.join(heads) + ' |',
        '|---' * (1 + len(columns)) + '|',
    ]
    for pattern in NAMES:
        cells = (_cell(result, name, pattern, k) for name, k in columns)
        lines.append(f'| {pattern} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _cell(result: dict[str, Any], name: str, pattern: str, budget: str) -> str:
    """The loss above that of full attention, and retrieval if measured."""
    point = result['models'][name]['patterns'].get(pattern, {}).get(budget)
    if point is None:
        return ''
    text = f'{point["excess"]["mean"]:+.3f}'
    if 'retrieval' in point:
        text += f' / {point["retrieval"]["mean"]:.2f}'
    return text
