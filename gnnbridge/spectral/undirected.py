"""Classical resistances: networks of conductors between tokens."""

from __future__ import annotations

import math

import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gnnbridge.spectral.laplacian import off_diagonal


def symmetric(A: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights without self-loops, if they are symmetric."""
    off = off_diagonal(A, dtype)
    # float32 weights that were symmetric before a division or a sum.
    gap = (off - off.mT).abs()
    if (gap > 1e-5 * off).any():
        *_, i, j = (gap == gap.max()).nonzero()[0].tolist()
        raise ValueError(
            f"Expected symmetric weights for kind='undirected' (got tokens "
            f'{i} and {j} that differ by {gap.max().item():.4g} between the '
            f"two directions). Use kind='escape' instead."
        )
    return (off + off.mT) / 2


def components(off: Tensor) -> Tensor:
    """The number :math:`(*, N)` of each token's component, by graph."""
    size = off.size(-1)
    graphs = (off.detach() > 0).reshape(-1, size, size).cpu().numpy()
    labels = [
        torch.as_tensor(
            connected_components(csr_matrix(graph), directed=False)[1],
            dtype=torch.int64,
        )
        for graph in graphs
    ]
    return torch.stack(labels).reshape(off.shape[:-1]).to(off.device)


def classical_resistance(A: Tensor, dtype: torch.dtype) -> Tensor:
    """Resistances :math:`(*, N, N)`, infinite between components."""
    off = symmetric(A, dtype)
    label = components(off)
    connected = not bool(label.any())
    # The first token of each component is earth: its row and column are
    # those of a token without edges, and its potential is zero.
    earth = torch.ones_like(label, dtype=torch.bool)
    earth[..., 1:] = label[..., 1:] > label.cummax(-1).values[..., :-1]
    rate = off.sum(-1)
    held = off.masked_fill(earth.unsqueeze(-1) | earth.unsqueeze(-2), 0.0)
    laplacian = torch.diag_embed(rate.masked_fill(earth, 1.0)) - held
    potential = torch.cholesky_inverse(torch.linalg.cholesky(laplacian))
    own = potential.diagonal(dim1=-2, dim2=-1).masked_fill(earth, 0.0)
    resistance = own.unsqueeze(-1) + own.unsqueeze(-2) - 2 * potential
    resistance = off_diagonal(resistance, dtype)
    if connected:
        return resistance
    same = label.unsqueeze(-1) == label.unsqueeze(-2)
    return resistance.masked_fill(~same, math.inf)
