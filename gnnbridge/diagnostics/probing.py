"""Random directions that miss little of what a sum of squares is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

# Of the groups, those of a single direction.
_ALONE = 4
# Of the calibration: receivers, and draws for each.
_RECEIVERS = 16
_DRAWS = 16


@dataclass(frozen=True)
class Probes:
    r"""Directions whose squares add up to a trace, without bias.

    Orthonormal directions :math:`u_m` are divided into :math:`K` groups, and
    each group gives :math:`w_c = \sum_{m \in c} \epsilon_m u_m` with random
    signs. For any :math:`G` the sum of :math:`w_c^\top G w_c` has the mean
    :math:`\mathrm{tr} \, G` and the variance :math:`2 \sum_c \sum_{m \neq n
    \in c} G_{mn}^2`: directions of which one knows that they matter are kept
    apart from each other, and a group of one has no variance at all.

    What matters to a receiver are the directions in which its state responds
    to changes of other states, strongest first. They are taken from a few
    responses, each scaled to length one; what is at right angles to all of
    them goes into the groups by random coordinates.

    The variance is not seen, but :math:`w_c^\top G w_{c'}` is, whose square
    has the mean :math:`\sum_{m \in c, n \in c'} G_{mn}^2`. The ratio of the
    two is taken from responses that were left out.

    Attributes:
        responses: For every receiver some responses ``[N, Q, d]``, float64.
        count: The number :math:`K` of groups.
        ratio: Variance over the sum of the squares seen.
    """

    responses: Tensor
    count: int
    ratio: float = 0.0

    def draw(self, receivers: Tensor, generator: Generator) -> Tensor:
        """A set of probes for each of some receivers ``[M, K, d]``."""
        number, count = len(receivers), self.count
        basis = _strongest_first(self.responses[receivers])
        width, known = basis.shape[1:]
        alone = count // _ALONE
        signs = _signs((number, known), generator)
        group = _dealt(known, count, alone)
        probes = (signs.unsqueeze(-1) * _members(group, count)).mT @ basis.mT
        if known == width:
            return probes
        order = torch.rand(number, width, generator=generator)
        group = alone + order.argsort(-1).argsort(-1) % (count - alone)
        signs = _signs((number, width), generator)
        rest = (signs.unsqueeze(-1) * _members(group, count)).mT
        return probes + rest - rest @ basis @ basis.mT

    def estimate(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        r"""Estimates of :math:`\lVert J \rVert_F^2`, and their variances.

        Args:
            rows: The products :math:`J^\top w_c` ``[M, K, N, d]``.

        Returns:
            Two tensors ``[M, N]``, float64.
        """
        by_source = rows.transpose(1, 2)
        # Far too small norms keep their digits.
        scale = by_source.abs().amax((-2, -1), keepdim=True).double()
        scale = scale.masked_fill(scale == 0, 1.0)
        by_source = (by_source / scale).double()
        scale = scale.flatten(-3).square()
        square, across = _sums(by_source @ by_source.mT)
        return square * scale, self.ratio * across * scale.square()


def learned_probes(
    responses: Tensor, count: int, generator: Generator
) -> Probes:
    """Probes for receivers whose responses to some changes are known.

    Args:
        responses: Changes of the states of all receivers ``[N, Q, d]``, at
            least two of each.
        count: The number of groups, at least 2.
        generator: Draws the signs for the calibration.
    """
    responses = responses.double()
    # Of different receivers and sources, they count alike.
    length = responses.norm(dim=-1, keepdim=True)
    responses = responses / length.masked_fill(length == 0, 1.0)
    # Few are left out: what probes are learned from, they fit too well.
    most = max(responses.size(1) * 3 // 4, 1)
    kept, left_out = responses[:, :most], responses[:, most:]
    receivers = torch.linspace(0, len(responses) - 1, _RECEIVERS)
    receivers = receivers.long().unique()
    tried = Probes(kept, count)
    error = across = 0.0
    for _ in range(_DRAWS):
        seen = left_out[receivers] @ tried.draw(receivers, generator).mT
        products = seen.unsqueeze(-1) * seen.unsqueeze(-2)
        found, others = _sums(products)
        true = left_out[receivers].square().sum(-1)
        error += float((found - true).square().sum())
        across += float(others.sum())
    return Probes(responses, count, error / across if across > 0 else 0.0)


def _sums(products: Tensor) -> tuple[Tensor, Tensor]:
    """The trace of matrices, and the sum of squares off the diagonal."""
    own = products.diagonal(dim1=-2, dim2=-1)
    across = products.square().sum((-2, -1)) - own.square().sum(-1)
    return own.sum(-1), across.clamp(min=0)


def _strongest_first(responses: Tensor) -> Tensor:
    """An orthonormal basis ``[M, d, min(Q, d)]`` of what responses span."""
    gram = responses @ responses.mT
    vectors = torch.linalg.eigh(gram).eigenvectors.flip(-1)
    vectors = vectors[..., : responses.size(-1)]
    return torch.linalg.qr(responses.mT @ vectors).Q


def _signs(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator).double() - 1


def _members(group: Tensor, count: int) -> Tensor:
    """Which group each direction is in ``[..., d, K]``."""
    return (group.unsqueeze(-1) == torch.arange(count)).double()


def _dealt(width: int, count: int, alone: int) -> Tensor:
    """Groups of directions in order: some alone, the others back and forth."""
    alone = min(alone, width)
    place = torch.arange(width - alone)
    turn, seat = place // (count - alone), place % (count - alone)
    seat = torch.where(turn % 2 == 1, count - alone - 1 - seat, seat)
    return torch.cat([torch.arange(alone), alone + seat])
