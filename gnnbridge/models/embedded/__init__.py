"""The small trained decoder that ships with the package.

What it was trained on, and how well it does, is in the ``README.md`` beside
its weights.
"""

from __future__ import annotations

import importlib.resources

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

__all__ = ['load_embedded']


def load_embedded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the embedded model and its tokenizer; needs no network.

    Returns:
        The model in float32 on the CPU, in evaluation mode, and the
        tokenizer, which puts ``<bos>`` in front of every text.

    Example:
        >>> model, tokenizer = load_embedded()
        >>> inputs = tokenizer('A causal graph', return_tensors='pt')
        >>> model(**inputs).logits.shape
        torch.Size([1, 15, 324])
    """
    weights = importlib.resources.files(__package__) / 'weights'
    with importlib.resources.as_file(weights) as directory:
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(
            directory, local_files_only=True
        )
    # Reports call a model by this; the directory's name says nothing.
    model.config.name_or_path = 'Embedded decoder'
    return model.eval(), tokenizer
