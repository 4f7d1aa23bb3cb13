"""A tiny decoder of transformers' own classes, and a tokenizer of bytes."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)


def byte_tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """Bytes are tokens 0 to 255, ``<bos>`` is 256."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(['<bos>'])
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single='<bos> $A', special_tokens=[('<bos>', 256)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token='<bos>' if bos else None
    )


def tiny_decoder(**changes: Any) -> LlamaForCausalLM:
    """The same weights on every call with the same changes to the config."""
    settings: dict[str, Any] = {
        'vocab_size': 257,
        'hidden_size': 24,
        'intermediate_size': 40,
        'num_hidden_layers': 2,
        'num_attention_heads': 3,
        'num_key_value_heads': 3,
        'max_position_embeddings': 128,
        **changes,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Freshly drawn attention is uniform: make it choose.
            parameter.mul_(4)
    return model
