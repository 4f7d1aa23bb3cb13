"""How answers are counted, and what models are trained by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from gnnbridge.bench.task import Metric


def measure(metric: Metric, output: Tensor, y: Tensor) -> float:
    """The quality of all answers of a split at once.

    Args:
        metric: By what.
        output: What a model says ``[n, outputs]``.
        y: The answers: classes ``[n]``, or ``[n, outputs]``.

    Raises:
        ValueError: If the shapes do not fit, or there is nothing to count.
    """
    _check(metric, output, y)
    measures = {
        'accuracy': accuracy,
        'mean_absolute_error': mean_absolute_error,
        'average_precision': average_precision,
        'roc_auc': roc_auc,
    }
    return measures[metric](output.detach(), y)


def loss(metric: Metric, output: Tensor, y: Tensor) -> Tensor:
    """What a model is trained by where a task counts by a metric.

    Cross-entropy for the accuracy, the mean absolute error for itself, binary
    cross-entropy for the average precision and the area under the ROC curve.
    Answers that are NaN add nothing, and if all are, the loss is zero.

    Args:
        metric: By what the task counts.
        output: What a model says ``[n, outputs]``; logits, if of classes.
        y: The answers: classes ``[n]``, or ``[n, outputs]``.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _check(metric, output, y)
    if metric == 'accuracy':
        return F.cross_entropy(output, y)
    known = ~y.isnan()
    if not known.any():
        return 0 * output.sum()
    if metric == 'mean_absolute_error':
        return F.l1_loss(output[known], y[known])
    return F.binary_cross_entropy_with_logits(output[known], y[known])


def accuracy(output: Tensor, y: Tensor) -> float:
    """The share of rows whose largest output is that of their class.

    Args:
        output: ``[n, classes]``.
        y: ``[n]``.

    Raises:
        ValueError: If there are no rows.
    """
    if len(y) == 0:
        raise ValueError(_NOTHING)
    return float((output.argmax(-1) == y).double().mean())


def mean_absolute_error(output: Tensor, y: Tensor) -> float:
    """The mean distance from the answers that are known.

    Args:
        output: ``[n, targets]``.
        y: ``[n, targets]``, NaN where unknown.

    Raises:
        ValueError: If none is known.
    """
    known = ~y.isnan()
    if not known.any():
        raise ValueError(_NOTHING)
    return float((output - y)[known].abs().double().mean())


def average_precision(output: Tensor, y: Tensor) -> float:
    r"""The average precision, and its mean over targets.

    .. math:: AP = \sum_n (R_n - R_{n - 1}) P_n

    over the distinct scores as thresholds, from the highest, with the
    precision :math:`P` and the recall :math:`R` at each: no interpolation,
    and rows of equal scores count at once. Targets without a hit or without a
    miss among the answers that are known are left out, as `OGB
    <https://arxiv.org/abs/2005.00687>`_ does.

    Args:
        output: Scores ``[n, targets]``.
        y: 0 or 1 ``[n, targets]``, NaN where unknown.

    Raises:
        ValueError: If no target has both.
    """
    return _mean_over_targets(_average_precision, output, y)


def roc_auc(output: Tensor, y: Tensor) -> float:
    """The area under the ROC curve, and its mean over targets.

    That is the chance that a hit has a higher score than a miss, where equal
    scores count a half. Targets without a hit or without a miss among the
    answers that are known are left out, as `OGB
    <https://arxiv.org/abs/2005.00687>`_ does.

    Args:
        output: Scores ``[n, targets]``.
        y: 0 or 1 ``[n, targets]``, NaN where unknown.

    Raises:
        ValueError: If no target has both.
    """
    return _mean_over_targets(_roc_auc, output, y)


def _mean_over_targets(
    of_one: Callable[[Tensor, Tensor], float], output: Tensor, y: Tensor
) -> float:
    found = []
    for scores, answers in zip(output.T, y.T, strict=True):
        known = ~answers.isnan()
        hits = answers[known] > 0.5
        if hits.any() and not hits.all():
            found.append(of_one(scores[known], hits))
    if not found:
        raise ValueError(_NOTHING)
    return sum(found) / len(found)


def _roc_auc(scores: Tensor, hits: Tensor) -> float:
    """By the ranks of the hits (Mann and Whitney)."""
    ranks = torch.from_numpy(rankdata(scores.cpu().numpy()))
    hits = hits.cpu()
    count = int(hits.sum())
    above = float(ranks[hits].sum()) - count * (count + 1) / 2
    return above / (count * (len(hits) - count))


def _average_precision(scores: Tensor, hits: Tensor) -> float:
    scores, order = scores.sort(descending=True)
    # Of equal scores the last one stands for all.
    last = torch.ones_like(hits)
    last[:-1] = scores[1:] != scores[:-1]
    found = hits[order].double().cumsum(0)[last]
    seen = torch.arange(1, len(hits) + 1, device=hits.device)[last]
    gained = found.diff(prepend=found.new_zeros(1))
    return float((gained * found / seen).sum() / found[-1])


_NOTHING = (
    'Expected answers to count (got none, or of targets that are hit or missed '
    'none with both a hit and a miss). Give the split more graphs.'
)


def _check(metric: Metric, output: Tensor, y: Tensor) -> None:
    classes = metric == 'accuracy'
    wanted = output.shape[:1] if classes else output.shape
    if output.dim() != 2 or y.shape != wanted:
        raise ValueError(
            f"Expected 'y' to be {'[n]' if classes else '[n, outputs]'} for "
            f"an 'output' [n, outputs] (got {list(y.shape)} for "
            f'{list(output.shape)}). Give a row for every answer.'
        )
