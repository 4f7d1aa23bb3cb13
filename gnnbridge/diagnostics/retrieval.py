"""Accuracy by the place of what is asked for, beside its control."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Fewer places have no middle between their ends.
_FEWEST_PLACES = 3


@dataclass(frozen=True)
class RetrievalCurve:
    """How often what stands at each place is found, and named for nothing.

    Attributes:
        accuracy: Share of right answers by place ``[n]`` float64; NaN where
            nothing was asked.
        absent: How often the answer that stands at each place is named for a
            key that is bound nowhere ``[n]`` float64.
        questions: How often each place was asked for ``[n]`` float64; NaN if
            not known.
        control_questions: How often an absent key was asked for ``[n]``
            float64; NaN if not known.
        chance: The accuracy of a guess.
    """

    accuracy: Tensor
    absent: Tensor
    questions: Tensor
    control_questions: Tensor
    chance: float

    @property
    def corrected(self) -> Tensor:
        """Accuracy minus absent-key pick rate ``[n]``.

        What is named as often when there is nothing to find was not found.
        """
        return self.accuracy - self.absent

    @property
    def total(self) -> float:
        """Share of right answers over all questions.

        Over all places alike, where it is not known how often each was asked.
        """
        weight = self.questions
        if not weight.isfinite().all():
            return float(self.accuracy.nanmean())
        hits = (self.accuracy * weight)[weight > 0]
        return float(hits.sum() / weight.sum())

    @property
    def u_depth(self) -> float:
        """:func:`u_depth` of the corrected accuracy.

        A prior over places, which answers rightly at the ends by naming the
        ends whatever is asked, is no U.
        """
        return u_depth(self.corrected)

    @property
    def u_depth_error(self) -> float:
        """Standard error of :attr:`u_depth`, with the lower end as given."""
        return self._error(_depth_weights(self.corrected))

    @property
    def primacy_slope(self) -> float:
        """:func:`primacy_slope` of the corrected accuracy."""
        return primacy_slope(self.corrected)

    @property
    def primacy_slope_error(self) -> float:
        """Standard error of :attr:`primacy_slope`."""
        return self._error(_slope_weights(self.corrected, last=False))

    @property
    def recency_slope(self) -> float:
        """:func:`recency_slope` of the corrected accuracy."""
        return recency_slope(self.corrected)

    @property
    def recency_slope_error(self) -> float:
        """Standard error of :attr:`recency_slope`."""
        return self._error(_slope_weights(self.corrected, last=True))

    @property
    def standard_error(self) -> Tensor:
        r"""Standard error of the accuracy ``[n]``.

        Binomial, :math:`\sqrt{p (1 - p) / q}` with :math:`q` questions, as if
        these were independent: 0 where all answers are alike.
        """
        return _binomial_error(self.accuracy, self.questions)

    @property
    def absent_standard_error(self) -> Tensor:
        """The same of the absent-key pick rate ``[n]``."""
        return _binomial_error(self.absent, self.control_questions)

    @property
    def corrected_standard_error(self) -> Tensor:
        """Standard error of the corrected accuracy ``[n]``.

        Questions and control are independent: squares add.
        """
        return torch.hypot(self.standard_error, self.absent_standard_error)

    def _error(self, weights: Tensor) -> float:
        """Standard error of a weighted sum of the corrected accuracy."""
        used = weights != 0  # also where a weight is NaN
        each = weights[used] * self.corrected_standard_error[used]
        return float(each.square().sum().sqrt())


def retrieval_curve(
    right: Tensor,
    gold: Tensor | None = None,
    *,
    control: Tensor | None = None,
    chance: float | None = None,
    questions: Tensor | int | None = None,
    control_questions: Tensor | int | None = None,
) -> RetrievalCurve:
    r"""Accuracy as a function of the place of what is asked for.

    The curve of `Liu et al., 2024 <https://arxiv.org/abs/2307.03172>`_, and
    beside it how often each place is named for a key that is bound nowhere: a
    model that learned to name the ends is right there without retrieving
    anything. There is no curve without this control.

    Args:
        right: Which answers are right ``[B, Q]``, boolean; or the accuracy at
            each place ``[n]``, NaN where nothing was asked.
        gold: The place that each question asks for, counted from 0
            ``[B, Q]``; only with boolean answers.
        control: Which places the answer to each question for an absent key
            names ``[C, n]``, boolean (several, if they hold the same); or how
            often each is named ``[n]``.
        chance: The accuracy of a guess; one in n by default.
        questions: With accuracies: how many questions each place has, a
            number or ``[n]``, for the standard errors.
        control_questions: With rates: how many questions the control has.

    Returns:
        The curve over the n places of the control.

    Raises:
        ValueError: If there is no control, or shapes or ranges do not fit.
        TypeError: If answers and places are not both given as booleans and
            integers.
    """
    if control is None:
        raise ValueError(
            "Expected 'control', the places named for absent keys (got None). "
            'Ask for keys that are bound nowhere: without it, a preference '
            'for some places cannot be told from retrieval.'
        )
    absent, asked_absent = _control(control, control_questions)
    size = absent.numel()
    if right.is_floating_point():
        if gold is not None:
            raise TypeError(
                "Expected no 'gold' with accuracies by place (got one). Give "
                'boolean answers instead.'
            )
        accuracy = _rates('right', right, size)
        asked = _counts('questions', questions, size)
    else:
        _refuse_count('questions', questions)
        accuracy, asked = _by_place(right, gold, size)
    return RetrievalCurve(
        accuracy=accuracy,
        absent=absent,
        questions=asked,
        control_questions=asked_absent,
        chance=1 / size if chance is None else chance,
    )


def u_depth(curve: Tensor) -> float:
    r"""How far the middle of a curve lies below the lower of its ends.

    .. math::
        \min(\bar{a}_{\text{first quarter}}, \bar{a}_{\text{last quarter}})
        - \bar{a}_{\text{middle}}

    A quarter is :math:`\max(1, \lfloor n / 4 \rfloor)` places, and the middle
    as many around the centre, or one more where that is needed to lie evenly
    around it. It is negative where the middle is above an end, so a curve
    that falls or rises throughout has none. Of 16 places these are the first
    four, the last four and the four in the middle.

    Args:
        curve: A value for each place ``[n]``; NaN is left out.

    Returns:
        The depth; NaN for fewer than three places, or if one of the three
        parts is wholly NaN.
    """
    return _weighted(_depth_weights(curve), curve)


def primacy_slope(curve: Tensor) -> float:
    """Least-squares slope of a curve over the first half of its places.

    Places run from 0 to 1 over the whole curve, so that a slope of -1 would
    lose everything from the first to the last. It is negative where the curve
    falls from its start: what comes first is favoured.

    Args:
        curve: A value for each place ``[n]``; NaN is left out. The place in
            the middle of an odd number belongs to both halves.

    Returns:
        The slope; NaN if fewer than two places of the half have a value.
    """
    return _weighted(_slope_weights(curve, last=False), curve)


def recency_slope(curve: Tensor) -> float:
    """The same over the last half: positive where the curve rises to its end.

    What comes last is then favoured. See :func:`primacy_slope`.
    """
    return _weighted(_slope_weights(curve, last=True), curve)


def _weighted(weights: Tensor, curve: Tensor) -> float:
    """The weighted sum of a curve; what has no weight may be NaN."""
    used = weights != 0
    return float((weights[used] * curve.double()[used]).sum())


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _depth_weights(curve: Tensor) -> Tensor:
    """What each place counts in the depth ``[n]``, NaN if there is none."""
    size = curve.numel()
    if size < _FEWEST_PLACES:
        return torch.full((size,), math.nan, dtype=torch.float64)
    quarter = max(1, size // 4)
    middle = quarter + (size - quarter) % 2
    start = (size - middle) // 2
    first, last, centre = (
        _mean_weights(curve, slice(begin, begin + count))
        for begin, count in (
            (0, quarter),
            (size - quarter, quarter),
            (start, middle),
        )
    )
    # NaN, where one of them has no values, is the lowest.
    ends = (first, last)
    lower = min(ends, key=lambda end: _or_lowest(_weighted(end, curve)))
    return lower - centre


def _mean_weights(curve: Tensor, part: slice) -> Tensor:
    """What each place counts in the mean of a part that has values."""
    inside = torch.zeros(curve.numel(), dtype=torch.float64)
    inside[part] = curve[part].isfinite().double()
    return inside / inside.sum()


def _slope_weights(curve: Tensor, *, last: bool) -> Tensor:
    """What each place counts in the slope of a half ``[n]``."""
    size = curve.numel()
    half = (size + 1) // 2
    place = torch.linspace(0, 1, size, dtype=torch.float64)
    there = curve.isfinite()
    there[half if not last else 0 : size if not last else size - half] = False
    if int(there.sum()) < 2:
        return torch.full((size,), math.nan, dtype=torch.float64)
    centred = (place - place[there].mean()).masked_fill(~there, 0.0)
    return centred / centred.square().sum()


def _binomial_error(rate: Tensor, count: Tensor) -> Tensor:
    return (rate * (1 - rate) / count).sqrt()


def _control(
    control: Tensor, count: Tensor | int | None
) -> tuple[Tensor, Tensor]:
    """Pick rates and counts of questions, each ``[n]``."""
    if control.is_floating_point():
        rates = _rates('control', control, control.numel())
        return rates, _counts('control_questions', count, len(rates))
    _refuse_count('control_questions', count)
    if control.dtype != torch.bool or control.dim() != 2 or 0 in control.shape:
        raise ValueError(
            f"Expected 'control' to be boolean of shape [C, n], or rates [n] "
            f'(got {control.dtype} of shape {list(control.shape)}).'
        )
    asked = torch.full((control.size(1),), len(control), dtype=torch.float64)
    return control.double().mean(0), asked


def _by_place(
    right: Tensor, gold: Tensor | None, size: int
) -> tuple[Tensor, Tensor]:
    """Accuracy and number of questions of each place."""
    if right.dtype != torch.bool or gold is None:
        what = 'no gold' if gold is None else f'{right.dtype} answers'
        raise TypeError(
            f"Expected boolean answers 'right' with the places 'gold' that "
            f'they ask for, or accuracies by place (got {what}).'
        )
    if right.shape != gold.shape or right.numel() == 0:
        raise ValueError(
            f"Expected 'right' and 'gold' of one shape [B, Q] (got "
            f'{list(right.shape)} and {list(gold.shape)}).'
        )
    if int(gold.min()) < 0 or int(gold.max()) >= size:
        raise ValueError(
            f"Expected 'gold' between 0 and {size - 1}, the places of the "
            f'control (got {int(gold.min())} to {int(gold.max())}). Questions '
            'for absent keys belong to the control.'
        )
    asked = torch.bincount(gold.flatten(), minlength=size).double()
    return torch.bincount(gold[right], minlength=size) / asked, asked


def _rates(name: str, rates: Tensor, size: int) -> Tensor:
    known = rates[rates.isfinite()]
    outside = bool(((known < 0) | (known > 1)).any())
    if rates.shape != (size,) or size == 0 or outside:
        raise ValueError(
            f"Expected '{name}' to be shares between 0 and 1, one for each "
            f'place of the control (got {rates.tolist()}).'
        )
    return rates.double()


def _counts(name: str, count: Tensor | int | None, size: int) -> Tensor:
    given = math.nan if count is None else count
    found = torch.as_tensor(given, dtype=torch.float64)
    if found.shape not in ((), (size,)) or bool((found < 0).any()):
        raise ValueError(
            f"Expected '{name}' to be a number of questions, or one for each "
            f'of {size} places (got {count}).'
        )
    return found.expand(size)


def _refuse_count(name: str, count: Tensor | int | None) -> None:
    if count is not None:
        raise ValueError(
            f"Expected no '{name}' with boolean answers, which are counted "
            f'(got {count}).'
        )
