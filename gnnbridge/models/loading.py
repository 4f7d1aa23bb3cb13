"""Loading models from a directory or by name, with errors of one clear line."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)

from gnnbridge.models.modified.files import saved_tensors
from gnnbridge.models.modified.ledger import BUFFER
from gnnbridge.models.tokens.add import add_fresh
from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.tokens.saving import load_tokens, saved_tokens


class LoadError(ValueError):
    """A model cannot be loaded; the message is one line for its user."""


def load_pretrained(
    name_or_path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    device_map: str | dict[str, Any] | None = None,
    without_remedies: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """Loads a model and its tokenizer through transformers' ordinary loaders.

    Code that comes with a model is never run, and weights are read from
    safetensors only. Tokens of :func:`gnnbridge.add_tokens` that were saved
    with the model are inserted again.

    Args:
        name_or_path: A directory that ``save_pretrained`` wrote, or a name on
            the hub.
        dtype: Dtype of the weights; the one they were saved in by default.
        device: Where to put the model; the CPU by default.
        device_map: How transformers spreads a model over several devices
            instead, as ``'auto'``; needs accelerate.
        without_remedies: Whether a model that was saved with remedies may be
            loaded without them. They are code and not weights alone:
            ``gnnbridge.remedies.load`` applies them.

    Returns:
        The model in evaluation mode, of the class that its config names, and
        its tokenizer (None if there is none).

    Raises:
        LoadError: With one line that says what is missing.
    """
    name = os.fspath(name_or_path)
    local = _check_directory(name)
    try:
        has_remedies = local and bool(saved_tensors(name, BUFFER))
        if has_remedies and not without_remedies:
            raise LoadError(
                f"The model in '{name}' was saved with remedies. Load it with "
                f'gnnbridge.remedies.load.'
            )
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        # Their weights would be reported as unexpected, one by one.
        with _errors_alone() if has_remedies else nullcontext():
            model = _model_class(config).from_pretrained(
                name,
                config=config,
                dtype='auto' if dtype is None else dtype,
                use_safetensors=True,
                device_map=device_map,
                trust_remote_code=False,
            )
        if saved_tokens(name):
            load_tokens(model, name)
    except LoadError:
        raise
    except Exception as error:  # every loader has its own kinds of errors
        raise LoadError(_explain(name, local, error)) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        if local and not any(Path(name).glob('tokenizer*')):
            tokenizer = None
        else:
            raise LoadError(
                f"Cannot load the tokenizer of '{name}': {_first_line(error)}"
            ) from error
    if device_map is None:
        model = model.to(device or 'cpu')
    return model.eval(), tokenizer


def reinitialize(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """A model of the same architecture with freshly drawn weights.

    It is the baseline for everything that is said about a trained model: what
    it also shows was not learned.

    Args:
        model: Any model of transformers, converted or not; it is not changed.
        seed: Seed of the weights; the global random state is left alone.

    Returns:
        A new, unconverted model in evaluation mode, with the dtype and on the
        device of the given one.
    """
    config = copy.deepcopy(model.config)
    config._attn_implementation = 'eager'
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model)(config)
    fresh = fresh.to(device=model.device, dtype=model.dtype).eval()
    tokens = tokens_of(model)
    return fresh if tokens is None else add_fresh(fresh, tokens, seed)


@contextmanager
def _errors_alone() -> Iterator[None]:
    usual = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(usual)


def _check_directory(name: str) -> bool:
    """Whether a name is a directory; raises where it is a bad one."""
    path = Path(name).expanduser()
    if path.is_file():
        raise LoadError(
            f"Expected a model directory (got the file '{name}'). Give the "
            f'directory that holds config.json.'
        )
    if not path.is_dir():
        if (
            path.is_absolute()
            or name.startswith(('.', '~'))
            or (name.count('/') > 1)
        ):
            raise LoadError(f"There is no model directory '{name}'.")
        return False
    if not (path / 'config.json').is_file():
        raise LoadError(f"The directory '{name}' has no config.json.")
    if not any(path.glob('*.safetensors')):
        others = sorted(
            p.name
            for kind in ('*.bin', '*.pt', '*.pth')
            for p in path.glob(kind)
        )
        found = f' (got {", ".join(others)})' if others else ''
        raise LoadError(
            f"The directory '{name}' has no safetensors weights{found}. Save "
            f'the model again with save_pretrained.'
        )
    return True


def _model_class(config: Any) -> Any:
    for architecture in getattr(config, 'architectures', None) or []:
        if hasattr(transformers, architecture):
            return getattr(transformers, architecture)
    if type(config) in AutoModelForCausalLM._model_mapping:
        return AutoModelForCausalLM
    return AutoModel


def _explain(name: str, local: bool, error: Exception) -> str:
    text = str(error)
    if 'trust_remote_code' in text or 'custom code' in text:
        return (
            f"The model '{name}' needs code of its own, which is never run "
            f'here. Load it yourself and pass the model object.'
        )
    if not local:
        return (
            f"There is no directory '{name}', and the hub could not give a "
            f'model of that name: {_first_line(error)}'
        )
    return f"Cannot load the model in '{name}': {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
