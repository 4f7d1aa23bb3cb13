"""The blocks of a running model as one function of the states of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from gnnbridge.models.blocks import first_states
from gnnbridge.models.convert import (
    conversion_mode,
    convert,
    is_converted,
    restore,
)
from gnnbridge.models.replay import BlockMap, record_calls, run_blocks
from gnnbridge.models.replay import find_blocks as find_blocks
from gnnbridge.models.slots import slots_of
from gnnbridge.models.support import evaluation_mode

# Relative to the largest state. A replay differs by rounding alone.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
_COARSE = 0.02


class Stack:
    """Consecutive blocks of a model on one sequence.

    It unpacks as ``function, states = stack``, and is of use inside the
    context that gave it alone.

    Attributes:
        function: The blocks, :class:`BlockMap`.
        states: The states that enter the first of them ``[N, d]``.
        layers: The numbers of the blocks.
    """

    def __init__(
        self, model: PreTrainedModel, ids: Tensor, layers: range
    ) -> None:
        self._model, self._ids, self.layers = model, ids, layers
        self.function = BlockMap(model, ids, layers)
        self._first = self.function.calls(1)
        self.states = self._first[0].given[0]

    def __iter__(self) -> Iterator[Any]:
        yield self.function
        yield self.states

    @property
    def outgoing(self) -> Tensor:
        """The states that leave the last block ``[N, d]``."""
        return self._first[-1].returned[0]

    def prefix(self, length: int) -> Stack:
        """The same blocks on the first tokens alone, run anew.

        Raises:
            ValueError: If there are not so many tokens.
            NotImplementedError: If the model is not causal: later tokens
                change the states of earlier ones.
        """
        size = self._ids.size(1)
        if not 1 <= length <= size:
            raise ValueError(
                f"Expected 'length' between 1 and {size} (got {length})."
            )
        part = Stack(self._model, self._ids[:, :length], self.layers)
        for found, whole in (
            (part.states, self.states),
            (part.outgoing, self.outgoing),
        ):
            if not _is_close(found, whole[:length]):
                raise NotImplementedError(
                    f'Expected a causal model (got '
                    f"'{type(self._model).__name__}', in which later tokens "
                    f'change earlier states). Use the whole sequence instead.'
                )
        return part

    def between(self, first: int, last: int) -> Stack:
        """Some of these blocks, `first` to `last` - 1, on the same states.

        Raises:
            ValueError: If they are not among these blocks.
        """
        inside = self.layers.start <= first < last <= self.layers.stop
        if not inside:
            raise ValueError(
                f'Expected blocks between {self.layers.start} and '
                f'{self.layers.stop} (got {first} to {last}).'
            )
        part = object.__new__(Stack)
        part._model, part._ids = self._model, self._ids
        part.layers = range(first, last)
        part.function = BlockMap(self._model, self._ids, part.layers)
        start = self.layers.start
        part._first = self._first[first - start : last - start]
        part.function._recorded[1] = part._first
        part.states = part._first[0].given[0]
        return part


@contextmanager
def block_stack(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    first: int = 0,
    last: int | None = None,
) -> Iterator[Stack]:
    """Some blocks of a model as a function of the states that enter them.

    Every block is called again with the arguments that it had in a run of the
    model on `input_ids`, apart from the states. Inside the context the model
    is in evaluation mode, its parameters have no gradients and, unless it is
    converted, its attention is computed by plain operations (``'eager'``);
    afterwards all is as it was.

    Args:
        model: A model of tokens with one stack of blocks; converted or not.
        input_ids: The tokens of one sequence.
        first: The first block.
        last: The first block that is left out; by default none is.

    Shapes:
        - **input_ids:** :math:`(N)` or :math:`(1, N)`

    Yields:
        The :class:`Stack`.

    Raises:
        ValueError: If there is more than one sequence, or there are no such
            blocks.
        NotImplementedError: If the blocks pass on more than one state per
            token, or the replay differs from the model by more than 1e-4 of
            its largest state.

    Example:
        >>> with block_stack(model, ids) as stack:
        ...     norms = jacobian_norms(*stack, prefix=stack.prefix)
    """
    ids = _one_sequence(input_ids).to(model.device)
    count = len(find_blocks(model))
    layers = range(first, count if last is None else last)
    if not 0 <= layers.start < layers.stop <= count:
        raise ValueError(
            f"Expected 'first' < 'last' among {count} blocks (got {first} and "
            f'{last}).'
        )
    with _plain(model):
        _refuse_other_ways(model, ids, layers)
        stack = Stack(model, ids, layers)
        _refuse_other_numbers(model, stack)
        yield stack


def block_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
) -> list[Tensor]:
    """The states that enter each block of a model, and leave the last.

    Args:
        model: A model of tokens with one stack of blocks; converted or not.
        input_ids: The tokens.
        attention_mask: 1 for real tokens; all by default.

    Shapes:
        - **input_ids:** :math:`(N)` or :math:`(B, N)`
        - **output:** one more than there are blocks of :math:`(B, N, d)`

    Returns:
        The states, of padding as well, in the dtype of the model.

    Raises:
        NotImplementedError: If the blocks pass on more than one state per
            token.
    """
    ids = input_ids if input_ids.dim() == 2 else input_ids.unsqueeze(0)
    ids = ids.to(model.device)
    layers = range(len(find_blocks(model)))
    with evaluation_mode(model):
        calls = record_calls(model, ids, layers, attention_mask)
    return [call.given for call in calls] + [calls[-1].returned]


@contextmanager
def unconverted(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Undoes :func:`gnnbridge.convert` for the time of a context."""
    if not is_converted(model):
        yield model
        return
    shared = next(iter(slots_of(model).values())).shared
    mode = conversion_mode(model) or 'messages'
    restore(model)
    try:
        yield model
    finally:
        convert(model, mode=mode, backend=shared.backend)


@contextmanager
def _plain(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, eager attention, no gradients of parameters."""
    usual = model.config._attn_implementation
    trained = [p for p in model.parameters() if p.requires_grad]
    own = not is_converted(model)
    with evaluation_mode(model):
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            if own:
                model.set_attn_implementation('eager')
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            if own:
                model.set_attn_implementation(usual)


def _one_sequence(input_ids: Tensor) -> Tensor:
    ids = input_ids.unsqueeze(0) if input_ids.dim() == 1 else input_ids
    if ids.dim() != 2 or ids.size(0) != 1 or ids.size(1) == 0:
        raise ValueError(
            f"Expected 'input_ids' of shape [N] or [1, N] (got "
            f'{list(input_ids.shape)}).'
        )
    return ids


def _is_close(found: Tensor, expected: Tensor) -> bool:
    error = (found - expected).abs().max()
    tolerance = _TOLERANCE.get(expected.dtype, _COARSE)
    return bool(error <= tolerance * expected.abs().max())


def _refuse_other_numbers(model: PreTrainedModel, stack: Stack) -> None:
    """Refuses blocks that are not what they do once they have run."""
    found, reason = None, 'which give something else when called again'
    try:
        with torch.no_grad():
            found = stack.function(stack.states)
    except (RuntimeError, ValueError, IndexError) as error:
        # Such as a cache that holds the keys of the first call.
        reason = f'which cannot be called again: {str(error)[:80]}'
    if found is None or not _is_close(found, stack.outgoing):
        raise NotImplementedError(
            f'Expected blocks that only pass on their states (got those of '
            f"'{type(model).__name__}', {reason})."
        )


def _refuse_other_ways(
    model: PreTrainedModel, ids: Tensor, layers: range
) -> None:
    """Refuses blocks that are reached by more than the states.

    Everything that depends on the states that enter the first block, or on
    the embeddings if that is the first of the model, carries a gradient.

    Raises:
        NotImplementedError: If another argument of a block does.
    """
    blocks = find_blocks(model)
    chosen = {id(blocks[number]) for number in layers}
    start = blocks[layers.start]
    others: list[str] = []

    def mark(states: Tensor) -> Tensor:
        return states.detach().requires_grad_().clone()

    def enter(block: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        states = first_states(args, kwargs)
        rest = [args, {**kwargs, 'hidden_states': None}]
        if 'hidden_states' not in kwargs:
            rest[0] = args[1:]
        if id(block) in chosen and any(
            isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(rest)
        ):
            others.append(type(block).__name__)
        if block is not start or states.requires_grad:
            return None
        if 'hidden_states' in kwargs:
            return args, {**kwargs, 'hidden_states': mark(states)}
        return (mark(states), *args[1:]), kwargs

    handles = [
        block.register_forward_pre_hook(enter, with_kwargs=True)
        for block in blocks
    ]
    embedding = model.get_input_embeddings()
    if layers.start == 0 and embedding is not None:
        handles.append(
            embedding.register_forward_hook(lambda m, args, out: mark(out))
        )
    try:
        with torch.enable_grad():
            run_blocks(model, ids)
    finally:
        for handle in handles:
            handle.remove()
    if others:
        raise NotImplementedError(
            f'Expected blocks that are reached by their states alone (got '
            f"those of '{type(model).__name__}': '{others[0]}' is given "
            f'something else that depends on them).'
        )
