"""What happens to a forward pass of a model with inserted tokens."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from gnnbridge.models.tokens.cached import continue_cache, mark_cache
from gnnbridge.models.tokens.layout import TokenLayout, lay_out
from gnnbridge.models.tokens.module import (
    InsertedTokens,
    this_thread,
    tokens_of,
)
from gnnbridge.models.tokens.prompts import Request, prompt_lengths
from gnnbridge.models.tokens.refusals import (
    refuse_generation,
    refuse_inputs,
    refuse_length,
    refuse_packed,
)

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def note_request(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    """Forward pre-hook of the modules around the one that tokens enter."""
    tokens = tokens_of(module)
    assert tokens is not None  # it is set with the hook
    call = by_name(module, args, kwargs)
    request = _request(module, call)
    here = this_thread()
    if here in tokens.requests:  # a module further out has noted it
        request = tokens.requests[here]
    else:
        refuse_generation(tokens.settings, request, call)
    tokens.requests[here] = request
    return (), call


def drop_request(module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook, run after errors too."""
    tokens = tokens_of(module)
    if tokens is not None:
        tokens.take_request()


def insert_tokens(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    """Forward pre-hook of the module that tokens enter."""
    tokens = tokens_of(module)
    assert tokens is not None  # it is set with the hook
    call = by_name(module, args, kwargs)
    request = _request(module, call)
    request = tokens.take_request() or request
    tokens.take_layout()  # one that an error left behind
    if tokens.settings.num_tokens == 0:
        return (), call
    refuse_inputs(call)
    call.pop('cache_position', None)  # older versions count it anew
    cache = call.get('past_key_values')
    if cache is not None and int(cache.get_seq_length()) > 0:
        continue_cache(tokens, request, call)
    else:
        _enter(tokens, module, request, call)
    return (), call


def read_out(
    module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
) -> Any:
    """Forward hook of that module: outputs at the original positions."""
    tokens = tokens_of(module)
    found = None if tokens is None else tokens.take_layout()
    if found is None:
        return output
    layout, all_positions = found
    values = output if isinstance(output, tuple) else output.values()
    caches = [kwargs.get('past_key_values'), *values]
    for cache in caches:
        if isinstance(cache, Cache):
            mark_cache(cache, layout)
    if all_positions:
        return output
    states = output[0]
    index = layout.readout.to(states.device).unsqueeze(-1)
    states = states.gather(1, index.expand(-1, -1, states.size(-1)))
    if isinstance(output, tuple):
        return (states, *output[1:])
    output.last_hidden_state = states
    return output


def by_name(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """All arguments of a call by their names."""
    if not args:
        return dict(kwargs)
    names = inspect.signature(module.forward).parameters
    return {**dict(zip(names, args, strict=False)), **kwargs}


def layout_of(
    tokens: InsertedTokens,
    like: Tensor,  # [B, T, ...]
    attention_mask: Tensor | None,
    request: Request,
) -> TokenLayout:
    """Where tokens stand in a batch."""
    if attention_mask is None:
        real = like.new_ones(like.shape[:2], dtype=torch.bool)
    else:
        real = attention_mask.to(like.device) != 0
    lengths = prompt_lengths(tokens.settings, real, request)
    return lay_out(tokens.settings, real, lengths)


def _enter(
    tokens: InsertedTokens,
    module: Any,
    request: Request,
    call: dict[str, Any],
) -> None:
    """Replaces the inputs of a call by those with inserted tokens."""
    ids, embeds = call.get('input_ids'), call.get('inputs_embeds')
    embedding = module.get_input_embeddings()
    if embeds is None:
        embeds = embedding(ids)
    refuse_length(tokens, embeds.size(1))
    # Where a model is spread over devices, its inputs may be on another.
    mask, position_ids = (
        None if call.get(name) is None else call[name].to(embeds.device)
        for name in ('attention_mask', 'position_ids')
    )
    layout = layout_of(tokens, embeds, mask, request)
    device = embeds.device if ids is None else ids.device
    own = tokens(embedding, device).to(embeds)
    own = own.expand(len(embeds), -1, -1)
    call['input_ids'] = None
    call['inputs_embeds'] = layout.extend(own, embeds)
    if mask is not None:
        ones = mask.new_ones(len(mask), own.size(1))
        call['attention_mask'] = layout.extend(ones, mask)
    if position_ids is None and mask is not None:
        position_ids = (mask.long().cumsum(1) - 1).clamp_min(0)
    elif position_ids is not None and mask is None:
        refuse_packed(position_ids)
    if tokens.takes_positions and position_ids is not None:
        position_ids = position_ids.expand(len(embeds), -1)
        call['position_ids'] = layout.positions(position_ids)
    here = this_thread()
    tokens.layouts[here] = layout, request.all_positions


def _request(module: nn.Module, call: dict[str, Any]) -> Request:
    """What a call asks of the tokens; keywords of ours are taken out."""
    return Request(
        prompt_length=call.pop('prompt_length', None),
        all_positions=bool(call.pop('all_positions', False)),
        labels=call.get('labels'),
        training=module.training,
    )
