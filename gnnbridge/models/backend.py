"""The contract with transformers: one attention function and one mask function.

Both are registered under one name. The attention modules of transformers look
the name up in their config and call the function with queries, keys and values
to which projections, rotary embeddings and the KV cache have been applied; the
function runs them as message passing over the pairs that the mask allows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from gnnbridge.models.pairs import dense_weights, mask_pairs, pair_bias
from gnnbridge.models.slots import Call, Pairs, Slot, get_slot

# Names with 'flash', 'sdpa', 'flex' or a slash get special treatment there.
BACKEND = 'gnnbridge'
# The same without masks, for layers that are told their graph.
MASKLESS = 'gnnbridge_maskless'

# Keywords that arrive but change nothing for eager attention. Masks already
# hold the window, the padding and the packing; positions are in the queries.
_INERT = frozenset(
    {
        'cache_position',
        'logits_to_keep',
        'num_items_in_batch',
        'output_attentions',
        'output_hidden_states',
        'output_router_logits',
        'position_embeddings',
        'position_ids',
        'return_dict',
        'sliding_window',
        'use_cache',
    }
)


def register_backend() -> None:
    """Makes the backend known to transformers; calling it again is harmless."""
    AttentionInterface.register(BACKEND, graph_attention)
    AttentionMaskInterface.register(BACKEND, keep_mask)
    AttentionInterface.register(MASKLESS, graph_attention)
    AttentionMaskInterface.register(MASKLESS, no_mask)


def keep_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Mask function: always a boolean tensor, True where a pair is kept.

    Without it, or with its shortcuts, transformers passes no mask at all
    where it expects the kernel to know, and padding would be lost.
    """
    kwargs['allow_is_causal_skip'] = False
    kwargs['allow_is_bidirectional_skip'] = False
    return sdpa_mask(*args, **kwargs)


def no_mask(*args: Any, **kwargs: Any) -> None:
    """Mask function that makes no mask."""
    return None


def graph_attention(
    module: nn.Module,
    query: Tensor,  # [B, H, Q, D]
    key: Tensor,  # [B, Hkv, K, D]
    value: Tensor,  # [B, Hkv, K, Dv]
    attention_mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:  # [B, Q, H, Dv], [B, H, Q, K] or None
    """Attention function: message passing over the pairs that the mask keeps.

    Raises:
        NotImplementedError: If a keyword arrives that would be ignored.
        RuntimeError: If the module was never converted.
    """
    slot = get_slot(module)
    if slot is None:
        raise RuntimeError(
            f'Expected a model converted by gnnbridge.convert (got an '
            f"unconverted '{type(module).__name__}'). Load the model with its "
            f'default attention and convert it, with example inputs that '
            f'reach this module.'
        )
    _refuse_unknown(slot, kwargs)
    shape = (query.size(0), query.size(1), query.size(2), key.size(2))
    nodes = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
    conv = slot.shared.conv
    conv.dropout, conv.training = dropout, dropout > 0

    def attend(pairs: Pairs) -> tuple[Tensor, Tensor]:
        out, (_, alpha) = conv(
            *nodes,
            pairs.plan,
            scale=scaling,
            edge_bias=pair_bias(attention_mask, position_bias, pairs, shape),
            softcap=softcap,
            s_aux=s_aux,
            return_attention_weights=True,
        )
        return out, alpha

    own = _own_pairs(slot, attention_mask, shape, bool(is_causal), query)
    pairs = own
    if slot.source is not None:
        pairs = slot.source.pairs(Call(slot, shape, own, own, attend))
    out, alpha = attend(pairs)
    if slot.recorder is not None:
        slot.recorder(Call(slot, shape, own, pairs, attend), alpha)
    out = out.view(shape[0], shape[2], *out.shape[1:])
    if slot.shared.weights_for is not None:
        return out, dense_weights(alpha.to(query.dtype), pairs, shape)
    return out, None


def _own_pairs(
    slot: Slot,
    mask: Tensor | None,
    shape: tuple[int, int, int, int],
    causal: bool,
    query: Tensor,
) -> Pairs:
    """The pairs of the model's own mask, found once for all its layers."""
    if slot.exact is not None:
        return slot.exact
    if torch.compiler.is_compiling():
        return mask_pairs(mask, shape, causal=causal, device=query.device)
    key = (shape, causal, query.device)
    pairs = slot.shared.cached(mask, key)
    if pairs is None:
        pairs = mask_pairs(mask, shape, causal=causal, device=query.device)
        slot.shared.remember(mask, key, pairs)
    return pairs


def _refuse_unknown(slot: Slot, kwargs: dict[str, Any]) -> None:
    for name, argument in kwargs.items():
        if name in _INERT or argument is None or argument is False:
            continue
        raise NotImplementedError(
            f"Expected attention keywords that the '{BACKEND}' backend honours "
            f"(got '{name}' from {slot.shared.architecture}, layer "
            f"{slot.layer}, module '{slot.name}'). Use "
            f'gnnbridge.restore(model) to run the original attention.'
        )
