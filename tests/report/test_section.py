import math

import pytest

from gnnbridge.report.section import (
    largest,
    last,
    mean,
    median,
    number,
    numeral,
    percent,
    placed,
    smallest,
    spans,
    whole,
)


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0, '0'),
        (0.0741, '0.0741'),
        (1.0, '1.00'),
        (-2.345, '-2.35'),
        (99.96, '100.0'),
        (1234.5, '1,234'),
        (1e5, '1.0e5'),
        (3.14e-6, '3.1e-6'),
        (-3.14e-6, '-3.1e-6'),
        (None, '–'),
        (math.inf, '–'),
        (math.nan, '–'),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_number_keeps_its_value_at_every_scale() -> None:
    # Three digits, or two with an exponent: half a unit in the last place.
    for power in range(-12, 13):
        for sign in (1, -1):
            value = sign * 1.2345 * 10.0**power
            written = number(value).replace(',', '')
            assert float(written) == pytest.approx(value, rel=0.05)


def test_numerals_have_a_minus() -> None:
    assert numeral(-2.345) == '−2.35'
    assert numeral(-3.14e-6) == '−3.1e-6'
    assert numeral(2.345) == number(2.345)
    assert numeral(None) == '–'


def test_percent_does_not_break_before_its_sign() -> None:
    assert percent(0.625) == '62\u00a0%'
    assert percent(None) == '–'


def test_whole_has_no_decimals() -> None:
    assert whole(1234567.0) == '1,234,567'
    assert whole(None) == '–'


@pytest.mark.parametrize(
    ('places', 'text'),
    [
        ([], ''),
        ([3], '3'),
        ([1, 2, 3], '1–3'),
        ([0, 2, 3, 7], '0, 2–3, 7'),
    ],
)
def test_spans(places: list[int], text: str) -> None:
    assert spans(places) == text


def test_one_place_is_singular() -> None:
    assert placed('layer', [3]) == 'layer 3'
    assert placed('layer', [3, 4]) == 'layers 3–4'


def test_summaries_leave_out_what_is_not_defined() -> None:
    assert mean([1.0, None, 3.0]) == 2.0
    assert mean([None]) is None
    assert median([9.0, None, 1.0, 2.0]) == 2.0
    assert median([None]) is None
    assert largest([0.1, None, 0.7, 0.3]) == 2
    assert largest([None, None]) is None
    assert smallest([0.1, None, 0.7, 0.03]) == 3
    assert smallest([None]) is None
    assert last([1.0, 2.0, None]) == 2.0
    assert last([]) is None
