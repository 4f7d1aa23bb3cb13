"""Single activations that are far larger than all others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gnnbridge.graph.checks import at_least_float32


@dataclass(frozen=True)
class MassiveActivations:
    """The largest activations of hidden states.

    Attributes:
        ratio: The largest magnitude over the median one; NaN if both are 0.
        largest: The largest magnitude.
        median: The median magnitude.
        count: How many activations are massive.
        token: Where the largest is: its token.
        dimension: Its dimension.
    """

    ratio: float
    largest: float
    median: float
    count: int
    token: int
    dimension: int


def massive_activations(
    x: Tensor, *, least: float = 100.0, factor: float = 1000.0
) -> MassiveActivations:
    r"""How far the largest activation stands out, and where it is.

    An activation :math:`a` is massive by the criterion of `Sun et al., 2024
    <https://arxiv.org/abs/2402.17762>`_ if :math:`|a| > 100` and :math:`|a|`
    is at least 1000 times the median magnitude of the states. The first
    condition does not carry over to small models, nor does the second to all
    that have such activations: the ratio says more than the count.

    Args:
        x: The hidden states of one sequence.
        least: The magnitude that a massive activation exceeds.
        factor: How many times the median it has at least.

    Shapes:
        - **hidden states:** :math:`(N, d)`

    Returns:
        The ratio of the largest magnitude to the median (of an even number of
        values the lower of the middle two), the count, and the place.

    Raises:
        ValueError: If the shape is wrong.
    """
    if x.dim() != 2 or x.numel() == 0:
        raise ValueError(
            f"Expected 'x' of shape [N, d] (got {tuple(x.shape)})."
        )
    size = at_least_float32(x.detach()).abs().flatten()
    median, place = size.median(), int(size.argmax())
    massive = (size > least) & (size >= factor * median)
    return MassiveActivations(
        ratio=float(size[place] / median),
        largest=float(size[place]),
        median=float(median),
        count=int(massive.sum()),
        token=place // x.size(1),
        dimension=place % x.size(1),
    )
