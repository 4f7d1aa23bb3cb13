r"""Measured sensitivities of tokens to others.

:math:`\lVert \partial x_i^{(L)} / \partial x_j^{(0)} \rVert_F`, of the states
before the final norm to those that enter the first block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.diagnostics.jacobian import jacobian_norms as norms_of
from gnnbridge.models.stack import block_stack

# Above so many numbers in the states of a sequence norms are estimated.
EXACT_NUMBERS = 2**13
PROBES = 32
_CHUNK = 64

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Measured:
    """Norms of Jacobians ``[N, N]``, row = receiver.

    Attributes:
        norm: The Frobenius norms.
        error: Their standard errors if they are estimates.
    """

    norm: Tensor
    error: Tensor | None = None

    @property
    def relative_error(self) -> float | None:
        """Median over the pairs of a token and an earlier one."""
        if self.error is None:
            return None
        earlier = torch.ones_like(self.norm).tril(-1).bool()
        return float((self.error / self.norm)[earlier].median())


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    """Plain attention, in evaluation mode."""
    usual, training = model.config._attn_implementation, model.training
    model.eval().set_attn_implementation('eager')
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
        model.train(training)


def blocks_in(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks of a decoder of any kind."""
    for name in ('h', 'layers', 'blocks'):
        found = getattr(model.base_model, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    raise NotImplementedError(
        f'Expected a decoder with a list of blocks (got '
        f"'{type(model).__name__}')."
    )


def attention_in(block: nn.Module) -> nn.Module:
    """The attention module of a block."""
    for name in ('attn', 'self_attn', 'attention', 'self_attention'):
        if hasattr(block, name):
            return getattr(block, name)
    raise NotImplementedError(
        f"Expected a block with attention (got '{type(block).__name__}')."
    )


@torch.no_grad()
def jacobian_norms(
    model: PreTrainedModel, ids: Tensor, probes: int | None = None
) -> Measured:
    """The norms for one sequence ``[1, N]``.

    Args:
        model: Any decoder whose blocks pass on nothing but their states.
        ids: The tokens.
        probes: The number of random directions for each receiver. If not
            given, exact for models up to :data:`EXACT_NUMBERS`, and
            :data:`PROBES` above.
    """
    with block_stack(model, ids) as stack:
        if probes is None and stack.states.numel() > EXACT_NUMBERS:
            probes = PROBES
        exact = probes is None
        found = norms_of(
            *stack,
            method='exact' if exact else 'hutchinson',
            probes=probes or PROBES,
            prefix=stack.prefix,
        )
    return Measured(found.norm, found.error)


@torch.no_grad()
def probed_norms(model: PreTrainedModel, ids: Tensor, probes: int) -> Tensor:
    """Estimates from so many random input directions for each source.

    Each is a Jacobian-vector product: measured derivatives and no proxy.
    """
    generator = Generator().manual_seed(0)
    with block_stack(model, ids) as stack:
        tokens, width = stack.states.shape
        forward = partial(_tangent, *stack)
        square = torch.zeros(tokens, tokens)
        for _ in range(probes):
            drawn = torch.randn(tokens, width, generator=generator)
            inputs = torch.diag_embed(drawn.mT).permute(1, 2, 0)
            moved = torch.cat(
                [
                    torch.func.vmap(forward)(part)
                    for part in inputs.split(_CHUNK)
                ]
            )
            square += moved.square().sum(-1).T
    return (square / probes).sqrt().double()


def _tangent(run: Map, start: Tensor, direction: Tensor) -> Tensor:
    return torch.func.jvp(run, (start,), (direction,))[1]
