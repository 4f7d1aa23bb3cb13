"""One token graph per attention layer of a running model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from transformers import PreTrainedModel

from gnnbridge.models.convert import converted
from gnnbridge.models.record import Record, recording
from gnnbridge.models.slots import self_attention_slots
from gnnbridge.models.support import evaluation_mode
from gnnbridge.models.tokens.nodes import node_ids


def capture(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    top_k: int | None = None,
    threshold: float | None = None,
    hidden_states: bool = True,
    values: bool = False,
    device: torch.device | str | None = None,
    on_layer: Callable[[Data], None] | None = None,
    **model_inputs: Any,
) -> list[Data]:
    r"""Runs a model once and returns the token graph of each attention layer.

    The model runs as it is loaded by default, converted or not, in evaluation
    mode and without gradients; it is left as it was. Each layer's attention
    is turned into its graph, and thinned out if asked, as soon as the layer
    has run: never more than one layer's full attention is held beyond what
    is returned.

    Args:
        model: A model of ``transformers``.
        input_ids: Token ids :obj:`[T]` or :obj:`[B, T]` (pixel values for
            image models).
        attention_mask: Padding mask :obj:`[B, T]`, 1 for real tokens. Padding
            becomes no node, and positions count real tokens from 0.
        layers: Layers to return, all by default; negative numbers count from
            the end.
        heads: Heads to return, all by default.
        top_k: Keep this many of the heaviest edges of each query.
        threshold: Keep edges whose weight is at least this.
        hidden_states: Whether to return ``x`` and ``mixing``.
        values: Whether to return the sizes of values and keys, which tell one
            kind of attention sink from another.
        device: Where to put the graphs; the model's device by default.
        on_layer: Called with each layer's graph as soon as the layer has run;
            the graphs are then not kept, and the list that is returned is
            empty.
        **model_inputs: Further inputs of the model, such as
            ``decoder_input_ids``; without these an encoder-decoder runs its
            encoder only.

    Returns:
        One :class:`torch_geometric.data.Data` per layer (a
        :class:`torch_geometric.data.Batch` for several sequences) with
        ``edge_index [2, E]`` int64, row 0 the key and row 1 the query, sorted
        by query then key; ``edge_attr [E, H]`` float32, attention per head;
        ``edge_weight [E]``, its mean over the heads; ``position [N]``;
        ``token_id [N]``, -1 for learned tokens of
        :func:`gnnbridge.add_tokens`; ``layer``; ``num_heads``; with
        ``hidden_states`` also ``x [N, d]``, the state entering the block, and
        ``mixing [N]``, the share of attention in the residual stream
        :math:`\lVert a_i \rVert / (\lVert x_i \rVert + \lVert a_i \rVert)`
        (Herasimchyk et al. 2026, https://arxiv.org/abs/2602.16837, per token);
        with ``top_k`` or ``threshold`` also ``discarded_mass [N]``; with
        ``values`` also, each ``[N, H]`` float32, ``value_norm`` and
        ``key_norm``, the norms of the value and of the key (a rotation keeps
        them) that the head reads at the token, and ``query_key_cosine``, the
        cosine of the token's query with the key of the first token of its
        sequence, after rotation; heads that share a key or value repeat it.

        ``x`` and ``mixing`` are left out where a block does not enter with
        one vector per token (hyper-connections, AltUp) or where there are no
        blocks (XLM), and what ``values`` asks for where attention cannot be
        run as messages (``mode='mask'`` of :func:`gnnbridge.convert`). Learned
        sinks leave the sum of a row below one. A layer that attends twice
        (DiffLlama) gives its first call, whose heads hold both maps.

    Raises:
        ValueError: If the inputs do not fit, or a layer or head does not
            exist.
        NotImplementedError: If the model cannot be converted.
    """
    if top_k is not None and threshold is not None:
        raise ValueError(
            f"Expected at most one of 'top_k' and 'threshold' (got {top_k} and "
            f'{threshold}).'
        )
    inputs = _inputs(model, input_ids, attention_mask, model_inputs)
    thinning = {'top_k': top_k, 'threshold': threshold}
    if top_k is None and threshold is None:
        thinning = {}
    with converted(model, None), evaluation_mode(model), torch.no_grad():
        runner = _runner(model, inputs)
        chosen = self_attention_slots(runner, layers)
        token_id = node_ids(runner, inputs)
        records = {
            module: Record(slot, token_id, heads, thinning, values)
            for module, slot in chosen.items()
        }
        with recording(model, records, hidden_states, device, on_layer):
            runner(**inputs)
    results = [record.result() for record in records.values()]
    return results if on_layer is None else []


def _inputs(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    model_inputs: dict[str, Any],
) -> dict[str, Any]:
    name = getattr(model, 'main_input_name', 'input_ids')
    if name != 'input_ids':
        return {name: _placed(input_ids, model), **model_inputs}
    if input_ids.dim() == 1:
        input_ids = input_ids.unsqueeze(0)
    if input_ids.dim() != 2 or input_ids.numel() == 0:
        raise ValueError(
            f"Expected 'input_ids' of shape [T] or [B, T] with at least one "
            f'token (got {list(input_ids.shape)}).'
        )
    if attention_mask is None:
        # Without a mask, positions that do not simply count up would be taken
        # for several sequences packed into one.
        attention_mask = torch.ones_like(input_ids)
    if attention_mask.dim() == 1:
        attention_mask = attention_mask.unsqueeze(0)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"Expected 'attention_mask' of the shape of 'input_ids' "
            f'{list(input_ids.shape)} (got {list(attention_mask.shape)}).'
        )
    empty = (attention_mask == 0).all(dim=1)
    if empty.any():
        raise ValueError(
            f'Expected a real token in every sequence (got padding only in '
            f'sequence {int(empty.nonzero()[0, 0])}).'
        )
    return {
        'input_ids': _placed(input_ids, model),
        'attention_mask': _placed(attention_mask, model),
        **model_inputs,
    }


def _placed(x: Tensor, model: PreTrainedModel) -> Tensor:
    """An input where the model is; an offloaded one fetches it by itself."""
    return x if model.device.type == 'meta' else x.to(model.device)


def _runner(model: PreTrainedModel, inputs: dict[str, Any]) -> Any:
    """The part of a model to run: no output head, no decoder without input."""
    if model.config.is_encoder_decoder:
        given = {'decoder_input_ids', 'decoder_inputs_embeds'} & set(inputs)
        return model if given else model.get_encoder()
    base = model.base_model
    has_all = len(self_attention_slots(base)) == len(
        self_attention_slots(model)
    )
    return base if has_all else model
