import math
from typing import Any

from gnnbridge.report.headlines import HEADLINES, Found, headlines
from gnnbridge.report.reading import TITLES


def named(profile: dict[str, Any], diagnostic: str) -> dict[str, Found]:
    return {
        found.headline.label: found for found in headlines(profile, diagnostic)
    }


def test_every_diagnostic_has_numbers_beside_null_and_baseline(
    profile: dict[str, Any],
) -> None:
    assert list(HEADLINES) == list(TITLES)
    for name in TITLES:
        first = headlines(profile, name)[0]
        for value in (first.model, first.baseline, first.null):
            assert value is not None
            assert first.headline.write(value) != '–'


def test_numbers_are_those_of_the_profile(profile: dict[str, Any]) -> None:
    sections = profile['diagnostics']
    rank = named(profile, 'smoothing')['effective rank at the end']
    assert rank.model == sections['smoothing']['model']['effective_rank'][-1]
    assert (
        rank.baseline
        == (sections['smoothing']['baseline']['effective_rank'][-1])
    )
    assert rank.null == 1
    slope = named(profile, 'collapse')['slope, last token repeated']
    assert (slope.model, slope.null) == (-0.97, -1)
    copying = named(profile, 'retrieval')['copying the last item, longest']
    assert (copying.model, copying.null) == (0.33, 0.02)
    sinks = named(profile, 'sinks')['heads that sink']
    assert sinks.null == 0


def test_precision_that_is_not_reached_is_told_from_not_measured(
    profile: dict[str, Any], refused: dict[str, Any]
) -> None:
    label = 'bfloat16 cannot tell from length'
    pair = profile['diagnostics']['collapse']['model']['repeat_last']
    pair['bfloat16']['reaches_precision_at'] = None
    found = named(profile, 'collapse')[label]
    assert found.model == math.inf
    assert found.headline.write(found.model) == 'not reached'
    assert named(refused, 'collapse')[label].model is None


def test_what_was_refused_has_no_numbers(refused: dict[str, Any]) -> None:
    found = headlines(refused, 'squashing')
    assert [(item.model, item.baseline, item.null) for item in found] == [
        (None, None, None)
    ] * len(found)
    assert headlines(refused, 'retrieval') == []
