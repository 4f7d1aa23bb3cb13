"""Architectures older than transformers' attention interface.

They have the same step, queries, keys and values in and mixed values out, as a
method ``_attn`` of the attention module. Overridden on the module itself, it
calls the backend as newer architectures do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from gnnbridge.models.backend import graph_attention
from gnnbridge.models.masks import StructuralMask
from gnnbridge.models.pairs import intersect

_METHOD = '_attn'


def install_overrides(model: nn.Module) -> list[nn.Module]:
    """Overrides the attention of old architectures; returns their modules."""
    found = []
    for module in model.modules():
        override = _OVERRIDES.get(_name(module))
        if override is not None:
            # On the instance: other models of the class keep their own.
            module.__dict__[_METHOD] = partial(override, module)
            found.append(module)
    return found


def remove_overrides(modules: list[nn.Module]) -> None:
    """Lets modules run their own attention again."""
    for module in modules:
        module.__dict__.pop(_METHOD, None)


def _gptj(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    return _attend(
        module, query, key, value, attention_mask, 1 / float(module.scale_attn)
    )


def _gpt_neo(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    if module.attention_type == 'local':
        first = key.size(-2) - query.size(-2)
        window = module.bias[:, :, first : key.size(-2), : key.size(-2)]
        attention_mask = intersect(attention_mask, window)
    return _attend(module, query, key, value, attention_mask, 1.0)


def _openai_gpt(
    module: Any,
    query: Tensor,
    key: Tensor,  # [B, H, D, K]
    value: Tensor,
    attention_mask: Tensor | None = None,
    output_attentions: bool = False,
) -> list[Tensor]:
    causal = module.bias[:, :, : query.size(-2), : key.size(-1)] > 0
    out, weights = _attend(
        module,
        query,
        key.transpose(-1, -2),
        value,
        intersect(attention_mask, causal),
        value.size(-1) ** -0.5 if module.scale else 1.0,
    )
    return [out] if weights is None else [out, weights]


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
) -> tuple[Tensor, Tensor | None]:
    if mask is not None and not isinstance(mask, StructuralMask):
        # Some masks say the same of every query.
        mask = mask.expand(*mask.shape[:2], query.size(2), key.size(2))
    out, weights = graph_attention(
        module,
        query,
        key,
        value,
        mask,
        scaling=scaling,
        dropout=module.attn_dropout.p if module.training else 0.0,
        is_causal=True,
    )
    return out.transpose(1, 2), weights


def _name(module: nn.Module) -> str:
    return f'{type(module).__module__}.{type(module).__name__}'


_MODELS = 'transformers.models'
_OVERRIDES: dict[str, Callable[..., Any]] = {
    f'{_MODELS}.gptj.modeling_gptj.GPTJAttention': _gptj,
    f'{_MODELS}.codegen.modeling_codegen.CodeGenAttention': _gptj,
    f'{_MODELS}.gpt_neo.modeling_gpt_neo.GPTNeoSelfAttention': _gpt_neo,
    f'{_MODELS}.openai.modeling_openai.Attention': _openai_gpt,
}
