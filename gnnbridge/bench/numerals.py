"""How the numbers of a benchmark are written."""

from __future__ import annotations

# Shares are written in percent, distances as they are.
_SCALES = {'accuracy': 100.0, 'average_precision': 100.0, 'roc_auc': 100.0}
_UNITS = {
    'accuracy': 'accuracy in %',
    'average_precision': 'average precision in %',
    'mean_absolute_error': 'mean absolute error',
    'roc_auc': 'area under the ROC curve in %',
}
_NOTHING = '–'


def scale(metric: str) -> float:
    """What values of a metric are multiplied by to be shown."""
    return _SCALES.get(metric, 1.0)


def unit(metric: str) -> str:
    """What is shown of a metric, with its unit."""
    return _UNITS.get(metric, metric.replace('_', ' '))


def number(value: float | None, metric: str) -> str:
    """A value of a metric; None as a dash.

    Args:
        value: The value.
        metric: The metric; those in percent have one digit after the point,
            others three.
    """
    if value is None:
        return _NOTHING
    digits = 1 if metric in _SCALES else 3
    text = f'{value * scale(metric):.{digits}f}'
    if not text.startswith('-'):
        return text
    # Nothing is less than zero that is written as zero.
    return f'−{text[1:]}' if float(text) else text[1:]


def difference(value: float, metric: str) -> str:
    """A difference between values of a metric, with its sign."""
    text = number(value, metric)
    return f'+{text}' if value > 0 and text.strip('0.') else text


def reach(half_width: float | None, metric: str) -> str:
    """What the interval of a mean reaches to either side; empty if none."""
    return '' if half_width is None else f'± {number(half_width, metric)}'


def interval(low: float | None, high: float | None, metric: str) -> str:
    """The interval of a difference; empty if there is none."""
    if low is None or high is None:
        return ''
    return f'[{difference(low, metric)}, {difference(high, metric)}]'
