"""The section on attention sinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnnbridge.report.extracts import share_of_sinks
from gnnbridge.report.figures.sinks import (
    KINDS,
    QUANTITIES,
    counts,
    plot_head_kinds,
    plot_massive,
    plot_sink_rates,
    plot_sinks,
    plot_sinks_by_token,
)
from gnnbridge.report.reading import (
    TITLES,
    Part,
    by_layer,
    dig,
    flat,
    values,
)
from gnnbridge.report.section import (
    Section,
    Table,
    largest,
    mean,
    numeral,
    percent,
)
from gnnbridge.report.sections.wanted import Wanted, drawn, least_and_most

_SOURCES = (
    'Sink rate: share of heads whose mean attention on token 0 is above 0.3 '
    '(Gu et al. 2025), strict: above 0.8 (Barbero et al. 2025), edges: share '
    'of the edges from token 0 above 0.2 (Wu et al. 2025), largest: share of '
    'queries whose largest key is token 0 (Kaul et al. 2024).'
)


def sinks(profile: Mapping[str, Any], part: Part) -> Section:
    """Sinks by layer and head, beside uniform and untrained attention."""
    null = dig(part.null, 'sink_score')
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        seen=_seen(part),
        compare=(
            f'Uniform attention scores {numeral(null)}, with '
            f'{numeral(dig(part.null, "entropy"))} nats of entropy (the mark '
            f'on the colour bars).{_again(part)}'
        ),
        status=part.status,
        reasons=part.reasons,
        panels=drawn(profile, part, _panels(part)),
        more=drawn(profile, part, _more(part)),
        tables=[_table(part)],
    )


def _seen(part: Part) -> str:
    share = share_of_sinks(part.model)
    rates, layers = values(part.model, 'sink_rate'), values(part.model, 'layer')
    top = largest(rates)
    most = '' if not share or top is None else f', most in layer {layers[top]}'
    kinds = ', '.join(
        f'{count} {KINDS[kind][0]}'
        for kind, count in counts(part).items()
        if count
    )
    return (
        f'{percent(share)} of all heads put more than 0.3 of their attention '
        f'on the first token{most}. Mean score '
        f'{numeral(mean(flat(part.model.get("sink_score"))))}, entropy '
        f'{numeral(mean(by_layer(part.model.get("entropy"))))} nats, attention '
        f'reaches {numeral(mean(by_layer(part.model.get("span"))))} tokens '
        f'back on average. Heads by kind: {kinds}.'
    )


def _again(part: Part) -> str:
    share = share_of_sinks(part.baseline)
    if share is None:
        return ''
    return f' With re-initialised weights {percent(share)} of the heads sink.'


def _map(part: Part, quantity: str, side: str = 'model') -> Wanted:
    null = QUANTITIES[quantity].null
    mark = None if null is None else dig(part.null, null)
    uniform = '' if mark is None else f' Uniform attention: {numeral(mark)}.'
    return Wanted(
        (quantity,),
        plot_sinks,
        least_and_most(part, quantity) + uniform,
        {'quantity': quantity, 'side': side},
        side,
    )


def _panels(part: Part) -> list[Wanted]:
    return [
        _map(part, 'sink_score'),
        _map(part, 'sink_score', 'baseline'),
        _map(part, 'value_norm_ratio'),
        Wanted(
            ('head_kind',),
            plot_head_kinds,
            'Sinks whose value is below 0.3 of the mean norm move next to '
            'nothing (no-op); above 0.7 they broadcast.',
        ),
        _map(part, 'entropy'),
        Wanted(
            ('sink_rate',),
            plot_sink_rates,
            'The same attention by four definitions of a sink.',
        ),
    ]


def _more(part: Part) -> list[Wanted]:
    return [
        _map(part, 'sink_excess'),
        _map(part, 'entropy', 'baseline'),
        _map(part, 'span'),
        _map(part, 'inverse_participation'),
        _map(part, 'key_norm_ratio'),
        Wanted(
            ('sink_rate_by_token',),
            plot_sinks_by_token,
            'Share of all heads that put more than 0.3 of the attention that '
            'can see it on each of the first tokens.',
        ),
        Wanted(
            ('state_norm_ratio',),
            plot_massive,
            'How far the state of token 0, and the largest activation, stand '
            'out. Massive activations (Sun et al. 2024) exceed 1000 medians.',
        ),
    ]


def _table(part: Part) -> Table:
    model, base = part.model, part.baseline
    columns = [
        'layer', 'sink rate', 'strict', 'edges', 'largest', 'mean score',
        'highest', 'massive',
    ]  # fmt: skip
    if base:
        columns.append('rate, re-initialised')
    rows = []
    for place, layer in enumerate(values(model, 'layer')):
        scores = values(model, 'sink_score')[place] or []
        top = largest(scores)
        row = [
            str(layer),
            *(
                percent(_at(model, name, place))
                for name in (
                    'sink_rate',
                    'sink_rate_strict',
                    'sink_edge_rate',
                    'first_attention_rate',
                )
            ),
            numeral(mean(scores)),
            numeral(None if top is None else scores[top]),
            numeral(_at(model, 'massive_count', place), 2),
        ]
        if base:
            row.append(percent(_at(base, 'sink_rate', place)))
        rows.append(row)
    return Table(columns, rows, _SOURCES)


def _at(side: Mapping[str, Any], name: str, place: int) -> float | None:
    column = values(side, name)
    return column[place] if place < len(column) else None
