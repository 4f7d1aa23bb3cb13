"""The section on over-smoothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnnbridge.report.figures.smoothing import (
    ABLATIONS,
    plot_ablations,
    plot_mixing,
    plot_smoothing,
)
from gnnbridge.report.reading import TITLES, Part, dig, shown_state, values
from gnnbridge.report.section import Section, Table, mean, numeral, percent
from gnnbridge.report.sections.wanted import Wanted, at_end, drawn, from_to

_COLUMNS = (
    'effective_rank',
    'stable_rank',
    'mean_cosine',
    'rank_collapse',
    'dirichlet_uniform',
)


def smoothing(profile: Mapping[str, Any], part: Part) -> Section:
    """Ranks, cosines and energies of the states, with parts taken out."""
    reasons = list(part.reasons)
    why = dig(part.model, 'ablation_reason')
    if why and why not in reasons:
        reasons.append(why)
    width = profile['model'].get('hidden_size')
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        seen=_seen(part, width),
        compare=(
            'Fully collapsed tokens have effective rank 1, cosine 1, distance '
            f'0 and energy 0.{_again(part)}'
        ),
        status=part.status,
        reasons=reasons,
        panels=drawn(
            profile,
            part,
            [_curve(part, name) for name in (
                'effective_rank', 'mean_cosine', 'rank_collapse',
            )] + _ablations(part),
        ),
        more=drawn(
            profile,
            part,
            [_curve(part, name) for name in (
                'stable_rank', 'dirichlet_energy', 'dirichlet_uniform',
            )] + [Wanted(('mixing',), plot_mixing, from_to(part, 'mixing'))],
        ),
        tables=[_table(part)],
    )  # fmt: skip


def _seen(part: Part, width: int | None) -> str:
    rank, cosine = (
        values(part.model, name) for name in ('effective_rank', 'mean_cosine')
    )
    mixing = values(part.model, 'mixing')
    hops = sum(value for value in mixing if value is not None)
    most = '' if not width else f' (at most {width})'
    return (
        f'The effective rank goes from {numeral(rank[0] if rank else None)} to '
        f'{at_end(rank)}{most}, the mean cosine between two tokens from '
        f'{numeral(cosine[0] if cosine else None)} to {at_end(cosine)}. The '
        f'attention branch makes up {percent(mean(mixing))} of the stream on '
        f'average, {numeral(hops, 2)} hops over all layers.'
    )


def _again(part: Part) -> str:
    rank = values(part.baseline, 'effective_rank')
    if not rank:
        return ''
    return (
        f' With re-initialised weights the rank goes from {numeral(rank[0])} '
        f'to {at_end(rank)}, the cosine to '
        f'{at_end(values(part.baseline, "mean_cosine"))}.'
    )


def _curve(part: Part, name: str) -> Wanted:
    null = dig(part.null, name.replace('_uniform', '_energy'))
    return Wanted(
        (name,),
        plot_smoothing,
        from_to(part, name, null=null),
        {'quantity': name},
    )


def _ablations(part: Part) -> list[Wanted]:
    ranks = {
        label: values(part.model, 'ablations', name, 'effective_rank')
        for name, label in ABLATIONS.items()
    }
    ends = ', '.join(f'{label} {at_end(rank)}' for label, rank in ranks.items())
    end = at_end(values(part.model, 'effective_rank'))
    return [
        Wanted(
            ('ablations',),
            plot_ablations,
            f'Rank at the end: as it is {end}, {ends}. Attention alone '
            'draws tokens together (Dong et al. 2021); residual connections '
            'and MLPs hold them apart.',
        )
    ]


def _table(part: Part) -> Table:
    states = values(part.model, 'state')
    rows = []
    for place in range(len(values(part.model, 'effective_rank'))):
        columns = [values(part.model, name) for name in _COLUMNS]
        rows.append(
            [
                shown_state(states, place),
                *(
                    numeral(column[place] if place < len(column) else None)
                    for column in columns
                ),
            ]
        )
    return Table(
        ['state', 'rank', 'stable rank', 'cosine', 'distance', 'energy'],
        rows,
        'Every state of the residual stream; energy on the uniform graph.',
    )
