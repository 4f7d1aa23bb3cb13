"""Rules on attention sinks and massive activations."""

from __future__ import annotations

from gnnbridge.report.extracts import share_of_sinks
from gnnbridge.report.figures.sinks import counts
from gnnbridge.report.reading import Part, dig, flat, values
from gnnbridge.report.rules.finding import Finding, beside
from gnnbridge.report.section import largest, numeral, percent, placed

# The score above which a head is a sink: Gu et al. 2025, chosen strict and
# not sensitive to the number of tokens.
SINK_SCORE = 0.3
# Trained models of 7 billion parameters and more have sinks in 77 to 99 % of
# their heads (Gu et al. 2025, table 1); below 1 % these authors speak of none.
MOST_HEADS = 0.5
SOME_HEADS = 0.01
# A share of the heads by which a model must exceed its re-initialised self.
ABOVE_BASELINE = 0.05
# A layer in which every second head sinks has little attention left.
HALF_A_LAYER = 0.5


def sinks(part: Part) -> list[Finding]:
    """Sinks at the first token, at others, and massive activations."""
    return [*_first_token(part), *_elsewhere(part), *_massive(part)]


def _first_token(part: Part) -> list[Finding]:
    share = share_of_sinks(part.model)
    if share is None:
        return []
    again = share_of_sinks(part.baseline)
    null = dig(part.null, 'sink_score')
    uniform = (
        None if null is None else f'uniform attention scores {numeral(null)}'
    )
    numbers = beside(None if again is None else percent(again), uniform)
    if share < SOME_HEADS:
        text = f'Hardly any head ({percent(share)}) scores above 0.3. {numbers}'
        return [Finding('info', part.name, 'No attention sink', text)]
    layers, rates = values(part.model, 'layer'), values(part.model, 'sink_rate')
    full = [
        layer
        for layer, rate in zip(layers, rates, strict=True)
        if rate is not None and rate >= HALF_A_LAYER
    ]
    top = largest(rates) or 0
    text = (
        f'{percent(share)} of all heads give the first token more than 0.3 of '
        f'their attention, the most in layer {layers[top]} '
        f'({percent(rates[top])}). {_kinds(part)}{numbers}'
    )
    where = placed('layer', full or [layers[top]])
    if again is not None and share < again + ABOVE_BASELINE:
        title = 'Sinks, but no more than without training'
        return [Finding('info', part.name, title, text, where)]
    severity = 'high' if share >= MOST_HEADS else 'medium'
    title = 'Attention is parked on the first token'
    return [Finding(severity, part.name, title, text, where)]


def _kinds(part: Part) -> str:
    if not flat(part.model.get('value_norm_ratio')):
        return ''
    found = counts(part)
    total = sum(number for kind, number in found.items() if kind != 'none')
    if not total:
        return ''
    return (
        f'Of {total} such heads, {found["no-op"]} read next to nothing there '
        f'(no-op) and {found["broadcast"]} read a value of full size '
        '(broadcast). '
    )


def _elsewhere(part: Part) -> list[Finding]:
    rates = values(part.model, 'sink_rate_by_token')
    again = values(part.baseline, 'sink_rate_by_token')
    found = []
    for token, rate in enumerate(rates[1:], start=1):
        base = again[token] if token < len(again) else None
        if rate is None or rate < max(ABOVE_BASELINE, (base or 0) + 0.02):
            continue
        found.append((token, rate, base))
    if not found:
        return []
    token, rate, base = max(found, key=lambda item: item[1])
    text = (
        f'{percent(rate)} of all heads give token {token} more than 0.3 of '
        'the attention of the queries that see it. '
        + beside(None if base is None else percent(base), None)
    )
    where = placed('token', [token for token, *_ in found])
    return [Finding('medium', part.name, 'Sinks at later tokens', text, where)]


def _massive(part: Part) -> list[Finding]:
    counted = values(part.model, 'massive_count')
    layers = values(part.model, 'layer')
    there = [
        layer
        for layer, count in zip(layers, counted, strict=False)
        if count is not None and count >= 0.5
    ]
    if not there:
        return []
    ratios = values(part.model, 'massive_ratio')
    again = values(part.baseline, 'massive_ratio')
    top, base = largest(ratios), largest(again)
    text = (
        'Some activations exceed 100 and 1000 times the median of their '
        'state (Sun et al. 2024)'
        + (
            ''
            if top is None
            else f'; the largest is {numeral(ratios[top])} times the median'
        )
        + '. '
        + beside(
            None if base is None else f'{numeral(again[base])} times', None
        )
    )
    where = placed('layer', there)
    # The absolute threshold is met by some architectures at birth.
    born = any((n or 0) >= 0.5 for n in values(part.baseline, 'massive_count'))
    severity = 'info' if born else 'medium'
    return [Finding(severity, part.name, 'Massive activations', text, where)]
