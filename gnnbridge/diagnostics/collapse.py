"""How close the last states of a decoder come for different inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from gnnbridge.graph.checks import check_size

Pair: TypeAlias = Literal['repeat_last', 'substitute_last']
# From token ids [B, T] to the states [B, d] of their last tokens.
LastState: TypeAlias = Callable[[Tensor], Tensor]


class Slope(NamedTuple):
    """A fitted exponent: distance ~ length ** slope.

    Attributes:
        slope: The exponent; NaN below two lengths with a positive distance.
        error: Its standard error; NaN below three.
    """

    slope: float
    error: float


@dataclass(frozen=True)
class CollapseCurve:
    r"""Distances between two last states, by the length of the sequence.

    Attributes:
        pair: How the two inputs differ.
        lengths: The :math:`K` lengths of the first of them, in tokens.
        l1: Sums of the absolute differences :math:`(S, K)`, by sequence.
        linf: The largest absolute differences :math:`(S, K)`.
        l2: Euclidean distances :math:`(S, K)`.
        cosine: Cosines of the angles between the states :math:`(S, K)`.
        scale: Mean Euclidean norms of the two states :math:`(S, K)`.
        within: Whether the largest difference is at most the last place of
            the largest entry of the states, :math:`\epsilon \max |h|`, in the
            dtype that they came in: boolean :math:`(S, K)`.
    """

    pair: Pair
    lengths: tuple[int, ...]
    l1: Tensor
    linf: Tensor
    l2: Tensor
    cosine: Tensor
    scale: Tensor
    within: Tensor

    @property
    def slope(self) -> Slope:
        """The exponent of the mean L1 distance in the length."""
        return collapse_slope(self.lengths, self.l1.mean(0))

    @property
    def reaches_precision_at(self) -> int | None:
        """The first length at which most sequences are `within`."""
        return precision_length(self.lengths, self.within.double().mean(0))


@torch.no_grad()
def representation_collapse(
    last_state: LastState,
    sequences: Tensor,
    lengths: Sequence[int],
    *,
    pair: Pair = 'repeat_last',
    substitutes: Tensor | None = None,
) -> CollapseCurve:
    r"""Distance between last states of two inputs that differ at their end.

    `Barbero et al., 2024 <https://arxiv.org/abs/2406.04267>`_ (Theorem 4.2)
    take a sequence and the same with its last token repeated,

    .. math::
        \lVert h(x_1 \ldots x_{n-1}, a) - h(x_1 \ldots x_{n-1}, a, a)
        \rVert_1 \to 0,

    and show that it vanishes as :math:`n` grows, if position encodings fade
    with distance and tokens are bounded: the prediction cannot tell how often
    the last token came. With ``pair='substitute_last'`` another token
    :math:`b` stands in the place of :math:`a`, at the same length; no theorem
    says that these come together, since the last token keeps its own residual
    stream.

    A mean over :math:`n` tokens moves by :math:`1 / n`: a slope of -1 is what
    uniform attention gives without any training.

    Args:
        last_state: From token ids :math:`(B, T)` to the states :math:`(B, d)`
            of the last tokens. Called twice for each length.
        sequences: Token ids; each length is a prefix of these.
        lengths: The lengths :math:`n`.
        pair: ``'repeat_last'`` or ``'substitute_last'``.
        substitutes: The token :math:`b` by sequence and place; by default the
            token at the same place of the next sequence that has another.

    Shapes:
        - **sequences:** :math:`(S, T)`, :math:`T` at least the greatest length
        - **substitutes:** :math:`(S, T)`

    Returns:
        The curve; distances are taken in float64.

    Raises:
        ValueError: If the arguments do not fit each other, or a substitute is
            the token that it stands for.
    """
    sizes = _check(sequences, lengths, pair, substitutes)
    found: list[dict[str, Tensor]] = []
    for length in sizes:
        first = sequences[:, :length]
        if pair == 'repeat_last':
            second = torch.cat([first, first[:, -1:]], dim=1)
        else:
            other = _substitute(sequences, substitutes, length - 1)
            second = torch.cat([first[:, :-1], other.unsqueeze(1)], dim=1)
        states = last_state(first), last_state(second)
        found.append(state_distance(*states))
    columns = {
        name: torch.stack([one[name] for one in found], dim=1)
        for name in found[0]
    }
    return CollapseCurve(pair=pair, lengths=sizes, **columns)


def state_distance(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Distances of states, row by row; see :class:`CollapseCurve`.

    Args:
        first: States ``[S, d]``.
        second: The same number of other ones, in the same dtype.

    Returns:
        ``l1``, ``linf``, ``l2``, ``cosine``, ``scale`` and ``within``, ``[S]``
        each.
    """
    if first.dim() != 2 or first.shape != second.shape:
        raise ValueError(
            "Expected 'last_state' to give states of shape [B, d] (got "
            f'{list(first.shape)} and {list(second.shape)}).'
        )
    place = torch.finfo(first.dtype).eps
    a, b = first.detach().double().cpu(), second.detach().double().cpu()
    gap = (a - b).abs()
    norms = a.norm(dim=1), b.norm(dim=1)
    largest = torch.maximum(a.abs().amax(1), b.abs().amax(1))
    linf = gap.amax(1)
    return {
        'l1': gap.sum(1),
        'linf': linf,
        'l2': gap.norm(dim=1),
        'cosine': (a * b).sum(1) / (norms[0] * norms[1]),
        'scale': (norms[0] + norms[1]) / 2,
        'within': linf <= place * largest,
    }


def collapse_slope(
    lengths: Sequence[int], distance: Tensor | np.ndarray
) -> Slope:
    """Least squares of the logarithm of a distance on that of the length.

    Distances that are zero or not finite are left out: they have no
    logarithm. So where half precision cuts a curve off, its slope is that of
    the part before.

    Args:
        lengths: The lengths ``[K]``.
        distance: The distance at each ``[K]``.
    """
    y = np.asarray(distance, dtype=np.float64)
    x = np.asarray(lengths, dtype=np.float64)
    used = np.isfinite(y) & (y > 0)
    x, y = np.log(x[used]), np.log(y[used])
    if x.size < 2:
        return Slope(math.nan, math.nan)
    x = x - x.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread
    rest = y - y.mean() - slope * x
    if x.size < 3:
        return Slope(slope, math.nan)
    return Slope(slope, math.sqrt(float(rest @ rest) / (x.size - 2) / spread))


def precision_length(
    lengths: Sequence[int], share: Tensor | np.ndarray
) -> int | None:
    """The first length at which at least half of the sequences are equal.

    Args:
        lengths: The lengths ``[K]``.
        share: At each the share of sequences whose two states are equal to
            the last place of their dtype ``[K]``.
    """
    reached = np.asarray(share, dtype=np.float64) >= 0.5
    return int(lengths[int(reached.argmax())]) if reached.any() else None


def _check(
    sequences: Tensor,
    lengths: Sequence[int],
    pair: str,
    substitutes: Tensor | None,
) -> tuple[int, ...]:
    if pair not in get_args(Pair):
        raise ValueError(
            f"Expected 'pair' to be one of {get_args(Pair)} (got {pair!r})."
        )
    if sequences.dim() != 2 or sequences.numel() == 0:
        raise ValueError(
            "Expected 'sequences' of shape [S, T] with at least one token "
            f'(got {list(sequences.shape)}).'
        )
    sizes = tuple(check_size('lengths', length) for length in lengths)
    if not sizes or max(sizes) > sequences.size(1):
        raise ValueError(
            f"Expected 'lengths' to be one or more lengths of at most "
            f'{sequences.size(1)} tokens (got {list(sizes)}).'
        )
    if substitutes is None:
        return sizes
    if pair == 'repeat_last' or substitutes.shape != sequences.shape:
        raise ValueError(
            "Expected 'substitutes' of the shape of 'sequences', "
            f"{list(sequences.shape)}, and only with pair='substitute_last' "
            f'(got {list(substitutes.shape)} with {pair!r}).'
        )
    return sizes


def _substitute(
    sequences: Tensor, substitutes: Tensor | None, place: int
) -> Tensor:
    """The tokens ``[S]`` that stand in for those at a place."""
    own = sequences[:, place]
    if substitutes is not None:
        other = substitutes[:, place]
    else:
        other = own
        for shift in range(1, len(own)):
            other = torch.where(other == own, own.roll(-shift), other)
    if (other == own).any():
        row = int((other == own).nonzero()[0])
        raise ValueError(
            f'Expected another token in place of {int(own[row])} at place '
            f'{place} of sequence {row} (got the same). Give other '
            "'substitutes', or sequences that differ there."
        )
    return other
