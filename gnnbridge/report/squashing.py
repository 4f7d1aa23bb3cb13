"""The section on over-squashing: how hard is a position to reach?"""

from __future__ import annotations

from typing import Any

from gnnbridge.report.figures import Curve, curves
from gnnbridge.report.section import (
    Numbers,
    Panel,
    ProfileDict,
    Section,
    largest,
    median,
    number,
)


def squashing(profile: ProfileDict) -> Section | None:
    """Effective resistance over token positions."""
    found = profile.get('resistance')
    if not found:
        return None
    hardest = largest(found['last'])
    return Section(
        anchor='squashing',
        title='Effective resistance',
        seen=(
            'The depth-matched causal resistance from receiver i to source j '
            'is 1\u00a0/\u00a0(ℓ(i)\u00a0h(i,\u00a0j)): h is the chance that a '
            'random walk along the attention of i visits j before it stops '
            f'(after {number(found["hops"], 2)} hops on average, the sum of '
            'the mean mixing over layers), and ℓ the rate at which it leaves '
            f'i or stops there. {_hardest(found, hardest)}'
        ),
        meaning=(
            'High resistance is over-squashing: little of what that token '
            'says can arrive. The value describes the graph (attention '
            'averaged over heads and layers), not what the weights make of '
            'the signal.'
        ),
        null=(
            'In the uniform causal graph resistance grows with the position '
            'of the source, because later tokens have fewer paths forward; '
            'what differs from that curve is due to the weights.'
        ),
        panels=[
            _resistance_panel(profile, 'last', 'Seen from the last token'),
            _resistance_panel(profile, 'mean', 'Seen from all later tokens'),
        ],
    )


def _hardest(found: dict[str, Any], place: int | None) -> str:
    if place is None:
        return 'The last token reaches no other token.'
    lost = sum(value is None for value in found['last'][:-1])
    text = (
        f'From the last token, position {place} is the hardest to reach '
        f'({number(found["last"][place])}; median '
        f'{number(median(found["last"]))}).'
    )
    if lost:
        text += f' {lost} positions cannot be reached at all (gaps).'
    return text


def _resistance_panel(profile: ProfileDict, view: str, title: str) -> Panel:
    lines = [Curve('this model', profile['resistance'][view])]
    baseline = profile.get('baseline')
    if baseline is not None and baseline.get('resistance'):
        values: Numbers = baseline['resistance'][view]
        lines.append(Curve('re-initialised', values, 'reinitialised'))
    uniform = profile['nulls'].get('resistance')
    if uniform:
        lines.append(Curve('uniform causal', uniform[view], 'null'))
    medians = ', '.join(f'{c.label} {number(median(c.values))}' for c in lines)
    return Panel(
        image=curves(
            lines,
            title=title,
            x_label='position of the source token',
            y_label='effective resistance',
            log=True,
        ),
        alt=f'{title}: effective resistance by position. Medians: {medians}.',
        caption=f'{title}, by position of the source. Medians: {medians}.',
    )
