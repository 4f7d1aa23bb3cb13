"""DiffLlama models whose subtracted map remembers earlier rows."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedModel
from transformers.models.diffllama.modeling_diffllama import (
    apply_rotary_pos_emb,
)

from gnnbridge.models.differential import copied, diffllama_attentions
from gnnbridge.nn.differential import DifferentialAttention
from gnnbridge.nn.history import AttentionHistory
from gnnbridge.nn.history_state import HistoryState
from gnnbridge.nn.plan import AttentionPlan, plan_attention

_MEMORY = '_gnnbridge_history'


def add_history(
    model: PreTrainedModel, history: str | None, **kwargs: Any
) -> PreTrainedModel:
    """Gives the differential attention of every layer a history, in place.

    Weights are kept, those of history are new: ``heads`` numbers for each
    layer, twice as many for ``'decay'``, with half of the heads that the
    model's configuration counts. The rest of the model, and how it is trained
    and generates, stays as it is. With ``rho=0.0``, or without history, its
    numbers are those of DiffLlama.

    A copy of the model saved by ``save_pretrained`` names its weights as
    ``model.layers.*.self_attn.attention.*``; load them with
    ``load_state_dict`` into a new model that went through this function.

    Args:
        model: A ``DiffLlama`` model of ``transformers``.
        history: ``'decay'``, ``'runway'``, ``'layer'``, or None for the same
            modules without history, the baseline of a comparison.
        **kwargs: Further arguments of :class:`gnnbridge.nn.AttentionHistory`.

    Returns:
        The model it was given.

    Raises:
        ValueError: If the model has no differential attention.
    """
    modules = diffllama_attentions(model)
    if not modules:
        raise ValueError(
            f"Expected a DiffLlama model (got '{type(model).__name__}'). Build "
            f'one with transformers.DiffLlamaForCausalLM.'
        )
    names = {module: name for name, module in model.named_modules()}
    below = None
    for module in modules:
        remembered = None
        if history is not None:
            heads = module.q_proj.out_features // module.head_dim // 2
            remembered = AttentionHistory(history, heads, **kwargs)
        attention = copied(module, history=remembered)
        below = HistoryAttention(attention, module.layer_idx, below)
        below.train(module.training)
        model.set_submodule(names[module], below)
    return model


class HistoryAttention(nn.Module):
    """Stands in for ``DiffLlamaAttention`` in a model of ``transformers``.

    Args:
        attention: The layer; positions are the model's business.
        layer: Its number, by which caches know it.
        below: That of the layer below, if any.
    """

    def __init__(
        self,
        attention: DifferentialAttention,
        layer: int,
        below: HistoryAttention | None,
    ) -> None:
        super().__init__()
        self.attention, self.layer_idx = attention, layer
        # Kept out of the submodules: it has no weights of this layer.
        self.__dict__['_below'] = below
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        hidden_states: Tensor,  # [B, Q, d]
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Runs the layer as ``transformers`` calls it, without its weights.

        Raises:
            NotImplementedError: For the masks of flash attention, and if the
                cache drops keys or was reordered.
        """
        shape = hidden_states.shape[:2]
        query, key, value = self.attention.project(hidden_states.flatten(0, 1))
        # Caches expect one shape for keys and values.
        query, key, value = (
            x.unflatten(0, shape).transpose(1, 2)
            for x in (query, key, value.reshape(key.shape))
        )
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        memory = self._memory_of(past_key_values)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        if memory is not None:
            memory.check(key, shape[1])
        plan = _plan(attention_mask, (shape[0], shape[1], key.size(2)))
        query, key, value = (
            x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)
        )
        value = value.reshape(key.size(0), key.size(1) // 2, -1)
        out = self.attention.attend(
            query, key, value, plan.to(query.device),
            previous=self._previous(),
            state=None if memory is None else memory.state,
        )  # fmt: skip
        if self._of_layer:
            self._last = query, key
        return out.unflatten(0, shape), None

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: nothing of the last call."""
        return {**self.__dict__, '_last': None}

    @property
    def _of_layer(self) -> bool:
        history = self.attention.conv.history
        return history is not None and not history.of_rows

    def _memory_of(self, cache: Any) -> _Memory | None:
        """The memory beside a cache, where history needs one.

        It lives as long as the cache. Training makes caches that nobody uses.
        """
        history = self.attention.conv.history
        if cache is None or history is None or not history.of_rows:
            return None
        if self.training:
            return None
        if not hasattr(cache, _MEMORY):
            setattr(cache, _MEMORY, {})
        return getattr(cache, _MEMORY).setdefault(self.layer_idx, _Memory())

    def _previous(self) -> tuple[Tensor, Tensor] | None:
        """Queries and keys of the layer below, where history is of it."""
        below = self.__dict__['_below']
        return below._last if self._of_layer and below is not None else None


class _Memory:
    """What one layer keeps beside a KV cache, and how it knows the cache."""

    def __init__(self) -> None:
        self.state = HistoryState()
        self._known: Tensor | None = None

    def check(self, key: Tensor, num_queries: int) -> None:
        """Raises if keys ``[B, Hkv, K, D]`` do not go on from the last call.

        A cache does not say when its sequences were reordered or cut.
        """
        before = key.size(2) - num_queries
        if before == 0:
            self.state.reset()
        elif self._known is None or not torch.equal(
            self._known, _checksum(key[:, :, :before])
        ):
            raise NotImplementedError(
                f'Expected a cache that has only grown since this layer saw it '
                f'(got {before} keys of another past). Use a new DynamicCache; '
                f'beam search, cropped, static and sliding caches are not '
                f'supported with history.'
            )
        self._known = _checksum(key)


def _checksum(key: Tensor) -> Tensor:
    """A sum over keys that is exact in any order ``[B, Hkv, D]``."""
    return key.detach().view(_INTEGERS[key.element_size()]).sum(dim=2)


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


# The layers of a model share a mask.
_plans: MutableMapping[Tensor, AttentionPlan] = WeakIdKeyDictionary()


def _plan(mask: Tensor | None, shape: tuple[int, int, int]) -> AttentionPlan:
    """The graph of a batch of ``B`` sequences of ``Q`` queries, ``K`` keys.

    Raises:
        NotImplementedError: If the mask has not four dimensions.
    """
    batch, num_queries, num_keys = shape
    size = batch * num_keys, batch * num_queries
    if mask is None:
        return plan_attention('causal', size, num_graphs=batch)
    if mask.dim() != 4 or mask.size(1) != 1:
        raise NotImplementedError(
            f'Expected a mask [B, 1, Q, K] (got {list(mask.shape)}). Use '
            f"model.set_attn_implementation('sdpa') or 'eager'."
        )
    if mask not in _plans:
        keep = mask if mask.dtype == torch.bool else mask == 0
        _plans[mask] = plan_attention(keep[:, 0].expand(batch, -1, -1))
    return _plans[mask]
