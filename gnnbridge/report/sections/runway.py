"""The section on the runway and position bias."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gnnbridge.report.extracts import asymmetry, null_asymmetry
from gnnbridge.report.figures.runway import (
    INFLUENCES,
    plot_asymmetry,
    plot_influence,
    plot_noise,
    plot_opportunities,
    plot_runway,
)
from gnnbridge.report.reading import TITLES, Part, dig
from gnnbridge.report.section import Section, Table, numeral, percent
from gnnbridge.report.sections.wanted import Wanted, drawn


def runway(profile: Mapping[str, Any], part: Part) -> Section:
    """Influence by position, and whether behaviour follows it."""
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        seen=_seen(part),
        compare=_compare(part),
        status=part.status,
        reasons=part.reasons,
        panels=drawn(profile, part, _panels()),
        more=drawn(profile, part, _more()),
        tables=[
            table for table in (_table(part), _duplicates(part)) if table.rows
        ],
    )


def _seen(part: Part) -> str:
    found = asymmetry(part.model)
    text = ''
    if found is not None:
        text = (
            'The first tenth of the positions has '
            f'{numeral(math.exp(found), 2)} times the influence of the last '
            f'tenth (asymmetry {numeral(found)}; the last token is left out).'
        )
    gap = dig(part.model, 'duplicate_key', 'preferred', 'first_last')
    if gap is not None:
        text += (
            ' Of two values for one key the first is named more often than '
            f'the last by {numeral(gap, 2)}.'
        )
    return text.strip()


def _compare(part: Part) -> str:
    null, again = null_asymmetry(part.null), asymmetry(part.baseline)
    text = 'A causal graph prefers early tokens at birth: '
    text += f'uniform attention has an asymmetry of {numeral(null)}'
    if again is not None:
        text += f', re-initialised weights {numeral(again)}'
    return f'{text}.'


def _panels() -> list[Wanted]:
    return [
        Wanted(
            ('influence',),
            plot_influence,
            'On the final state of the last token; 1 is an even share of all '
            'influence.',
        ),
        Wanted(
            ('asymmetry',),
            plot_asymmetry,
            '0: first and last tenth count alike. Above 0 the first tenth '
            'counts more.',
        ),
        Wanted(
            ('noise', 'accuracy'),
            plot_noise,
            'Key-value retrieval with Gaussian noise of σ standard deviations '
            'on the embeddings.',
        ),
        Wanted(
            ('opportunities',),
            plot_opportunities,
            'How much of the depth is left to refine each token before it is '
            'read.',
        ),
    ]


def _more() -> list[Wanted]:
    return [
        Wanted(
            ('path_count_log10',),
            plot_runway,
            'Paths through the layers of the full causal graph: '
            'C(n − i + L − 1, L − 1).',
        )
    ]


def _table(part: Part) -> Table:
    base = dig(part.baseline, 'asymmetry')
    rows = []
    for name, label in INFLUENCES.items():
        found = dig(part.model, 'asymmetry', name)
        if found is None:
            continue
        weakest = dig(part.model, 'weakest_position', name)
        row = [
            label,
            numeral(found),
            '–' if weakest is None else str(weakest),
            numeral(dig(part.model, 'spearman_position', name)),
        ]
        rows.append(row + ([numeral(base.get(name))] if base else []))
    columns = ['influence', 'asymmetry', 'weakest position', 'Spearman']
    return Table(
        columns + (['asymmetry, re-initialised'] if base else []),
        rows,
        'Asymmetry: logarithm of first over last tenth. Spearman: of influence '
        'and position.',
    )


def _duplicates(part: Part) -> Table:
    found = dig(part.model, 'duplicate_key') or {}
    again = dig(part.baseline, 'duplicate_key', 'preferred')
    rows = []
    for name, label in (
        ('first_last', 'first over last'),
        ('first_middle', 'first over middle'),
        ('middle_last', 'middle over last'),
    ):
        gap = dig(found, 'preferred', name)
        if gap is None:
            continue
        row = [label, numeral(gap, 2)]
        if again:
            row.append(numeral(dig(again, name), 2))
        rows.append(row)
    columns = ['two bindings of a key', 'preferred by']
    return Table(
        columns + (['re-initialised'] if again else []),
        rows,
        'How much more often the earlier value is named; '
        f'{percent(found.get("answered_share"))} of the answers are one of '
        'the two.',
    )
