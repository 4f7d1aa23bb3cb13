"""The largest eigenvalue of a symmetric operator, the same on every run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

# Size of the basis, and how many vectors of it a restart keeps.
_BASIS, _KEPT = 30, 12
# A remainder that is shorter is worth a look whether the search has ended.
_SHORT = 1e-6


def largest_eigenpair(
    apply: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,  # shape: [N]
    *,
    tolerance: float,
    max_products: int,
) -> tuple[float, np.ndarray] | None:
    """The largest eigenvalue of a symmetric operator and its eigenvector.

    By Lanczos iterations with thick restarts (`Wu and Simon, 2000
    <https://doi.org/10.1137/S0895479898334605>`_) in an orthogonal basis.
    Unlike ARPACK it draws no random vector where the start spans an invariant
    subspace: if the eigenvalue is multiple, the vector is the projection of
    the start on its eigenspace, up to rounding.

    Args:
        apply: The product of the operator and a vector.
        start: Where to start, not orthogonal to the eigenvector; the operator
            may leave vectors out that are orthogonal to it.
        tolerance: Largest norm of the residual, relative to that of the
            operator if it is above one.
        max_products: Number of products to give up after.

    Returns:
        The eigenvalue and its vector of length one, or ``None`` if it did not
        converge.
    """
    size = min(_BASIS, start.size)
    basis = np.empty((size + 1, start.size))
    small = np.zeros((size, size))
    rest, length, used = start, math.sqrt(start @ start), 0
    for _ in range(max_products):
        basis[used] = rest / length
        rest, along = _orthogonal(apply(basis[used]), basis[: used + 1])
        small[used, : used + 1] = small[: used + 1, used] = along
        used += 1
        length = math.sqrt(rest @ rest)
        if used < size and length >= _SHORT:
            continue
        values, vectors = np.linalg.eigh(small[:used, :used])
        residual = length * abs(vectors[-1, -1])
        if residual <= tolerance * max(1.0, np.abs(values).max()):
            return float(values[-1]), vectors[:, -1] @ basis[:used]
        if used == size:
            used = min(_KEPT, size - 1)
            basis[:used] = vectors[:, -used:].T @ basis[:size]
            small[:] = 0
            small[range(used), range(used)] = values[-used:]
    return None


def _orthogonal(
    vector: np.ndarray,  # shape: [N]
    basis: np.ndarray,  # shape: [K, N]
) -> tuple[np.ndarray, np.ndarray]:
    """What is orthogonal to the rows of a basis, and the coefficients."""
    along = basis @ vector
    rest = vector - along @ basis
    if rest @ rest < 0.1 * (vector @ vector):
        # Much cancelled, and left rounding along the basis.
        again = basis @ rest
        rest -= again @ basis
        along += again
    return rest, along
