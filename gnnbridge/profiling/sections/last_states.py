"""The states that predictions are made from, in the precision that is asked."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gnnbridge.models.outgoing import outgoing_states
from gnnbridge.profiling.memory import free_memory, in_words

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel


class LastStates:
    """The states of last tokens, from token ids without padding.

    Args:
        model: A model, run as it is.
        most_tokens: How many tokens run together.

    Attributes:
        states: What each call gave ``[B, d]``.
        leaving: What left the last block at each call ``[B, d]``, before the
            final norm; empty where that was not seen.
    """

    def __init__(self, model: PreTrainedModel, most_tokens: int) -> None:
        self.model, self.most_tokens = model, most_tokens
        self.states: list[Tensor] = []
        self.leaving: list[Tensor] = []
        accepted = inspect.signature(model.base_model.forward).parameters
        self.options = {'use_cache': False} if 'use_cache' in accepted else {}

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """What the output head would read ``[B, d]``."""
        rows = max(1, self.most_tokens // ids.size(1))
        with outgoing_states(self.model) as passed:
            states = [self._read(part) for part in ids.split(rows)]
        if len(passed) == len(states):
            self.leaving.append(torch.cat([x[:, -1].cpu() for x in passed]))
        self.states.append(torch.cat(states))
        return self.states[-1]

    def _read(self, ids: Tensor) -> Tensor:
        if self.model.device.type != 'meta':  # an offloaded one fetches them
            ids = ids.to(self.model.device)
        mask = torch.ones_like(ids)
        found = self.model.base_model(
            input_ids=ids, attention_mask=mask, **self.options
        )
        states = found.get('last_hidden_state')
        if states is None:
            raise NotImplementedError(
                "Expected a model that gives 'last_hidden_state' (got "
                f"'{type(self.model).__name__}', which does not)."
            )
        last: Tensor = states[:, -1]
        return last.cpu()


def in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy of a model with weights of another dtype; itself in its own.

    Parameters and what is saved with them are rounded, as on loading;
    computed buffers, such as the frequencies of positions, stay as they are.

    Raises:
        NotImplementedError: If the model cannot be copied, or does not fit
            beside itself.
    """
    if model.dtype == dtype:
        return model
    places = set(getattr(model, 'hf_device_map', {}).values())
    if getattr(model, 'is_quantized', False) or len(places) > 1:
        raise NotImplementedError(
            f'Expected a model of plain weights on one device to be copied to '
            f'{dtype_name(dtype)} (got a quantised or a divided one). Load '
            f'it in that precision instead.'
        )
    size = sum(p.numel() for p in model.parameters())
    needed, free = size * dtype.itemsize, free_memory(model.device)
    if free is not None and needed > free:
        raise NotImplementedError(
            f'Expected memory for a copy of the model in {dtype_name(dtype)}, '
            f'{in_words(needed)} (got {in_words(free)}). Load it in that '
            f'precision instead.'
        )
    saved = model.state_dict(keep_vars=True).values()
    known: dict[int, Any] = {}
    for tensor in (*model.parameters(), *saved):
        if tensor.is_floating_point() and id(tensor) not in known:
            rounded = tensor.detach().to(dtype)
            if isinstance(tensor, nn.Parameter):
                rounded = nn.Parameter(rounded, tensor.requires_grad)
            known[id(tensor)] = rounded
    return copy.deepcopy(model, known)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as reports call it: ``bfloat16``."""
    return str(dtype).removeprefix('torch.')
