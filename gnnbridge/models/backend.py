"""The contract with transformers: one attention function and one mask function.

Both are registered under one name. The attention modules of transformers look
the name up in their config and call the function with queries, keys and values
to which projections, rotary embeddings and the KV cache have been applied; the
function runs them as message passing over the pairs that the mask allows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from gnnbridge.models.attend import Attention
from gnnbridge.models.masks import StructuralMask
from gnnbridge.models.pairs import dense_weights, mask_pairs, pair_bias
from gnnbridge.models.slots import Call, Pairs, Slot, get_slot
from gnnbridge.nn.plan import Structure
from gnnbridge.nn.run import Options

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


def keep_mask(*args: Any, **kwargs: Any) -> Tensor:
    """Mask function: a boolean tensor, True where a pair is kept.

    Where transformers would pass no mask at all and expect its kernels to know
    what that means, ours get a stand-in that says it.
    """
    structure, sizes = _skippable(kwargs), _sizes(kwargs)
    if structure is not None and sdpa_mask(*args, **kwargs) is None:
        return StructuralMask.of(structure, sizes, kwargs.get('device', 'cpu'))
    kwargs['allow_is_causal_skip'] = False
    kwargs['allow_is_bidirectional_skip'] = False
    return sdpa_mask(*args, **kwargs)


def _sizes(kwargs: dict[str, Any]) -> tuple[int, int, int, int]:
    return kwargs['batch_size'], 1, kwargs['q_length'], kwargs['kv_length']


def _skippable(kwargs: dict[str, Any]) -> Structure | None:
    """What a mask that transformers leaves away would say, if it is clear."""
    if torch.compiler.is_compiling():
        return None
    causal = kwargs.get('allow_is_causal_skip', True)
    full = kwargs.get('allow_is_bidirectional_skip', False)
    _, _, num_queries, num_keys = _sizes(kwargs)
    # Keys of a static cache that are not filled yet are left to the mask.
    if causal and not full and num_queries in (1, num_keys):
        return 'causal'
    return 'full' if full and not causal else None


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
    own = _own_pairs(slot, attention_mask, shape, bool(is_causal), query)
    attention = Attention(
        slot.shared.conv,
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        Options(
            scale=query.size(-1) ** -0.5 if scaling is None else scaling,
            pair_bias=pair_bias(attention_mask, position_bias, own),
            softcap=softcap,
            s_aux=s_aux,
            dropout=dropout,
        ),
    )

    def attend(pairs: Pairs) -> tuple[Tensor, Tensor]:
        out, alpha = attention.over(pairs, weights=True)
        assert alpha is not None  # asked for
        return out, alpha

    pairs = own
    if slot.source is not None:
        pairs = slot.source.pairs(Call(slot, shape, own, own, attend))
    wanted = slot.shared.weights_for is not None
    out, alpha = attention.over(
        pairs, weights=wanted or slot.recorder is not None
    )
    if slot.observer is not None:
        slot.observer(Call(slot, shape, own, pairs, attend))
    if slot.recorder is not None and alpha is not None:
        slot.recorder(Call(slot, shape, own, pairs.union(), attend), alpha)
    if wanted and alpha is not None:
        return out, dense_weights(alpha.to(query.dtype), pairs.union())
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
    make = partial(
        mask_pairs, mask, shape, causal=causal, device=query.device,
        backend=slot.shared.backend,
    )  # fmt: skip
    if torch.compiler.is_compiling():
        return make()
    structure = getattr(mask, 'structure', None)
    # A stand-in is known by what it says, any other mask by being the same.
    own = None if structure is not None else mask
    key = (shape, causal, structure, query.device)
    pairs = slot.shared.cached(own, key)
    if pairs is None:
        pairs = make()
        slot.shared.remember(own, key, pairs)
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
