"""Small byte-level decoders, trained by the library's own harness.

Runs resume from their last checkpoint; a finished one is loaded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    set_seed,
)

import gnnbridge as gb
from gnnbridge.datasets.text import byte_windows, python_corpus, sample_text
from gnnbridge.models.anatomy import blocks_of
from gnnbridge.models.training import Stream, StreamMixture, train

BOS, VOCABULARY, TOKENS, ROWS = 256, 260, 64, 32
_COMMON = {
    'vocab_size': VOCABULARY,
    'bos_token_id': BOS,
    'eos_token_id': None,
    'pad_token_id': None,
    'use_cache': False,
}
_NO_DROPOUT = {'resid_pdrop': 0.0, 'embd_pdrop': 0.0, 'attn_pdrop': 0.0}


@dataclass(frozen=True)
class Recipe:
    """An architecture and how long it is trained."""

    config: PretrainedConfig
    steps: int = 1000


def gpt2(width: int = 48, layers: int = 6, **options: float) -> GPT2Config:
    """A GPT-2 of four heads."""
    return GPT2Config(
        n_embd=width, n_layer=layers, n_head=4, n_positions=128,
        **_NO_DROPOUT, **_COMMON, **options,
    )  # fmt: skip


def llama(width: int = 48, layers: int = 6) -> LlamaConfig:
    """A Llama of four query heads and two key heads."""
    return LlamaConfig(
        hidden_size=width, intermediate_size=8 * width // 3,
        num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, **_COMMON,
    )  # fmt: skip


def neox(width: int = 48, layers: int = 6) -> GPTNeoXConfig:
    """A GPT-NeoX, whose attention and MLP are parallel."""
    return GPTNeoXConfig(
        hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=4,
        max_position_embeddings=128, **_COMMON,
    )  # fmt: skip


# With its usual initial weights GPT-2 learns little in a thousand steps, so a
# wider one with larger weights is trained longer beside it.
RECIPES = {
    'gpt2': Recipe(gpt2()),
    'gpt2_wide': Recipe(gpt2(64, 4, initializer_range=0.08), 2000),
    'llama': Recipe(llama()),
    'neox': Recipe(neox()),
}
SIZES = {
    f'{name}_{layers}x{width}': build(width, layers)
    for name, build in (('gpt2', gpt2), ('llama', llama), ('neox', neox))
    for layers, width in ((2, 48), (6, 24), (6, 96), (12, 48))
}


def trained(name: str, seed: int, directory: Path) -> PreTrainedModel:
    """The model of a recipe and seed, trained if it is not yet."""
    recipe = RECIPES[name]
    set_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(recipe.config))
    return train(
        model,
        StreamMixture([Stream('text', _windows)], seed),
        directory / f'{name}-{seed}',
        steps=recipe.steps,
        learning_rate=2e-3,
        weight_decay=0.05,
        warmup_steps=100,
        save_steps=250,
        logging_steps=250,
    )


def embedded() -> PreTrainedModel:
    """The model that ships with the library."""
    return gb.load_embedded()[0]


def initialised(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """New weights."""
    set_seed(1000 + seed)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()


@torch.no_grad()
def peaky(model: PreTrainedModel) -> PreTrainedModel:
    """Queries and keys nine times, values four times as large, in place.

    New weights attend almost uniformly; these do not.
    """
    factors = {'q': 9.0, 'k': 9.0, 'v': 4.0}
    for block in blocks_of(model):
        attention = next(
            getattr(block, name)
            for name in ('attn', 'self_attn', 'attention')
            if hasattr(block, name)
        )
        if hasattr(attention, 'c_attn'):
            for part, factor in zip(
                attention.c_attn.weight.chunk(3, 1), (9, 9, 4), strict=True
            ):
                part.mul_(factor)
        elif hasattr(attention, 'query_key_value'):
            weight = attention.query_key_value.weight
            heads = model.config.num_attention_heads
            scale = torch.tensor([9.0, 9.0, 4.0])[:, None, None]
            weight.view(heads, 3, -1, weight.size(1)).mul_(scale)
        else:
            for letter, factor in factors.items():
                getattr(attention, f'{letter}_proj').weight.mul_(factor)
    return model


def texts(count: int = 4, tokens: int = TOKENS) -> Tensor:
    """Held-out windows: half of the sample page, half of held-out pages."""
    generator = Generator().manual_seed(3)
    page, pages = sample_text().encode(), python_corpus('held_out').text
    return torch.cat(
        [
            byte_windows(text, rows, tokens, bos=BOS, generator=generator)
            for text, rows in ((page, count // 2), (pages, count - count // 2))
        ]
    )


@torch.no_grad()
def held_out_loss(model: PreTrainedModel) -> float:
    """Nats per byte on 64 held-out windows."""
    generator = Generator().manual_seed(1)
    ids = byte_windows(
        python_corpus('held_out').text, 64, TOKENS, bos=BOS, generator=generator
    )
    return float(model(ids, labels=ids).loss)


def _windows(step: int, generator: Generator) -> dict[str, Tensor]:
    ids = byte_windows(
        python_corpus().text, ROWS, TOKENS, bos=BOS, generator=generator
    )
    return {'input_ids': ids, 'labels': ids}
