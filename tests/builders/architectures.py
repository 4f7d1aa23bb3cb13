"""Tiny models of many architectures whose attention is far from uniform."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel

BASE: dict[str, Any] = {
    'hidden_size': 32,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'intermediate_size': 48,
    'vocab_size': 61,
    'max_position_embeddings': 128,
    'pad_token_id': 0,
    'bos_token_id': 1,
    'eos_token_id': None,
}
_BERT = {k: v for k, v in BASE.items() if k != 'num_key_value_heads'}
_GPT2 = {
    'n_embd': 32,
    'n_layer': 3,
    'n_head': 4,
    'vocab_size': 61,
    'n_positions': 128,
    'bos_token_id': 1,
    'eos_token_id': None,
}
_DEEPSEEK = {
    **BASE,
    'num_key_value_heads': 4,
    'kv_lora_rank': 12,
    'q_lora_rank': 20,
    'qk_nope_head_dim': 8,
    'qk_rope_head_dim': 4,
    'v_head_dim': 10,
    'head_dim': 4,
    'n_routed_experts': 4,
    'num_experts_per_tok': 2,
    'moe_intermediate_size': 24,
    'n_shared_experts': 1,
    'first_k_dense_replace': 1,
    'n_group': 1,
    'topk_group': 1,
}
_EXPERTS = {'num_local_experts': 4, 'num_experts_per_tok': 2}
_T5 = {
    'd_model': 32,
    'd_kv': 8,
    'd_ff': 48,
    'num_layers': 3,
    'num_heads': 4,
    'vocab_size': 61,
    'pad_token_id': 0,
    'decoder_start_token_id': 0,
    'eos_token_id': None,
}
_BART = {
    'd_model': 32,
    'encoder_layers': 3,
    'decoder_layers': 3,
    'encoder_attention_heads': 4,
    'decoder_attention_heads': 4,
    'encoder_ffn_dim': 48,
    'decoder_ffn_dim': 48,
    'vocab_size': 61,
    'max_position_embeddings': 64,
    'pad_token_id': 0,
    'bos_token_id': 1,
    'eos_token_id': 2,
    'decoder_start_token_id': 0,
    'forced_eos_token_id': None,
}
_VIT = {**_BERT, 'image_size': 12, 'patch_size': 4}
for _name in ('vocab_size', 'pad_token_id', 'bos_token_id', 'eos_token_id'):
    _VIT.pop(_name)

# name -> (model class, config class, config arguments)
DECODERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    'llama': (hf.LlamaForCausalLM, hf.LlamaConfig, BASE),
    'mistral': (
        hf.MistralForCausalLM,
        hf.MistralConfig,
        {**BASE, 'sliding_window': 5},
    ),
    'qwen2': (hf.Qwen2ForCausalLM, hf.Qwen2Config, BASE),
    'qwen2_window': (
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config,
        {
            **BASE,
            'use_sliding_window': True,
            'sliding_window': 4,
            'max_window_layers': 1,
        },
    ),
    'qwen3': (hf.Qwen3ForCausalLM, hf.Qwen3Config, {**BASE, 'head_dim': 8}),
    'gemma2': (
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config,
        {
            **BASE,
            'head_dim': 8,
            'sliding_window': 5,
            'attn_logit_softcapping': 2.0,
            'query_pre_attn_scalar': 4,
        },
    ),
    'gemma3': (
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig,
        {
            **BASE,
            'head_dim': 8,
            'sliding_window': 5,
            'sliding_window_pattern': 2,
        },
    ),
    'gpt2': (hf.GPT2LMHeadModel, hf.GPT2Config, _GPT2),
    'gpt2_inverse_layer': (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {**_GPT2, 'scale_attn_by_inverse_layer_idx': True},
    ),
    'gpt2_upcast': (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {**_GPT2, 'reorder_and_upcast_attn': True},
    ),
    'gpt2_both': (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {
            **_GPT2,
            'scale_attn_by_inverse_layer_idx': True,
            'reorder_and_upcast_attn': True,
        },
    ),
    'gpt2_unscaled': (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {**_GPT2, 'scale_attn_weights': False},
    ),
    'gpt_neox': (
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig,
        {**_BERT, 'rotary_pct': 0.5},
    ),
    'opt': (
        hf.OPTForCausalLM,
        hf.OPTConfig,
        {
            **_BERT,
            'ffn_dim': 48,
            'word_embed_proj_dim': 32,
        },
    ),
    'phi3': (
        hf.Phi3ForCausalLM,
        hf.Phi3Config,
        {**BASE, 'sliding_window': 6},
    ),
    'gpt_oss': (
        hf.GptOssForCausalLM,
        hf.GptOssConfig,
        {
            **BASE,
            **_EXPERTS,
            'head_dim': 8,
            'sliding_window': 5,
            'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e4},
        },
    ),
    'diffllama': (hf.DiffLlamaForCausalLM, hf.DiffLlamaConfig, BASE),
    'mixtral': (
        hf.MixtralForCausalLM,
        hf.MixtralConfig,
        {**BASE, **_EXPERTS, 'sliding_window': 5},
    ),
    'deepseek_v2': (hf.DeepseekV2ForCausalLM, hf.DeepseekV2Config, _DEEPSEEK),
}
ENCODERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    'bert': (hf.BertForMaskedLM, hf.BertConfig, _BERT),
    'vit': (hf.ViTForImageClassification, hf.ViTConfig, _VIT),
    't5': (hf.T5ForConditionalGeneration, hf.T5Config, _T5),
    'bart': (hf.BartForConditionalGeneration, hf.BartConfig, _BART),
}


def build(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model in evaluation mode with weights at which every feature bites.

    At the usual initialisation attention is nearly uniform, and a backend that
    forgets a softcap or a sink still passes; with matrices of standard
    deviation ``1.6 / sqrt(fan_in)`` it does not.
    """
    model_class, config_class, arguments = {**DECODERS, **ENCODERS}[name]
    torch.manual_seed(seed)
    model = model_class(config_class(**{**arguments, **changes})).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                fan_in = parameter.shape[-1]
                parameter.normal_(0.0, 1.6 * fan_in**-0.5)
            elif 'sink' in parameter_name or 'lambda' in parameter_name:
                parameter.normal_(0.0, 0.5)
    return model


def inputs_for(model: PreTrainedModel, length: int = 13) -> dict[str, Any]:
    """A batch of two unpadded inputs."""
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == 'pixel_values':
        return {'pixel_values': torch.randn(2, 3, 12, 12, generator=generator)}
    ids = torch.randint(2, 61, (2, length), generator=generator)
    inputs = {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs['decoder_input_ids'] = ids[:, 3:10]
    return inputs


def left_padded(model: PreTrainedModel, length: int = 13) -> dict[str, Any]:
    """A batch whose second sequence is four tokens shorter."""
    inputs = inputs_for(model, length)
    inputs['attention_mask'][1, :4] = 0
    inputs['input_ids'][1, :4] = 0
    return inputs
