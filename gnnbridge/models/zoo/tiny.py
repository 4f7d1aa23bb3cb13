"""Tiny models of every architecture, with attention far from uniform."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from gnnbridge.models.zoo.sizes import BY_TYPE, LATENT, SIZES, VOCABULARY

__all__ = ['VOCABULARY', 'CannotBuild', 'build', 'model_types']

# A config that was not made small would take minutes.
_MOST_PARAMETERS = 50_000_000
_LAYER_COUNTS = ('num_hidden_layers', 'n_layer', 'n_layers', 'num_layers')


class CannotBuild(Exception):
    """An architecture has no small random model; the message says why."""


def model_types() -> list[str]:
    """All entries of transformers' mapping of causal language models."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build(model_type: str, seed: int = 0) -> PreTrainedModel:
    """A small random model in evaluation mode, float32, eager attention.

    Matrices have standard deviation ``1.6 / sqrt(fan_in)`` and sinks 0.5: at
    the usual initialisation attention is nearly uniform, and what forgets a
    softcap, a sink or a window is not noticed.

    Raises:
        CannotBuild: If there is none.
    """
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    name = name if isinstance(name, str) else name[0]
    try:
        model_class = getattr(transformers, name)
        with torch.device('meta'):
            planned = _make(model_class, model_type)
        count = sum(x.numel() for x in planned.parameters())
        if count > _MOST_PARAMETERS:
            raise CannotBuild(f'{count:.1e} parameters in the smallest config')
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _make(model_class, model_type)
    except CannotBuild:
        raise
    except Exception as error:  # whatever an architecture's code raises
        line = (str(error).strip().splitlines() or [''])[-1][:160]
        raise CannotBuild(f'{type(error).__name__}: {line}') from error
    _draw(model, seed)
    model.generation_config.eos_token_id = None
    return model.eval()


def _make(model_class: Any, model_type: str) -> PreTrainedModel:
    config = CONFIG_MAPPING[model_type](**_sizes(CONFIG_MAPPING[model_type]))
    if not isinstance(config, model_class.config_class):
        # Several causal models are the text part of a larger config.
        config = config.get_text_config(decoder=True)
    return model_class._from_config(config, attn_implementation='eager')


def _sizes(config_class: Any) -> dict[str, Any]:
    """Arguments of a config that make all that has a size small."""
    known = {x.name for x in dataclasses.fields(config_class)}
    own = BY_TYPE.get(config_class.model_type, {})
    given = {key: size for key, size in SIZES.items() if key in known}
    if 'qk_rope_head_dim' in known:
        given |= LATENT
    if 'layer_types' in known and 'layer_types' not in own:
        given |= _one_layer_of_each_type(config_class, known)
    for key, part in config_class.sub_configs.items():
        if key not in own:
            given[key] = _part(config_class, key, part)
    # An ellipsis leaves a field to its default.
    given = {key: size for key, size in (given | own).items() if key in known}
    return {key: size for key, size in given.items() if size is not ...}


def _part(config_class: Any, key: str, part: Any) -> Any:
    if not issubclass(part, PreTrainedConfig):  # an automatic class
        default = getattr(config_class(), key)
        if default is None:
            return None
        part = type(default)
    sizes = _sizes(part)
    return {'model_type': part.model_type, **sizes}


def _one_layer_of_each_type(
    config_class: Any, known: set[str]
) -> dict[str, Any]:
    try:
        types = list(dict.fromkeys(config_class().layer_types or []))
    except Exception:  # no default config; the type's own entry has to do
        return {}
    count = next((name for name in _LAYER_COUNTS if name in known), None)
    if not types or count is None:
        return {}
    types = types * 2 if len(types) == 1 else types
    return {'layer_types': types, count: len(types)}


def _draw(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            if parameter.dim() >= 2:
                scale = 1.6 * parameter.shape[-1] ** -0.5
                parameter.normal_(0.0, scale, generator=generator)
            elif 'sink' in name or 'lambda' in name:
                parameter.normal_(0.0, 0.5, generator=generator)
