"""Which places a model prefers: in its influence, and in its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from gnnbridge.diagnostics.runway import runway_asymmetry
from gnnbridge.graph.checks import check_size


@dataclass(frozen=True)
class PositionBias:
    r"""How influence depends on the position of a token.

    Attributes:
        spearman: Rank correlation of influence and position :math:`(*)`;
            -1 falls from the first to the last, NaN if it is the same
            everywhere.
        weakest: The position with the least influence :math:`(*)`, the first
            of equal ones.
        thirds: The shares of the first, the middle and the last third of the
            positions :math:`(*, 3)`; the middle has what does not divide.
        asymmetry: The :func:`~gnnbridge.diagnostics.runway.runway_asymmetry`
            :math:`(*)`.
    """

    spearman: Tensor
    weakest: Tensor
    thirds: Tensor
    asymmetry: Tensor


@dataclass(frozen=True)
class DuplicateKeyPreference:
    r"""Which of two values a key has that was bound twice.

    Attributes:
        earlier: How often each comparison was answered with the value at its
            earlier place :math:`(C)`.
        later: How often with that at its later place :math:`(C)`.
        count: Sequences of each comparison :math:`(C)`.
    """

    earlier: Tensor
    later: Tensor
    count: Tensor

    @property
    def gap(self) -> Tensor:
        r"""How much more often the earlier value is named :math:`(C)`."""
        return self.earlier - self.later

    @property
    def answered(self) -> Tensor:
        r"""How often one of the two values is named :math:`(C)`."""
        return self.earlier + self.later

    @property
    def preferred(self) -> Tensor:
        r"""The share of the earlier among the named :math:`(C)`; or NaN."""
        return self.earlier / self.answered


@dataclass(frozen=True)
class NoiseStress:
    r"""Accuracy by the place of the answer, at every strength of noise.

    Attributes:
        accuracy: Shares of right answers :math:`(K, n)`; NaN for a place that
            is never asked for.
        spearman: Rank correlation of accuracy and place :math:`(K)`.
    """

    accuracy: Tensor
    spearman: Tensor


def position_bias(influence: Tensor, *, share: float = 0.1) -> PositionBias:
    r"""Summarises an influence by position.

    Args:
        influence: How much each position counts for one receiver; not
            negative. It need not sum to one.
        share: The share of the tokens at each end that `asymmetry` compares.

    Shapes:
        - **influence:** :math:`(*, N)`

    Returns:
        The summary, in float64.

    Raises:
        ValueError: If there is no position, or an influence is negative or
            not finite.
    """
    if influence.dim() == 0 or influence.numel() == 0:
        raise ValueError(
            "Expected 'influence' of shape [..., N] with at least one "
            f'position (got {list(influence.shape)}).'
        )
    f = influence.detach().double().cpu()
    if not bool((f >= 0).all() & f.isfinite().all()):
        raise ValueError(
            "Expected 'influence' to be finite and not negative (got "
            f'values from {f.min():.4g} to {f.max():.4g}).'
        )
    size = f.size(-1)
    third = size // 3
    parts = f.split([third, size - 2 * third, third], dim=-1)
    total = f.sum(-1, keepdim=True)
    flat = f.reshape(-1, size)
    asymmetry = torch.tensor(
        [runway_asymmetry(row, share) for row in flat], dtype=torch.float64
    )
    return PositionBias(
        spearman=position_correlation(f),
        weakest=f.argmin(-1),
        thirds=torch.stack([part.sum(-1) for part in parts], -1) / total,
        asymmetry=asymmetry.reshape(f.shape[:-1]),
    )


def position_correlation(values: Tensor) -> Tensor:
    r"""Spearman's rank correlation of values with their position.

    Equal values share the mean of their ranks.

    Args:
        values: By position; NaN where there is none.

    Shapes:
        - **values:** :math:`(*, N)`
        - **output:** :math:`(*)`

    Returns:
        The correlations in float64; NaN below two values, or if all are the
        same.
    """
    rows = values.detach().double().cpu()
    flat = rows.reshape(-1, rows.size(-1)).numpy()
    found = torch.from_numpy(np.array([_correlation(row) for row in flat]))
    return found.reshape(rows.shape[:-1])


def duplicate_key_preference(
    answers: Tensor,
    values: Tensor,
    comparison: Tensor | None = None,
    *,
    num_comparisons: int = 1,
) -> DuplicateKeyPreference:
    r"""Which place wins where a key was bound twice, to different values.

    Both places hold the same key, so that nothing but where they stand tells
    them apart; after the pairs of `Wu et al., 2025
    <https://arxiv.org/abs/2502.01951>`_, who compare two positions with the
    same content by :math:`\mathrm{gap}(a, b) = \mathrm{acc}[a, b] -
    \mathrm{acc}[b, a]`.

    Args:
        answers: The token that a model names after the key.
        values: The values at the earlier and at the later place.
        comparison: Which pair of places each sequence compares; all the same
            if not given.
        num_comparisons: How many pairs of places there are.

    Shapes:
        - **answers:** :math:`(B)`
        - **values:** :math:`(B, 2)`
        - **comparison:** :math:`(B)`

    Returns:
        The shares by comparison, in float64; NaN for one without sequences.

    Raises:
        ValueError: If the shapes do not fit, or two values are the same.
    """
    size = check_size('num_comparisons', num_comparisons)
    if comparison is None:
        comparison = torch.zeros_like(answers)
    shape = answers.shape
    if (
        answers.dim() != 1
        or values.shape != (*shape, 2)
        or comparison.shape != shape
    ):
        raise ValueError(
            "Expected 'answers' [B], 'values' [B, 2] and 'comparison' [B] "
            f'(got {list(shape)}, {list(values.shape)} and '
            f'{list(comparison.shape)}).'
        )
    if bool((values[:, 0] == values[:, 1]).any()):
        raise ValueError(
            "Expected two different 'values' of each key (got the same at "
            'both places): an answer would not tell which was read.'
        )
    count = torch.bincount(comparison, minlength=size).double()
    named = [
        torch.bincount(comparison[answers == value], minlength=size) / count
        for value in values.T
    ]
    return DuplicateKeyPreference(named[0], named[1], count.long())


def noise_stress(right: Tensor, gold: Tensor, num_places: int) -> NoiseStress:
    """Accuracy by place of the asked binding, for every strength of noise.

    A retrieval that is right everywhere shows no bias; noise on the
    embeddings takes the margin away, and what is left first says which places
    are served worst.

    Args:
        right: Which answers are right, for each strength ``[K, B, Q]``.
        gold: The place that each question asks for ``[B, Q]``.
        num_places: The number of places.

    Raises:
        ValueError: If the shapes do not fit.
    """
    size = check_size('num_places', num_places)
    if right.dim() != 3 or right.shape[1:] != gold.shape:
        raise ValueError(
            "Expected 'right' [K, B, Q] and 'gold' [B, Q] (got "
            f'{list(right.shape)} and {list(gold.shape)}).'
        )
    asked = torch.bincount(gold.flatten(), minlength=size).double()
    hits = [torch.bincount(gold[one], minlength=size) for one in right.bool()]
    accuracy = torch.stack(hits) / asked
    return NoiseStress(accuracy, position_correlation(accuracy))


def _correlation(row: np.ndarray) -> float:
    there = np.isfinite(row)
    place = rankdata(there.nonzero()[0])
    rank = rankdata(row[there])
    if rank.size < 2 or rank.min() == rank.max():
        return float('nan')
    return float(np.corrcoef(place, rank)[0, 1])
