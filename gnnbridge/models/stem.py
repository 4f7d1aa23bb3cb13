"""What a model gives to a block besides the states."""

from __future__ import annotations

import copy
import inspect
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.models.blocks import first_states
from gnnbridge.models.configs import privatise_configs

# Positional and keyword arguments of a block, without the states.
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class Stem:
    """Gives a block the arguments that its model would give it.

    It is the model without blocks and embeddings: what is left makes position
    embeddings and whatever else the blocks are called with.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        name: str,
        block: nn.Module,
        arguments: Arguments,
        channels: int,
        tuple_length: int,
        masks: str,
    ) -> None:
        self.channels = channels
        self.model: nn.Module | None = None
        self.observed = _without_masks(arguments)
        base = _closest_model(model, name)
        if 'inputs_embeds' not in inspect.signature(base.forward).parameters:
            _check_constant(model, name, self.observed)
            return
        memo: dict[int, Any] = {
            id(other): _Stub(other, other is block, tuple_length)
            for other in base.modules()
            if type(other) is type(block)
        }
        for table in base.modules():
            if isinstance(table, nn.Embedding):
                memo[id(table)] = _Nothing(table)
        self.model = copy.deepcopy(base, memo)
        privatise_configs(self.model, masks)

    def arguments(self, x: Tensor, position: Tensor) -> Arguments:
        """Arguments of the block besides the states, for ``N`` tokens."""
        if self.model is None:
            return self.observed
        self.model.to(x.device)
        states = x.detach().new_zeros((1, *x.shape))
        inputs: dict[str, Any] = {'inputs_embeds': states}
        accepted = inspect.signature(self.model.forward).parameters
        if 'position_ids' in accepted:
            inputs['position_ids'] = position.unsqueeze(0)
        if 'use_cache' in accepted:
            inputs['use_cache'] = False
        try:
            with torch.no_grad():
                self.model(**inputs)
        except _Reached as reached:
            return reached.arguments
        raise RuntimeError('Expected the model to call its block (it did not).')


class _Reached(Exception):
    """Carries the arguments of a block out of a forward pass."""

    def __init__(self, arguments: Arguments) -> None:
        super().__init__()
        self.arguments = arguments


class _Stub(nn.Module):
    """Stands for a block: passes states on, or stops where they were wanted."""

    gradient_checkpointing = False

    def __init__(
        self, block: nn.Module, wanted: bool, tuple_length: int
    ) -> None:
        super().__init__()
        self.wanted, self.tuple_length = wanted, tuple_length
        # Some models choose a mask, or what follows, by what the block says.
        for name, value in {**vars(type(block)), **vars(block)}.items():
            if isinstance(value, (bool, int, float, str)):
                self.__dict__.setdefault(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Passes the states on, or raises with the arguments."""
        rest = {k: v for k, v in kwargs.items() if k != 'hidden_states'}
        if self.wanted:
            raise _Reached((args[1:], rest))
        states = first_states(args, kwargs)
        if self.tuple_length == 0:
            return states
        return (states, *[None] * (self.tuple_length - 1))


_INDICES = (torch.int64, torch.int32)


class _Nothing(nn.Module):
    """Stands for an embedding: a block is given its states."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.embedding_dim, self.dtype = table.embedding_dim, table.weight.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Zeros in place of the embeddings of what is given.

        Some embeddings of positions are given no indices; then it is zero of
        no shape and so of any.
        """
        for given in (*args, *kwargs.values()):
            if isinstance(given, Tensor) and given.dtype in _INDICES:
                shape = (*given.shape, self.embedding_dim)
                return torch.zeros(shape, dtype=self.dtype, device=given.device)
        return torch.zeros((), dtype=self.dtype)


def _closest_model(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """The innermost model of transformers that contains a block."""
    parts = name.split('.')
    for end in range(len(parts) - 1, 0, -1):
        module = model.get_submodule('.'.join(parts[:end]))
        if isinstance(module, PreTrainedModel):
            return module
    return model


def _without_masks(arguments: Arguments) -> Arguments:
    """Arguments without masks, in whose place the layer is given a graph."""

    def keep(value: Any) -> Any:
        is_mask = isinstance(value, Tensor) and value.dtype == torch.bool
        return None if is_mask and value.dim() == 4 else value

    args, kwargs = arguments
    return tuple(map(keep, args)), {k: keep(v) for k, v in kwargs.items()}


def _check_constant(
    model: PreTrainedModel, name: str, arguments: Arguments
) -> None:
    """Refuses a block whose arguments cannot be made for another length."""
    args, kwargs = arguments
    values = [*args, *kwargs.values()]
    if any(isinstance(value, (Tensor, tuple, list, dict)) for value in values):
        raise NotImplementedError(
            f"Expected '{type(model).__name__}' to accept 'inputs_embeds' (got "
            f"a model that does not, whose block '{name}' takes tensors "
            f'besides the states).'
        )
