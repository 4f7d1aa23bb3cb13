"""Random attention matrices, row = receiver."""

import torch
from torch import Tensor


def random_causal(size: int, seed: int, density: float = 1.0) -> Tensor:
    """Random causal attention in which token 0 is the only root."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator, dtype=torch.float64)
    kept = torch.rand(size, size, generator=generator) < density
    kept[:, 0] = True
    A = (A * kept).tril()
    return A / A.sum(1, keepdim=True)


def random_digraph(size: int, seed: int) -> Tensor:
    """Random weighted digraph, not causal, in which token 0 is the root."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator, dtype=torch.float64)
    A = A * (torch.rand(size, size, generator=generator) < 0.7)
    A[:, 0] = 1
    A[0, 1:] = 0
    return A


def random_walk(size: int, seed: int) -> Tensor:
    """Random dense row-stochastic matrix: one closed class, no root."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator, dtype=torch.float64)
    return A / A.sum(1, keepdim=True)


def static_key(weight: Tensor) -> Tensor:
    """Causal attention in which every receiver weighs a source alike."""
    A = weight.double().expand(len(weight), -1).tril()
    return A / A.sum(1, keepdim=True)


def window(size: int, width: int) -> Tensor:
    """Uniform causal attention over the last `width` tokens."""
    A = torch.ones(size, size, dtype=torch.float64).tril().triu(1 - width)
    return A / A.sum(1, keepdim=True)


def edges_of(A: Tensor) -> tuple[Tensor, Tensor]:
    """The edges of a matrix, sorted by receiver, and their weights."""
    target, source = A.nonzero(as_tuple=True)
    return torch.stack([source, target]), A[target, source]
