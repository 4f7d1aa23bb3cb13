r"""Measured sensitivities of tokens to others.

:math:`\lVert \partial x_i^{(L)} / \partial x_j^{(0)} \rVert_F`, of the states
before the final norm to those that enter the first block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

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
def stack_of(model: PreTrainedModel, ids: Tensor) -> tuple[Map, Tensor]:
    """All blocks as one function of the states, and the states of `ids`.

    To be called, as the function is, with :func:`eager` attention.
    """
    blocks, calls = blocks_in(model), []

    def record(_: Any, args: Any, kwargs: Any, output: Any) -> None:
        calls.append((args, kwargs, output))

    handles = [
        block.register_forward_hook(record, with_kwargs=True)
        for block in blocks
    ]
    try:
        model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()

    def run(states: Tensor) -> Tensor:
        for block, (args, kwargs, _) in zip(blocks, calls, strict=True):
            if args:
                output = block(states, *args[1:], **kwargs)
            else:
                output = block(**{**kwargs, 'hidden_states': states})
            states = _first(output)
        return states

    args, kwargs, _ = calls[0]
    start = args[0] if args else kwargs['hidden_states']
    if not torch.allclose(run(start), _first(calls[-1][2]), atol=1e-4):
        raise NotImplementedError(
            f'Expected blocks that only pass on their states (got those of '
            f"'{type(model).__name__}')."
        )
    return run, start


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
    with eager(model):
        run, start = stack_of(model, ids)
        if probes is None and start.numel() > EXACT_NUMBERS:
            probes = PROBES
        if probes is None:
            return Measured(_exact(run, start))
        return _estimated(run, start, probes)


@torch.no_grad()
def probed_norms(model: PreTrainedModel, ids: Tensor, probes: int) -> Tensor:
    """Estimates from so many random input directions for each source.

    Each is a Jacobian-vector product: measured derivatives and no proxy.
    """
    generator = Generator().manual_seed(0)
    with eager(model):
        run, start = stack_of(model, ids)
        tokens, width = start.shape[1:]
        forward = partial(_tangent, run, start)
        square = torch.zeros(tokens, tokens)
        for _ in range(probes):
            drawn = torch.randn(tokens, width, generator=generator)
            inputs = torch.diag_embed(drawn.mT).permute(1, 2, 0).unsqueeze(1)
            moved = torch.cat(
                [
                    torch.func.vmap(forward)(part)
                    for part in inputs.split(_CHUNK)
                ]
            )
            square += moved.squeeze(1).square().sum(-1).T
    return (square / probes).sqrt().double()


def _tangent(run: Map, start: Tensor, direction: Tensor) -> Tensor:
    return torch.func.jvp(run, (start,), (direction,))[1]


def _backward(run: Map, start: Tensor) -> Map:
    """Batches of vector-Jacobian products ``[S, 1, N, d]``.

    By autograd and not by `torch.func`, which refuses models with derivatives
    of their own.
    """
    with torch.enable_grad():
        states = start.detach().requires_grad_()
        output = run(states)

    def pull(vectors: Tensor) -> Tensor:
        return torch.autograd.grad(
            output, states, vectors, retain_graph=True, is_grads_batched=True
        )[0]

    return pull


def _exact(run: Map, start: Tensor) -> Tensor:
    """One backward pass for each number of the output."""
    pull = _backward(run, start)
    tokens, width = start.shape[1:]
    basis = torch.eye(tokens * width).view(-1, 1, tokens, width)
    square = [
        pull(part).square().sum((1, 3))
        for part in _progress(basis.split(_CHUNK), 'backward passes')
    ]
    by_number = torch.cat(square).view(tokens, width, tokens)
    return by_number.sum(1).double().sqrt()


def _estimated(run: Map, start: Tensor, probes: int) -> Measured:
    r"""Hutchinson's estimate from random signs :math:`z` at each receiver.

    :math:`\mathbb{E} \lVert J^\top z \rVert^2 = \lVert J \rVert_F^2`.
    """
    pull = _backward(run, start)
    generator = Generator().manual_seed(0)
    tokens, width = start.shape[1:]
    rows, errors = [], []
    for receiver in _progress(range(tokens), 'receivers'):
        signs = torch.zeros(probes, 1, tokens, width)
        drawn = torch.randint(0, 2, (probes, width), generator=generator)
        signs[:, 0, receiver] = 2.0 * drawn - 1
        square = torch.cat(
            [pull(part).square().sum((1, 3)) for part in signs.split(16)]
        ).double()
        mean = square.mean(0)
        norm = mean.sqrt()
        spread = square.std(0) / probes**0.5
        rows.append(norm)
        # Of a square root, to first order.
        errors.append(spread / (2 * norm).clamp(min=1e-300))
    return Measured(torch.stack(rows), torch.stack(errors))


def _progress(steps: Any, unit: str) -> Any:
    return tqdm(steps, desc=unit, leave=False, disable=None)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output
