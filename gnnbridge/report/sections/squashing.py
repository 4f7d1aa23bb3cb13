"""The section on over-squashing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gnnbridge.report.extracts import weakest_share, weakest_tenth
from gnnbridge.report.figures.squashing import (
    plot_bounds,
    plot_jacobian,
    plot_jacobian_distance,
    plot_jacobian_layers,
    plot_jacobian_map,
    plot_proxies,
    plot_resistance,
)
from gnnbridge.report.reading import TITLES, Part, dig, values
from gnnbridge.report.section import (
    Section,
    Table,
    largest,
    median,
    numeral,
    percent,
    whole,
)
from gnnbridge.report.sections.wanted import Wanted, drawn, least_and_most


def squashing(profile: Mapping[str, Any], part: Part) -> Section:
    """Jacobians by position, their proxies and bounds, and resistances."""
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        seen=_seen(part),
        compare=_compare(part),
        status=part.status,
        reasons=part.reasons,
        panels=drawn(profile, part, _panels(part)),
        more=drawn(profile, part, _more(part)),
        tables=[
            table
            for table in (_proxies(part), _bounds(part), _reach(part))
            if table.rows
        ],
    )


def _seen(part: Part) -> str:
    parts = []
    weakest = weakest_tenth(values(part.model, 'jacobian_last'))
    if weakest is not None:
        parts.append(
            f'The last of {part.model.get("tokens")} tokens depends least on '
            f'positions {weakest.first}–{weakest.last}: '
            f'{numeral(weakest.share, 2)} times as much as on the median '
            'position.'
        )
    resistance = values(part.model, 'resistance', 'last')
    hardest = largest(resistance)
    if hardest is not None:
        hops = dig(part.model, 'resistance', 'hops')
        parts.append(
            f'By the resistance of the attention graph, matched to '
            f'{numeral(hops, 2)} hops, position {hardest} is the hardest to '
            f'reach ({numeral(resistance[hardest])}; median '
            f'{numeral(median(resistance))}).'
        )
    error = part.model.get('jacobian_error')
    if error is not None:
        parts.append(
            f'Norms over all pairs are estimates, within {percent(error)}.'
        )
    return ' '.join(parts)


def _compare(part: Part) -> str:
    null, again = weakest_share(part.null), weakest_share(part.baseline)
    text = (
        'The uniform causal graph favours early positions by itself; only '
        'what differs from its curve is due to the weights.'
    )
    if null is not None:
        text += f' Its weakest tenth has {numeral(null, 2)} of the median'
        if again is not None:
            text += f', that of re-initialised weights {numeral(again, 2)}'
        text += '.'
    return text


def _panels(part: Part) -> list[Wanted]:
    return [
        Wanted(
            ('jacobian_last',),
            plot_jacobian,
            'Exact norm of the derivative of the last state by each embedding. '
            + least_and_most(part, 'jacobian_last'),
        ),
        Wanted(
            ('proxies',),
            plot_proxies,
            'Each proxy is moved to the mean of the Jacobian: compare shapes, '
            'not levels. Rank correlations are in the table.',
        ),
        Wanted(
            ('jacobian_map',),
            plot_jacobian_map,
            'Receivers down, sources across, averages over blocks of tokens.',
        ),
        Wanted(
            ('jacobian_map',),
            plot_jacobian_map,
            'The same with re-initialised weights, on the same scale.',
            {'side': 'baseline'},
            'baseline',
        ),
        Wanted(
            ('bounds',),
            plot_bounds,
            'Orders of magnitude above what was measured, so that 0 is tight. '
            'Full lines are proved for this model, broken ones are estimates.',
        ),
        Wanted(
            ('resistance', 'last'),
            plot_resistance,
            _medians(part, 'last'),
        ),
    ]


def _more(part: Part) -> list[Wanted]:
    return [
        Wanted(
            ('jacobian_by_distance',),
            plot_jacobian_distance,
            'Root mean square over receivers. '
            + least_and_most(part, 'jacobian_by_distance'),
        ),
        Wanted(
            ('jacobian_last_in_layer',),
            plot_jacobian_layers,
            'Norm of the derivative through one block alone, from each '
            'position to the last token.',
        ),
        Wanted(
            ('resistance', 'mean'),
            plot_resistance,
            _medians(part, 'mean'),
            {'view': 'mean'},
        ),
    ]


def _medians(part: Part, view: str) -> str:
    parts = [
        f'{label} {numeral(median(curve))}'
        for label, _, side in part.sides
        if (curve := values(side, 'resistance', view))
    ]
    if curve := values(part.null, 'resistance', view):
        parts.append(f'uniform causal {numeral(median(curve))}')
    return f'Medians: {", ".join(parts)}. Gaps cannot be reached.'


def _proxies(part: Part) -> Table:
    found = dig(part.model, 'proxies') or {}
    again = dig(part.baseline, 'proxies') or {}
    rows = [
        [
            name,
            *(
                numeral(dig(proxy, kind))
                for kind in ('all', 'per_receiver', 'partial')
            ),
            *([numeral(dig(again, name, 'all'))] if again else []),
        ]
        for name, proxy in sorted(found.items(), key=_worth)
    ]
    columns = ['proxy', 'all pairs', 'per receiver', 'beyond place']
    if again:
        columns.append('all pairs, re-initialised')
    return Table(
        columns,
        rows,
        'Spearman correlation of each proxy with the measured Jacobian; '
        'beyond place: with the ranks of both places and of their distance '
        'taken out.',
    )


def _worth(item: tuple[str, Any]) -> float:
    """The best proxy first."""
    value = dig(item[1], 'all')
    return math.inf if value is None else -value


def _bounds(part: Part) -> Table:
    found = dig(part.model, 'bounds') or {}
    rows = [
        [
            name,
            'proved' if bound.get('rigorous') else 'estimate',
            numeral(bound.get('median_log10')),
            numeral(bound.get('least_log10')),
            whole(bound.get('violations')),
            numeral(bound.get('constant_log10')),
        ]
        for name, bound in found.items()
        if bound
    ]
    return Table(
        ['bound', 'kind', 'median', 'least', 'violated', 'constant'],
        rows,
        'Bounds over the measured norm, as powers of ten; the constant is '
        'what the weights contribute to the bound.',
    )


def _reach(part: Part) -> Table:
    reach = dig(part.model, 'under_reach') or {}
    again = dig(part.baseline, 'under_reach') or {}
    rows = [
        [label, *(write(side.get(name)) for side in (reach, again) if side)]
        for name, label, write in (
            ('depth', 'layers', whole),
            ('diameter', 'diameter in hops', whole),
            ('beyond_depth_share', 'pairs beyond the depth', percent),
            ('unreachable_share', 'pairs that are not joined', percent),
        )
        if reach
    ]
    columns = ['under-reach', 'this model']
    return Table(
        columns + (['re-initialised'] if again else []),
        rows,
        'Whether the layers are enough for every pair of tokens to meet.',
    )
