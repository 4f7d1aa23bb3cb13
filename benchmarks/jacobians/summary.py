"""Groups of models: spread over seeds, best scores, and bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .agreement import COLUMNS, spread
from .measure import JACOBIAN
from .scores import FULL, KIND_OF_REFERENCE, KINDS

# Of the full rollout, over all pairs and per receiver.
BARS = {
    'embedded': {'pairs': 0.95, 'per_receiver': 0.9},
    'gpt2': {'pairs': 0.9, 'per_receiver': 0.8},
    'gpt2_wide': {'pairs': 0.9, 'per_receiver': 0.8},
}
Record = dict[str, Any]


def summary_of(records: Sequence[Record]) -> dict[str, Any]:
    """All figures by group, and what follows from them."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record['group'], []).append(record)
    return {
        'groups': {name: _group(seeds) for name, seeds in groups.items()},
        'verdicts': {name: verdict(seeds) for name, seeds in groups.items()},
        'bars': {
            name: bar(groups[name], required)
            for name, required in BARS.items()
            if name in groups
        },
    }


def verdict(seeds: Sequence[Record]) -> dict[str, Any]:
    """The best scores of a group, and what the full rollout is ahead of.

    'ahead' holds, by column, the smallest lead over the seeds of the full
    rollout over the best baseline, and over the best score of attention
    alone.
    """
    found: dict[str, Any] = {
        'best': _best(seeds, ('baseline', 'resistance', 'gains', 'full')),
        'best_with_ablations': _best(seeds, tuple(set(KINDS.values()))),
    }
    if FULL not in seeds[0]['jacobian'][0]:
        return found
    for name, kinds in (
        ('baselines', ('baseline',)),
        ('attention_scores', ('baseline', 'resistance')),
    ):
        lead = {
            column: min(_lead(seed, kinds, column) for seed in seeds)
            for column in COLUMNS
        }
        found[f'least_lead_over_{name}'] = lead
        found[f'beats_all_{name}'] = all(x > 0 for x in lead.values())
    return found


def bar(seeds: Sequence[Record], required: dict[str, float]) -> dict[str, Any]:
    """Whether the full rollout is as good as required."""
    found = {
        column: [_figure(seed, FULL, column) for seed in seeds]
        for column in required
    }
    means = {column: float(np.mean(x)) for column, x in found.items()}
    least = {column: min(x) for column, x in found.items()}
    return {
        'required': required,
        'mean': means,
        'least_seed': least,
        'met': all(means[c] >= x for c, x in required.items()),
        'met_by_every_seed': all(least[c] >= x for c, x in required.items()),
    }


def kind_of(score: str) -> str:
    """What a row of a table is."""
    if score == JACOBIAN or score.endswith('probes'):
        return KIND_OF_REFERENCE
    return KINDS.get(score, 'knock-out')


def _group(seeds: Sequence[Record]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: seeds[0][key]
        for key in ('kind', 'model', 'layers', 'width', 'heads')
    }
    found['seeds'] = [seed['seed'] for seed in seeds]
    found['loss'] = [seed['loss'] for seed in seeds]
    found['hops'] = spread([seed['hops'] for seed in seeds])
    errors = [x for seed in seeds for x in seed['relative_error']]
    found['jacobian_is'] = 'exact'
    if errors[0] is not None:
        found['jacobian_is'] = 'estimated'
        found['median_relative_error'] = max(errors)
    for part in ('jacobian', 'knockout'):
        if all(any(seed.get(part, ())) for seed in seeds):
            found[part] = _scores([seed[part] for seed in seeds])
    if all('collapse' in seed for seed in seeds):
        found['collapse'] = _mean([seed['collapse'] for seed in seeds])
    if all('sources' in seed for seed in seeds):
        found['sources'] = _mean([x for s in seeds for x in s['sources']])
    return found


def _scores(seeds: Sequence[list[Record]]) -> dict[str, Any]:
    """By score; those that only some seeds have are of these alone."""
    names = dict.fromkeys(name for seed in seeds for name in seed[0])
    found: dict[str, Any] = {}
    for name in names:
        having = [seed for seed in seeds if name in seed[0]]
        found[name] = {'kind': kind_of(name)}
        for pairs in ('without_token_0', 'with_token_0'):
            found[name][pairs] = {
                column: spread(
                    [[text[name][pairs][column] for text in s] for s in having]
                )
                for column in COLUMNS
            }
    return found


def _mean(items: Sequence[Any]) -> Any:
    """Means of numbers in nested dictionaries and lists of one form."""
    first = items[0]
    if isinstance(first, dict):
        return {key: _mean([item[key] for item in items]) for key in first}
    if isinstance(first, list):
        return [_mean(same) for same in zip(*items, strict=True)]
    return float(np.mean(items))


def _figure(seed: Record, score: str, column: str) -> float:
    """The mean over texts, without token 0."""
    texts = [text[score]['without_token_0'] for text in seed['jacobian']]
    return float(np.mean([text[column] for text in texts]))


def _lead(seed: Record, kinds: Sequence[str], column: str) -> float:
    others = [
        _figure(seed, score, column)
        for score in seed['jacobian'][0]
        if kind_of(score) in kinds
    ]
    return _figure(seed, FULL, column) - max(others)


def _best(seeds: Sequence[Record], kinds: Sequence[str]) -> dict[str, str]:
    scores = [s for s in seeds[0]['jacobian'][0] if kind_of(s) in kinds]
    return {
        column: max(
            scores,
            key=lambda score: np.mean(
                [_figure(seed, score, column) for seed in seeds]
            ),
        )
        for column in COLUMNS
    }
