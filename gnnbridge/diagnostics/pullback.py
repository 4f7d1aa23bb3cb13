"""Vector-Jacobian products of a function of token states, many at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

# From states [N, d] to states [N, e].
Map: TypeAlias = Callable[[Tensor], Tensor]
# The map of the first tokens alone, and their states.
Prefix: TypeAlias = Callable[[int], Iterable[Any]]

# What a batch of products keeps of the forward pass. On a CPU more of it than
# fits into its caches makes each product slower.
_BYTES = {'cpu': 2**24}
_BYTES_ELSEWHERE = 2**31
_MOST_COPIES = 64
# Prefixes that the receivers are divided over, at most; and backward passes
# that make it worth while to run the function on one of them.
_PREFIXES = 32
_WORTH = 64
# Tokens that change together, to see how others respond.
_SHARE = 0.25


class Pullback:
    """Products of vectors with the Jacobian of a function at given states.

    The function runs once. If it takes batches, which it says by an attribute
    ``takes_batches``, it runs on copies of the states and every backward pass
    is that of an ordinary batch; else autograd maps one backward pass over the
    vectors, or repeats it where a part of the function does not allow that.

    Args:
        function: From states ``[N, d]`` to states ``[N, e]``.
        states: The states.
        copies: How many vectors go through a backward pass together.
    """

    def __init__(self, function: Map, states: Tensor, copies: int) -> None:
        self.copies, self._mapped = copies, True
        self._in_batch = getattr(function, 'takes_batches', False)
        if self._in_batch:
            states = states.expand(copies, *states.shape)
        with torch.enable_grad():
            self._input = states.detach().clone().requires_grad_()
            self._output = function(self._input)
        if self._output.shape[:-1] != self._input.shape[:-1]:
            raise ValueError(
                f"Expected 'function' to return one state per token, "
                f'{list(self._input.shape[:-1])} (got shape '
                f'{list(self._output.shape)}).'
            )

    @property
    def width(self) -> int:
        """The width of the states that the function returns."""
        return self._output.size(-1)

    def rows(self, receivers: Tensor, vectors: Tensor) -> Tensor:
        """The products with the states of receivers.

        Args:
            receivers: One for each vector ``[M]``.
            vectors: ``[M, e]``.

        Returns:
            ``[M, N, d]``.
        """
        parts = zip(
            receivers.split(self.copies),
            vectors.split(self.copies),
            strict=True,
        )
        return torch.cat([self._pull(*part) for part in parts])

    def _pull(self, receivers: Tensor, vectors: Tensor) -> Tensor:
        count = len(receivers)
        size = self.copies if self._in_batch else count
        shape = (size, *self._output.shape[-2:])
        cotangent = self._output.new_zeros(shape)
        cotangent[torch.arange(count), receivers] = vectors.to(cotangent)
        if self._in_batch:
            return self._backward(cotangent)[:count]
        if self._mapped:
            try:
                return self._backward(cotangent, mapped=True)
            except RuntimeError:
                # A part with a derivative of its own that cannot be mapped.
                self._mapped = False
        return torch.stack([self._backward(one) for one in cotangent])

    def _backward(self, cotangent: Tensor, mapped: bool = False) -> Tensor:
        with warnings.catch_warnings():
            # Of parts that are repeated instead of mapped.
            warnings.simplefilter('ignore')
            (found,) = torch.autograd.grad(
                self._output,
                self._input,
                cotangent,
                retain_graph=True,
                is_grads_batched=mapped,
                materialize_grads=True,
            )
        return found


@dataclass(frozen=True)
class Part:
    """Receivers whose rows come from one pullback.

    Attributes:
        pullback: The function, of as many tokens as they need.
        receivers: Their positions ``[M]``.
    """

    pullback: Pullback
    receivers: Tensor


@dataclass(frozen=True)
class Source:
    """Where pullbacks come from: the whole function, or ever longer prefixes.

    Attributes:
        function: From states ``[N, d]`` to states ``[N, e]``.
        states: The states ``[N, d]``.
        prefix: Gives function and states of the first tokens, if the function
            is causal.
        chunk: How many vectors go through a backward pass together; chosen by
            memory if not given.
    """

    function: Map
    states: Tensor
    prefix: Prefix | None = None
    chunk: int | None = None

    def parts(self, receivers: Sequence[int], passes: int) -> Iterator[Part]:
        """Receivers in groups, each with a pullback that is made for it.

        Args:
            receivers: The receivers.
            passes: How many backward passes each of them takes.
        """
        size = len(self.states)
        step = size
        if self.prefix is not None:
            step = max(-(-size // _PREFIXES), -(-_WORTH // passes))
        groups: dict[int, list[int]] = {}
        for receiver in sorted(receivers):
            groups.setdefault(receiver // step, []).append(receiver)
        most = self.chunk or _copies(self.function, self.states)
        for group in groups.values():
            length = group[-1] + 1 if self.prefix is not None else size
            copies = most
            if self.chunk is None:
                # Every copy runs forward as well.
                several = max(len(group) * passes // 4, 1)
                copies = min(most * size // length, several, _MOST_COPIES)
                copies = _even(copies, passes)
            yield Part(self._pullback(length, copies), torch.tensor(group))

    def responses(self, number: int, generator: Generator) -> Tensor:
        """What small changes of random quarters of the tokens lead to.

        Differences of two values of the function: directions of responses,
        and no derivatives.

        Returns:
            The changes of all states ``[N, number, e]``.
        """
        states, size = self.states, len(self.states)
        length = states.norm(dim=-1, keepdim=True) / states.size(1) ** 0.5
        step = torch.finfo(states.dtype).eps ** (1 / 3) * length
        found = []
        with torch.no_grad():
            start = self.function(states)
            for _ in range(number):
                drawn = torch.randn(states.shape, generator=generator)
                some = torch.rand(size, 1, generator=generator) < _SHARE
                change = (drawn * some).to(states) * step
                found.append(self.function(states + change) - start)
        return torch.stack(found, 1)

    def _pullback(self, length: int, copies: int) -> Pullback:
        function, states = self.function, self.states
        if self.prefix is not None and length < len(states):
            function, states = self.prefix(length)
            if len(states) != length:
                raise ValueError(
                    f"Expected 'prefix' to give the states of {length} tokens "
                    f'(got {len(states)}).'
                )
        return Pullback(function, states, copies)


def _even(copies: int, passes: int) -> int:
    """A little fewer copies, so that none is left without a vector."""
    if copies >= passes:
        return copies // passes * passes
    return -(-passes // -(-passes // copies))


def _copies(function: Map, states: Tensor) -> int:
    """How many backward passes fit into memory, by what one keeps."""
    kept = 0

    def count(saved: Tensor) -> Tensor:
        nonlocal kept
        # Weights are shared by all.
        kept += saved.numel() * saved.element_size() * saved.requires_grad
        return saved

    hooks = torch.autograd.graph.saved_tensors_hooks(count, lambda x: x)
    with torch.enable_grad(), hooks:
        function(states.detach().clone().requires_grad_())
    budget = _BYTES.get(states.device.type, _BYTES_ELSEWHERE)
    return min(max(budget // max(kept, 1), 1), _MOST_COPIES)
