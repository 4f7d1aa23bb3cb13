import pytest

from gnnbridge.bench.numerals import difference, interval, number, reach, unit


@pytest.mark.parametrize(
    ('value', 'metric', 'text'),
    [
        (0.9876, 'accuracy', '98.8'),
        (1.0, 'average_precision', '100.0'),
        (0.12345, 'mean_absolute_error', '0.123'),
        (12.5, 'mean_absolute_error', '12.500'),
        (-0.05, 'accuracy', '−5.0'),
        (-0.0001, 'accuracy', '0.0'),
        (None, 'accuracy', '–'),
    ],
)
def test_numbers(value: float | None, metric: str, text: str) -> None:
    assert number(value, metric) == text


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.1, '+10.0'), (-0.1, '−10.0'), (0.0004, '0.0'), (-0.0004, '0.0')],
)
def test_differences_have_a_sign_unless_they_are_written_as_none(
    value: float, text: str
) -> None:
    assert difference(value, 'accuracy') == text


def test_intervals() -> None:
    assert interval(-0.02, 0.031, 'accuracy') == '[−2.0, +3.1]'
    assert interval(None, None, 'accuracy') == ''
    assert reach(0.02, 'mean_absolute_error') == '± 0.020'
    assert reach(None, 'accuracy') == ''


def test_units() -> None:
    assert unit('accuracy') == 'accuracy in %'
    assert unit('mean_absolute_error') == 'mean absolute error'
    assert unit('some_other') == 'some other'
