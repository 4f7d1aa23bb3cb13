"""The contract with transformers: one attention function and one mask function.

Both are registered under one name. The attention modules of transformers look
the name up in their config and call the function with queries, keys and values
to which projections, rotary embeddings and the KV cache have been applied; the
function runs them as message passing over the pairs that the mask allows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask, sdpa_mask

from gnnbridge.models.attend import Attention, are_many
from gnnbridge.models.masks import StructuralMask
from gnnbridge.models.modified.modification import changes_of
from gnnbridge.models.pairs import dense_weights, mask_pairs, pair_bias
from gnnbridge.models.selections import selected
from gnnbridge.models.slots import (
    Call,
    Pairs,
    Rows,
    Slot,
    Vectors,
    get_slot,
)
from gnnbridge.models.versions import mask_queries
from gnnbridge.nn.plan import Structure
from gnnbridge.nn.run import Options

# Names with 'flash', 'sdpa', 'flex' or a slash get special treatment there.
BACKEND = 'gnnbridge'
# The same with float masks, for models that compute with them.
FLOAT_BACKEND = 'gnnbridge_float'
# The same without masks, for layers that are told their graph.
MASKLESS = 'gnnbridge_maskless'
# The same with a mask that hides nothing, for blocks that need to see one.
UNMASKED = 'gnnbridge_unmasked'

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
    AttentionInterface.register(FLOAT_BACKEND, graph_attention)
    AttentionMaskInterface.register(FLOAT_BACKEND, additive_mask)
    AttentionInterface.register(MASKLESS, graph_attention)
    AttentionMaskInterface.register(MASKLESS, no_mask)
    AttentionInterface.register(UNMASKED, graph_attention)
    AttentionMaskInterface.register(UNMASKED, open_mask)


def keep_mask(*args: Any, **kwargs: Any) -> Tensor:
    """Mask function: a boolean tensor, True where a pair is kept.

    Where transformers would pass no mask at all and expect its kernels to know
    what that means, ours get a stand-in that says it.
    """
    stand_in = _stand_in(args, kwargs, torch.bool)
    if stand_in is not None:
        return stand_in
    kwargs['allow_is_causal_skip'] = False
    kwargs['allow_is_bidirectional_skip'] = False
    return sdpa_mask(*args, **kwargs)


def additive_mask(*args: Any, **kwargs: Any) -> Tensor:
    """Mask function: a float tensor, zero where a pair is kept."""
    dtype = kwargs.get('dtype', torch.float32)
    stand_in = _stand_in(args, kwargs, dtype)
    return eager_mask(*args, **kwargs) if stand_in is None else stand_in


def _stand_in(
    args: Any, kwargs: dict[str, Any], dtype: torch.dtype
) -> Tensor | None:
    structure, sizes = _skippable(kwargs), _sizes(kwargs)
    if structure is None or sdpa_mask(*args, **kwargs) is not None:
        return None
    device = kwargs.get('device', 'cpu')
    return StructuralMask.of(structure, sizes, device, dtype)


def _sizes(kwargs: dict[str, Any]) -> tuple[int, int, int, int]:
    queries = mask_queries(kwargs)
    return kwargs['batch_size'], 1, queries, kwargs['kv_length']


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


def open_mask(*args: Any, **kwargs: Any) -> Tensor:
    """Mask function that hides nothing and takes no space."""
    device = kwargs.get('device', 'cpu')
    return StructuralMask.of('full', _sizes(kwargs), device)


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
    sinks: Tensor | None = None,
    position_bias: Tensor | None = None,
    indices: Tensor | None = None,
    block_indices: Tensor | None = None,
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
    if sinks is not None:  # [B, H, Q, 1]
        s_aux = sinks.squeeze(-1).transpose(1, 2).flatten(0, 1)
    own = _own_pairs(slot, attention_mask, shape, bool(is_causal), query)
    # Exact pairs are the whole truth, whatever a layer would choose.
    if slot.exact is None and not (indices is None and block_indices is None):
        attention_mask = selected(
            module, attention_mask, shape, query.device, indices=indices,
            block_indices=block_indices,
            position_ids=kwargs.get('position_ids'),
        )  # fmt: skip
        before = own
        own = _own_pairs(slot, attention_mask, shape, bool(is_causal), query)
        own = replace(own, before_choice=before)
    changes = changes_of(module)
    own = changes.pairs(slot, own)
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
    attention = changes.attention(attention, slot, own)
    vectors = Vectors(attention.query.transpose(1, 2), key, value)

    def attend(pairs: Pairs) -> tuple[Tensor, Tensor]:
        out, alpha = attention.over(pairs, weights=True)
        assert alpha is not None  # asked for
        return out, alpha

    call = Call(slot, shape, own, own, attend, attention.options.scale, vectors)
    pairs = own
    if slot.source is not None:
        pairs = slot.source.pairs(call)
    wanted = slot.shared.weights_for is not None
    recorded = slot.recorder is not None
    # Exact pairs have an order of their own, which blocks would lose.
    in_blocks = recorded and not wanted and slot.exact is None
    in_blocks = in_blocks and are_many(pairs)
    out, alpha = attention.over(
        pairs, weights=wanted or (recorded and not in_blocks)
    )
    if slot.observer is not None:
        slot.observer(replace(call, pairs=pairs))
    if slot.recorder is not None:
        union = pairs.union()
        rows = attention.by_rows(pairs)
        if alpha is not None:
            rows = iter([Rows(0, union, alpha)])
        slot.recorder(replace(call, pairs=union), rows)
    out = changes.output(out, slot, own)
    # Some modules take a view of it.
    out = out.contiguous()
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
