"""The section on the collapse of the last token's representation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gnnbridge.report.extracts import precision_length
from gnnbridge.report.figures.collapse import (
    PAIRS,
    plot_collapse,
    plot_sharpness,
)
from gnnbridge.report.reading import TITLES, Part, dig, precisions, values
from gnnbridge.report.section import Section, Table, last, numeral, whole
from gnnbridge.report.sections.wanted import Wanted, at_end, drawn, from_to


def collapse(profile: Mapping[str, Any], part: Part) -> Section:
    """Distances of last states by length, in both precisions."""
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        seen=_seen(part),
        compare=(
            'Where attention spreads evenly the distance falls as one over '
            'the length, a slope of −1, whatever the weights '
            f'(Barbero et al. 2024).{_again(part)}'
        ),
        status=part.status,
        reasons=part.reasons,
        panels=drawn(profile, part, _panels(part)),
        more=drawn(profile, part, _more(part)),
        tables=[_table(part)],
    )


def _seen(part: Part) -> str:
    parts = []
    for pair, name in PAIRS.items():
        slope = dig(part.model, pair, 'own', 'slope')
        if slope is None:
            continue
        length = precision_length(part.model, pair)
        reached = ''
        if length is not None:
            reached = (
                '; bfloat16 tells the two apart at every length'
                if length == math.inf
                else f'; to bfloat16 they are equal from {whole(length)} tokens'
            )
        parts.append(
            f'With the {name} the distance goes as the length to the power '
            f'{numeral(slope)}'
            f'{reached}.'
        )
    nearest = values(part.model, 'sharpness', 'nearest_neighbor')
    if nearest:
        parts.append(
            'The nearest other sequence is at '
            f'{at_end(nearest)} of the mean distance at '
            f'{whole(last(values(part.model, "sharpness", "lengths")))} tokens.'
        )
    return ' '.join(parts)


def _again(part: Part) -> str:
    slope = dig(part.baseline, 'repeat_last', 'own', 'slope')
    if slope is None:
        return ''
    return f' Re-initialised weights: {numeral(slope)}.'


def _panels(part: Part) -> list[Wanted]:
    return [
        *(
            Wanted(
                (pair,),
                plot_collapse,
                from_to(part, pair, 'own', 'l1'),
                {'pair': pair},
            )
            for pair in PAIRS
        ),
        Wanted(
            ('sharpness', 'nearest_neighbor'),
            plot_sharpness,
            'How far the last state is from that of the nearest other '
            'sequence, relative to the mean distance of two.',
        ),
        Wanted(
            ('repeat_last',),
            plot_collapse,
            'How far the two directions are apart.',
            {'pair': 'repeat_last', 'measure': 'cosine'},
        ),
    ]


def _more(part: Part) -> list[Wanted]:
    return [
        Wanted(
            (pair,),
            plot_collapse,
            from_to(part, pair, 'own', measure),
            {'pair': pair, 'measure': measure},
        )
        for pair in PAIRS
        for measure in ('linf', 'l2')
    ]


def _table(part: Part) -> Table:
    rows = []
    for pair, name in PAIRS.items():
        for dtype in precisions(dig(part.model, pair)):
            for label, _, side in part.sides:
                found = dig(side, pair, dtype)
                if found:
                    rows.append([f'{name}, {dtype}', label, *_cells(found)])
    columns = [
        'pair', 'weights', 'slope', '±', 'before the norm', 'L1, shortest',
        'L1, longest', 'equal from',
    ]  # fmt: skip
    return Table(
        columns,
        rows,
        'Slope of the logarithm of the distance over that of the length, in '
        'what the output head reads and in what leaves the last block; and '
        'the length from which the two states are equal to the last bit.',
    )


def _cells(found: Mapping[str, Any]) -> list[str]:
    curve = values(found, 'l1')
    return [
        numeral(found.get('slope')),
        numeral(found.get('slope_error'), 1),
        numeral(found.get('block_slope')),
        numeral(curve[0] if curve else None),
        at_end(curve),
        whole(found.get('reaches_precision_at')),
    ]
