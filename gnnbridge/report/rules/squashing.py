"""Rules on over-squashing and under-reach."""

from __future__ import annotations

from collections.abc import Mapping

from gnnbridge.report.extracts import weakest_share, weakest_tenth
from gnnbridge.report.reading import Part, dig, values
from gnnbridge.report.rules.finding import Finding, beside
from gnnbridge.report.section import numeral, percent, whole

# The sensitivity to the weakest tenth of the positions, of the median's. The
# values are ours: a tenth, and a third, of what a typical token has.
HARDLY_HEARD = 0.1
WEAKLY_HEARD = 1 / 3
# A model squashes more than its graph or its architecture if it is below so
# much of their number.
BELOW = 0.5
# Shares of the pairs that are further apart than the model is deep.
FEW_PAIRS = 0.01
MANY_PAIRS = 0.25
# Published proxies correlate at 0.9 and more where they work.
GOOD_PROXY = 0.7


def squashing(part: Part) -> list[Finding]:
    """Positions that the last token hardly depends on, and why."""
    return [
        *_weakest(part),
        *_under_reach(part),
        *_violations(part),
        *_proxy(part),
    ]


def _weakest(part: Part) -> list[Finding]:
    found = weakest_tenth(values(part.model, 'jacobian_last'))
    if found is None:
        return []
    null, again = weakest_share(part.null), weakest_share(part.baseline)
    where = f'positions {found.first}–{found.last}'
    text = (
        f'The last token depends on {where} {numeral(found.share, 2)} times as '
        'much as on the median position. '
        + beside(
            None if again is None else f'{numeral(again, 2)} at their weakest',
            None
            if null is None
            else f'uniform attention: {numeral(null, 2)} at its weakest',
        )
    )
    if found.share >= WEAKLY_HEARD:
        title = 'Every position reaches the last token'
        return [Finding('info', part.name, title, text)]
    others = [value for value in (null, again) if value is not None]
    if any(found.share > BELOW * value for value in others):
        title = 'Positions hardly heard, as without training'
        return [Finding('info', part.name, title, text, where)]
    severity = 'high' if found.share < HARDLY_HEARD else 'medium'
    title = 'Some positions hardly reach the last token'
    return [Finding(severity, part.name, title, text, where)]


def _under_reach(part: Part) -> list[Finding]:
    reach = dig(part.model, 'under_reach') or {}
    beyond = reach.get('beyond_depth_share')
    lost = reach.get('unreachable_share')
    if beyond is None or beyond < FEW_PAIRS:
        return []
    text = (
        f'{percent(beyond)} of the pairs are further apart than the '
        f'{reach.get("depth")} layers reach (diameter '
        f'{whole(reach.get("diameter"))}), {percent(lost)} among them are not '
        'joined at all. In the full causal graph every pair is one hop apart: '
        'this is the pattern of the attention and no matter of weights.'
    )
    severity = 'high' if beyond >= MANY_PAIRS else 'medium'
    return [Finding(severity, part.name, 'Under-reach', text, 'distant pairs')]


def _violations(part: Part) -> list[Finding]:
    bounds = dig(part.model, 'bounds') or {}
    broken = {
        name: bound['violations']
        for name, bound in bounds.items()
        if isinstance(bound, Mapping)
        and bound.get('rigorous')
        and (bound.get('violations') or 0) > 0
    }
    if not broken:
        return []
    listed = ', '.join(f'{name} at {n}' for name, n in broken.items())
    text = (
        'A bound that is proved lies below what was measured, at so many '
        f'positions: {listed}. Rounding can do that, or a mistake in a '
        'constant; do not use these bounds on this model.'
    )
    return [Finding('medium', part.name, 'A proved bound does not hold', text)]


def _proxy(part: Part) -> list[Finding]:
    proxies = dig(part.model, 'proxies') or {}
    known = {
        name: found['all']
        for name, found in proxies.items()
        if isinstance(found, Mapping) and found.get('all') is not None
    }
    if not known:
        return []
    best = max(known, key=lambda name: known[name])
    text = (
        f'Over all pairs the Jacobian is ranked best by {best} (Spearman '
        f'{numeral(known[best])}); distance alone has '
        f'{numeral(known.get("-distance"))}, uniform attention '
        f'{numeral(known.get("uniform rollout"))}.'
    )
    well = known[best] >= GOOD_PROXY
    title = (
        f'{best[0].upper()}{best[1:]} stands in well for the Jacobian'
        if well
        else 'No proxy stands in for the Jacobian'
    )
    return [Finding('info', part.name, title, text)]
