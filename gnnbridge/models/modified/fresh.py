"""Freshly initialised causal language models."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from gnnbridge.models.versions import PreTrainedConfig


def fresh_causal_lm(config: Any, seed: int = 0) -> PreTrainedModel:
    """A causal language model with freshly drawn weights.

    Args:
        config: A config of ``transformers``; it is not changed.
        seed: Seed of the weights; the global random state is left alone.

    Returns:
        The model in evaluation mode, with eager attention.

    Raises:
        TypeError: If this is no config.
    """
    check_config(config)
    config = copy.deepcopy(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation='eager'
        )
    return model.eval()


def check_config(config: Any) -> None:
    """Raises a TypeError if this is no config of ``transformers``."""
    if not isinstance(config, PreTrainedConfig):
        raise TypeError(
            f"Expected 'config' to be a config of transformers (got "
            f"'{type(config).__name__}'). Pass model.config, or build one as "
            f'transformers.LlamaConfig(...).'
        )
