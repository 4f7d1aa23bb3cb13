"""Differential attention of DiffLlama models as a PyG layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention

from gnnbridge.nn.differential import DifferentialAttention


def from_diffllama(
    model: PreTrainedModel, layer: int, **kwargs: Any
) -> DifferentialAttention:
    """The attention of one layer of a DiffLlama as a PyG layer of its own.

    Projections, vectors of lambda and the rotary embedding are those of the
    model. Its norm has no gain, and neither has that of the result.

    Args:
        model: A DiffLlama model of ``transformers``; it is not changed.
        layer: Number of the layer; negative numbers count from the end.
        **kwargs: Further arguments of
            :class:`gnnbridge.nn.DifferentialAttentionConv`, such as
            ``history``.

    Returns:
        ``attention(x, edge_index, position=None)``, with copies of the
        weights, that gives what the model's module gives on the same graph.

    Raises:
        ValueError: If the model has no such layer.
        NotImplementedError: If its rotary embedding is scaled.
    """
    modules = diffllama_attentions(model)
    if not -len(modules) <= layer < len(modules):
        raise ValueError(
            f"Expected 'layer' to be one of the {len(modules)} layers of "
            f"differential attention of '{type(model).__name__}' (got "
            f'{layer}). Pass a DiffLlama model.'
        )
    module = modules[layer]
    return copied(module, rope_theta=_theta(module.config), **kwargs)


def diffllama_attentions(model: nn.Module) -> list[Any]:
    """The modules of differential attention, by layer."""
    found = [m for m in model.modules() if isinstance(m, DiffLlamaAttention)]
    return sorted(found, key=lambda module: module.layer_idx)


@torch.no_grad()
def copied(
    module: Any, *, rope_theta: float | None = None, **kwargs: Any
) -> DifferentialAttention:
    """A layer with copies of the weights of a ``DiffLlamaAttention``."""
    linear, width = module.q_proj, module.head_dim
    kv_heads = module.k_proj.out_features // width // 2
    result = DifferentialAttention(
        linear.in_features,
        linear.out_features // width // 2,
        kv_heads=kv_heads,
        width=width,
        rope_theta=rope_theta,
        bias=linear.bias is not None,
        lambda_init=module.lambda_init,
        layer=module.layer_idx,
        elementwise_affine=False,
        eps=module.groupnorm.eps,
        **kwargs,
    )
    result.to(device=linear.weight.device, dtype=linear.weight.dtype)
    for name in ('lambda_q1', 'lambda_k1', 'lambda_q2', 'lambda_k2'):
        getattr(result.conv, name).copy_(getattr(module, name))
    for name, source in (
        ('lin_query', module.q_proj),
        ('lin_key', module.k_proj),
        ('lin_value', module.v_proj),
        ('lin_out', module.o_proj),
    ):
        for target, value in zip(
            getattr(result, name).parameters(), source.parameters(), strict=True
        ):
            if name == 'lin_value':
                value = _halves_together(value, kv_heads)
            target.copy_(value)
    return result.train(module.training)


def _halves_together(x: Tensor, kv_heads: int) -> Tensor:
    """Rows of the value projection, head by head instead of half by half."""
    return x.unflatten(0, (2, kv_heads, -1)).transpose(0, 1).flatten(0, 2)


def _theta(config: Any) -> float:
    """The base of the rotary embedding.

    Raises:
        NotImplementedError: If it is scaled.
    """
    # Before 5.0 they were two entries.
    rope = getattr(config, 'rope_parameters', None)
    if rope is None:
        rope = getattr(config, 'rope_scaling', None) or {}
    kind = rope.get('rope_type', 'default')
    if kind != 'default':
        raise NotImplementedError(
            f"Expected the default rotary embedding (got '{kind}'). Use "
            f'gnnbridge.models.differential_llama.add_history, which keeps the '
            f"model's own."
        )
    return float(rope.get('rope_theta') or config.rope_theta)
