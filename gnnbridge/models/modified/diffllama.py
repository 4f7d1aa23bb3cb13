"""DiffLlama models: built from configs of Llama, with and without history."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DiffLlamaConfig, PreTrainedModel

from gnnbridge.models.differential import diffllama_attentions
from gnnbridge.models.differential_llama import HistoryAttention, add_history

_SHARED = (
    'vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
    'num_attention_heads', 'num_key_value_heads', 'head_dim', 'hidden_act',
    'max_position_embeddings', 'initializer_range', 'rms_norm_eps',
    'use_cache', 'pad_token_id', 'bos_token_id', 'eos_token_id',
    'tie_word_embeddings', 'rope_theta', 'rope_scaling', 'rope_parameters',
    'attention_bias', 'attention_dropout',
)  # fmt: skip
_VECTORS = ('lambda_q1', 'lambda_k1', 'lambda_q2', 'lambda_k2')


def is_diffllama(model: nn.Module) -> bool:
    """Whether a model has differential attention of its own."""
    return len(diffllama_attentions(model)) > 0


def diffllama_config(config: Any) -> Any:
    """The DiffLlama of the sizes of a Llama; its own configs as they are.

    Raises:
        NotImplementedError: If the architecture is another, or does what
            DiffLlama does not.
    """
    if config.model_type == 'diffllama':
        return config
    if config.model_type != 'llama':
        raise NotImplementedError(
            f'Expected the config of a Llama or DiffLlama (got '
            f"'{config.model_type}'). Differential attention is built as "
            f'DiffLlama alone.'
        )
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % 2 or kv_heads % 2:
        raise NotImplementedError(
            f'Expected even numbers of heads, of which two make one '
            f'differential head (got {heads} and {kv_heads} of keys).'
        )
    if getattr(config, 'mlp_bias', False) or config.attention_dropout > 0:
        raise NotImplementedError(
            'Expected a Llama without biases in its MLP and without attention '
            'dropout, which DiffLlama does not have (got one with).'
        )
    given = config.to_dict()
    return DiffLlamaConfig(**{k: given[k] for k in _SHARED if k in given})


def give_history(
    model: PreTrainedModel, history: str, **kwargs: Any
) -> dict[str, nn.Module]:
    """:func:`~gnnbridge.models.differential_llama.add_history`, undoably.

    Returns:
        The modules that were replaced, by name.
    """
    names = {module: name for name, module in model.named_modules()}
    replaced = {names[m]: m for m in diffllama_attentions(model)}
    # Weights are drawn there before they are copied.
    with torch.random.fork_rng():
        add_history(model, history, **kwargs)
    return replaced


@torch.no_grad()
def take_history(
    model: PreTrainedModel, replaced: dict[str, nn.Module]
) -> None:
    """Puts DiffLlama's modules back, with the weights as they are now."""
    for name, module in replaced.items():
        now = model.get_submodule(name)
        assert isinstance(now, HistoryAttention)  # it was put there
        _copy_back(now.attention, module)
        model.set_submodule(name, module.train(now.training))


def _copy_back(source: Any, module: Any) -> None:
    for vector in _VECTORS:
        getattr(module, vector).copy_(getattr(source.conv, vector))
    for target, linear in (
        (module.q_proj, source.lin_query),
        (module.k_proj, source.lin_key),
        (module.v_proj, source.lin_value),
        (module.o_proj, source.lin_out),
    ):
        for parameter, value in zip(
            target.parameters(), linear.parameters(), strict=True
        ):
            if linear is source.lin_value:
                value = _halves_apart(value, module)
            parameter.copy_(value)
    example = source.lin_query.weight
    module.to(device=example.device, dtype=example.dtype)


def _halves_apart(x: Tensor, module: Any) -> Tensor:
    """Rows of the value projection, half by half instead of head by head."""
    kv_heads = module.k_proj.out_features // module.head_dim // 2
    return x.unflatten(0, (kv_heads, 2, -1)).transpose(0, 1).flatten(0, 2)
