"""How much tokens depend on each other: norms of the blocks of a Jacobian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from gnnbridge.diagnostics.probing import Probes, learned_probes
from gnnbridge.diagnostics.pullback import Map, Part, Prefix, Source
from gnnbridge.graph.checks import check_size

Method: TypeAlias = Literal['auto', 'exact', 'hutchinson']

# Backward passes up to which all of a Jacobian is computed by itself.
_EXACT_PASSES = 1024
_EXACT_RECEIVERS = 2
# Forward passes that probes are learned from.
_RESPONSES = 32


@dataclass(frozen=True)
class JacobianNorms:
    r"""Frobenius norms :math:`\lVert \partial h_i / \partial x_j \rVert_F`.

    Attributes:
        norm: The norms ``[R, N]`` float64, row = receiver.
        error: Their standard errors ``[R, N]`` if they are estimates, zero
            where they are exact; ``None`` if all are exact.
        receivers: The receivers ``[R]``.
        probes: Random directions for each receiver; ``None`` if exact.
    """

    norm: Tensor
    error: Tensor | None
    receivers: Tensor
    probes: int | None

    @property
    def relative_error(self) -> float:
        """The median of error over norm, over pairs with some influence."""
        if self.error is None:
            return 0.0
        some = self.norm > 0
        if not some.any():
            return 0.0
        return float((self.error[some] / self.norm[some]).median())


def jacobian_norms(
    function: Map,
    states: Tensor,
    *,
    receivers: Sequence[int] | int | None = None,
    method: Method = 'auto',
    probes: int = 8,
    prefix: Prefix | None = None,
    generator: Generator | None = None,
    chunk: int | None = None,
) -> JacobianNorms:
    r"""Norms of the derivatives of every token's state in every other's.

    ``'exact'`` takes one backward pass for each number of each receiver's
    state. ``'hutchinson'`` takes `probes` for each receiver: with :math:`U`
    orthonormal, divided into as many groups, and random signs
    :math:`\epsilon`,

    .. math::
        \lVert J_{ij} \rVert_F^2 = \mathbb{E} \sum_c \Bigl\lVert J_{ij}^\top
        \sum_{m \in c} \epsilon_m u_m \Bigr\rVert^2

    It is the estimator of `Hutchinson, 1989
    <https://doi.org/10.1080/03610918908812806>`_ with directions that are
    correlated kept in different groups. The directions are those in which the
    state of the receiver changes when states of random tokens do, by 32
    forward passes in all. They do not depend on the signs, so that the
    *squares* of the norms are estimated without bias. The errors are standard
    errors, carried over to the norms to first order.

    The Jacobian is never held as a whole: at most `probes` (``'exact'``:
    `chunk`) of its rows :math:`N \times d`, 32 times the states, and what
    autograd keeps for `chunk` passes.

    Args:
        function: From states :math:`(N, d)` to states :math:`(N, e)`, such as
            that of ``gnnbridge.models.stack.block_stack``. If it has an
            attribute ``takes_batches`` that is true, it takes :math:`(B, N,
            d)` as well, with sequences independent of each other, and is
            faster.
        states: Where the derivatives are taken.
        receivers: Whose states are derived, as positions; all if not given.
        method: ``'exact'``, ``'hutchinson'``, or ``'auto'``: exact for one or
            two receivers, up to 1024 backward passes, and where there are as
            many probes as numbers.
        probes: Random directions for each receiver, at least 2.
        prefix: Only for causal functions: a callable that gives function and
            states of so many first tokens. Receivers then take passes
            through what they can see alone, less than half of the work.
        generator: Draws the signs; if not given one with seed 0.
        chunk: Backward passes that run together; chosen by the memory that
            one takes if not given.

    Shapes:
        - **states:** :math:`(N, d)`
        - **norm**, **error:** :math:`(R, N)`, row = receiver

    Returns:
        The :class:`JacobianNorms`.

    Raises:
        ValueError: If states, receivers, method or probes do not fit.

    Example:
        >>> A = torch.tensor([[1., 0.], [.5, .5]])
        >>> jacobian_norms(lambda x: A @ x, torch.zeros(2, 4)).norm
        tensor([[2., 0.],
                [1., 1.]], dtype=torch.float64)
    """
    _check(states, method, probes, chunk)
    rows = _receivers(receivers, len(states))
    source = Source(function, states, prefix, chunk)
    with torch.no_grad():
        width = function(states).size(-1)
    if method == 'auto':
        few = len(rows) <= _EXACT_RECEIVERS or len(rows) * width <= (
            _EXACT_PASSES
        )
        method = 'exact' if few else 'hutchinson'
    if method == 'exact' or probes >= width:
        square = _exact(source, rows, width)
        norm = torch.stack([square[row] for row in rows]).sqrt()
        return JacobianNorms(norm, None, torch.tensor(rows), None)
    if generator is None:
        generator = Generator().manual_seed(0)
    responses = source.responses(_RESPONSES, generator).cpu()
    design = learned_probes(responses, probes, generator)
    square, variance = _estimated(source, rows, design, generator)
    norm = torch.stack([square[row] for row in rows]).sqrt()
    spread = torch.stack([variance[row] for row in rows]).sqrt()
    # Of a square root, to first order.
    error = spread / (2 * norm).masked_fill(norm == 0, 1.0)
    return JacobianNorms(norm, error, torch.tensor(rows), probes)


# For each receiver the squared norms of its row, or their variances [N].
_Rows: TypeAlias = dict[int, Tensor]


def _exact(source: Source, receivers: list[int], width: int) -> _Rows:
    found: _Rows = {}
    for part in source.parts(receivers, width):
        count, step = len(part.receivers), part.pullback.copies
        square = torch.zeros(count, len(source.states), dtype=torch.float64)
        # Every number of every receiver, a few at a time.
        for number in torch.arange(count * width).split(step):
            place, axis = number // width, number % width
            rows = part.pullback.rows(
                part.receivers[place], one_hot(axis, width)
            )
            energy = rows.double().square().sum(-1).cpu()
            square[:, : energy.size(1)].index_add_(0, place, energy)
        found.update(zip(part.receivers.tolist(), square, strict=True))
    return found


def _estimated(
    source: Source,
    receivers: list[int],
    design: Probes,
    generator: Generator,
) -> tuple[_Rows, _Rows]:
    """Squared norms and their variances."""
    square: _Rows = {}
    variance: _Rows = {}
    for part in source.parts(receivers, design.count):
        few = max(part.pullback.copies // design.count, 1)
        for some in part.receivers.split(few):
            found = _probed(part, some, design, generator)
            for row, *values in zip(some.tolist(), *found, strict=True):
                whole = torch.zeros(2, len(source.states)).double()
                whole[:, : len(values[0])] = torch.stack(values).cpu()
                square[row], variance[row] = whole
    return square, variance


def _probed(
    part: Part, receivers: Tensor, design: Probes, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Estimates for some receivers of a part, and variances ``[M, N]``."""
    number = len(receivers)
    probes = design.draw(receivers, generator)
    targets = receivers.repeat_interleave(design.count)
    rows = part.pullback.rows(targets, probes.flatten(0, 1))
    return design.estimate(rows.unflatten(0, (number, design.count)))


def _check(states: Tensor, method: str, probes: int, chunk: int | None) -> None:
    if states.dim() != 2 or states.numel() == 0:
        raise ValueError(
            f"Expected 'states' of shape [N, d] (got {list(states.shape)})."
        )
    if not states.is_floating_point():
        raise ValueError(
            f"Expected floating-point 'states' (got {states.dtype})."
        )
    if method not in get_args(Method):
        raise ValueError(
            f"Expected 'method' to be one of {get_args(Method)} (got "
            f'{method!r}).'
        )
    check_size('probes', probes, 2)
    if chunk is not None:
        check_size('chunk', chunk)


def _receivers(receivers: Sequence[int] | int | None, size: int) -> list[int]:
    """Positions from 0, each once."""
    if receivers is None:
        return list(range(size))
    given = [receivers] if isinstance(receivers, int) else list(receivers)
    found = [int(row) + size * (row < 0) for row in given]
    if any(not 0 <= row < size for row in found) or not found:
        raise ValueError(
            f"Expected 'receivers' among {size} tokens (got {given})."
        )
    if len(set(found)) < len(found):
        raise ValueError(f'Expected each receiver once (got {given}).')
    return found
