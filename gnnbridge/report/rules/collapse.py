"""Rules on the collapse of the last token's representation."""

from __future__ import annotations

import math

from gnnbridge.report.extracts import precision_length
from gnnbridge.report.figures.collapse import PAIRS
from gnnbridge.report.reading import Part, dig, values
from gnnbridge.report.rules.finding import Finding, beside
from gnnbridge.report.section import last, numeral, whole

# Theorem 4.2 of Barbero et al. 2024 has the distance fall as one over the
# length; random one-layer models measure -1 within 0.1.
THEORY = -1.0
NEAR_THEORY = 0.25
# A fall slower than the square root of the length is not called collapse.
SLOW = -0.5
# A slope that differs from the baseline's by so much is due to training.
LEARNED = 0.15
# States told apart half as well at the longest length as at the shortest.
BLUNTED = 0.5


def collapse(part: Part) -> list[Finding]:
    """Pairs of sequences that long contexts cannot tell apart."""
    return [*_precision(part), *_slope(part), *_sharpness(part)]


def _precision(part: Part) -> list[Finding]:
    findings = []
    for pair, name in PAIRS.items():
        length = precision_length(part.model, pair)
        if length is None or length == math.inf:
            continue
        again = precision_length(part.baseline, pair)
        shown = None
        if again is not None:
            shown = 'never' if again == math.inf else f'from {whole(again)}'
        text = (
            f'With the {name}, the last states of both sequences are equal to '
            f'bfloat16 from {whole(length)} tokens on: no later layer and no '
            'readout can tell them apart. '
            + beside(shown, 'with uniform attention the distance falls as 1/n')
        )
        learned = again is None or again > length
        findings.append(
            Finding(
                'high' if learned else 'medium',
                part.name,
                'Half precision cannot tell sequences apart',
                text,
                f'from {whole(length)} tokens on',
            )
        )
    return findings


def _slope(part: Part) -> list[Finding]:
    found = dig(part.model, 'repeat_last', 'own') or {}
    slope = found.get('slope')
    if slope is None:
        return []
    again = dig(part.baseline, 'repeat_last', 'own', 'slope')
    lengths = values(part.model, 'lengths')
    error = found.get('slope_error')
    text = (
        'With the last token repeated, the distance of the last states goes '
        f'as the length to the power {numeral(slope)}'
        + ('' if error is None else f' ± {numeral(error, 1)}')
        + f', to {numeral(last(values(found, "l1")))} at '
        f'{whole(last(lengths))} tokens. '
        + beside(None if again is None else numeral(again), 'theory: −1')
    )
    if slope > SLOW:
        title = 'The last token does not collapse'
        return [Finding('info', part.name, title, text)]
    if slope > THEORY + NEAR_THEORY:
        title = 'The last token collapses slower than in theory'
        return [Finding('info', part.name, title, text)]
    if again is not None and slope > again - LEARNED:
        title = 'The last token collapses, as with any weights'
        return [Finding('info', part.name, title, text, 'long sequences')]
    title = 'The last token collapses'
    return [Finding('medium', part.name, title, text, 'long sequences')]


def _sharpness(part: Part) -> list[Finding]:
    kept = _kept(values(part.model, 'sharpness', 'nearest_neighbor'))
    if kept is None or kept > BLUNTED:
        return []
    again = _kept(values(part.baseline, 'sharpness', 'nearest_neighbor'))
    lengths = values(part.model, 'sharpness', 'lengths')
    text = (
        'From the shortest to the longest length, the distance of a last '
        'state to its nearest neighbour falls to '
        f'{numeral(kept, 2)} of what it was, of the mean distance. '
        + beside(None if again is None else numeral(again, 2), None)
    )
    learned = again is None or kept < BLUNTED * again
    return [
        Finding(
            'medium' if learned else 'info',
            part.name,
            'Long sequences are told apart less well',
            text,
            f'at {whole(last(lengths))} tokens',
        )
    ]


def _kept(curve: list[float | None]) -> float | None:
    end = last(curve)
    return end / curve[0] if curve and curve[0] and end is not None else None
