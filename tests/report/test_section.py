import math

import pytest

from gnnbridge.report.section import largest, mean, median, number, percent


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
        value = 1.2345 * 10.0**power
        written = float(number(value).replace(',', ''))
        assert written == pytest.approx(value, rel=0.05)


def test_percent_does_not_break_before_its_sign() -> None:
    assert percent(0.625) == '62\u00a0%'
    assert percent(None) == '–'


def test_summaries_leave_out_what_is_not_defined() -> None:
    assert mean([1.0, None, 3.0]) == 2.0
    assert mean([None]) is None
    assert median([9.0, None, 1.0, 2.0]) == 2.0
    assert median([None]) is None
    assert largest([0.1, None, 0.7, 0.3]) == 2
    assert largest([None, None]) is None
