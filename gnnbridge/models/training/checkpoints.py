"""The checkpoints of a run: which there are, and what is read from them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from gnnbridge.models.modified.files import saved_tensors

_PREFIX, _STATE = 'checkpoint-', 'trainer_state.json'
# What may differ in the config of one architecture without other results.
_ASIDE = frozenset(
    {
        'architectures', 'dtype', 'torch_dtype', 'transformers_version',
        'use_cache', 'return_dict', 'output_attentions',
        'output_hidden_states',
    }
)  # fmt: skip


def loss_history(directory: str | os.PathLike[str]) -> list[tuple[int, float]]:
    """The losses of a run of :func:`train`, for a plot.

    Args:
        directory: Where its checkpoints are.

    Returns:
        Pairs of a step and a loss, by step, as the last checkpoint has them:
        after so many steps, the mean loss of the steps since the pair before
        (at most ``logging_steps``, which are 50 by default).

    Raises:
        ValueError: If there is no checkpoint.
    """
    found = checkpoints(directory)
    if not found:
        raise ValueError(
            f'Expected a directory with checkpoints (got '
            f"'{os.fspath(directory)}', which has none). Give the directory "
            f'that was given to train(); it saves every save_steps steps.'
        )
    logged = _state(found[max(found)])['log_history']
    return [(one['step'], one['loss']) for one in logged if 'loss' in one]


def checkpoints(directory: str | os.PathLike[str]) -> dict[int, Path]:
    """The complete checkpoints of a directory by their steps."""
    return {n: p for n, p in _all(directory).items() if _state(p)}


def remove_unfinished(directory: str | os.PathLike[str]) -> None:
    """Removes what was being written when a run was killed.

    It could pass for the newest checkpoint when old ones are cleared away.
    """
    complete = checkpoints(directory)
    for step, path in _all(directory).items():
        if step > max(complete, default=0) and step not in complete:
            shutil.rmtree(path)


def load_weights(model: PreTrainedModel, directory: Path) -> None:
    """Gives a model the weights of a checkpoint of itself, in place.

    ``from_pretrained`` knows the names that an architecture has in files
    alone (the head of GPT-NeoX), but nothing of remedies, inserted tokens and
    history, whose names are the same in files.

    Args:
        model: The model that was trained, or one that was made like it.
        directory: The checkpoint.

    Raises:
        ValueError: If it is of a model that is not made like this one, which
            is left as it was.
    """
    saved, own = saved_tensors(directory, ''), model.state_dict()
    _refuse_other_config(model, directory)
    _refuse_other_additions(own, saved, directory)
    found, spare = _from_pretrained(model, directory)
    found = {name: value for name, value in found.items() if name in own}
    for name in own.keys() - found.keys():
        for match in _matches(name, saved):
            found[name] = saved[match]
            spare.discard(match)
    _refuse_unfit(own, found, spare, directory)
    _refuse_other_dtypes(own, saved, directory)
    model.load_state_dict(found)


def _all(directory: str | os.PathLike[str]) -> dict[int, Path]:
    named = {
        path.name.removeprefix(_PREFIX): path
        for path in Path(directory).glob(f'{_PREFIX}*')
        if path.is_dir()
    }
    return {
        int(name): path
        for name, path in named.items()
        if re.fullmatch('[0-9]+', name)
    }


def _state(checkpoint: Path) -> dict[str, Any]:
    """What is written last into a checkpoint; nothing if it is not there."""
    try:
        found: dict[str, Any] = json.loads((checkpoint / _STATE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found


def _from_pretrained(
    model: PreTrainedModel, directory: Path
) -> tuple[dict[str, Tensor], set[str]]:
    """Weights by the names of modules, and the names of what is left."""
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # about what it does not know
    try:
        # It draws weights for whatever it does not find.
        with torch.random.fork_rng(devices=[]):
            loaded, told = type(model).from_pretrained(
                directory,
                dtype=reduce(torch.promote_types, floats),
                output_loading_info=True,
            )
    finally:
        logging.set_verbosity(verbosity)
    drawn = set(told['missing_keys'])
    found = loaded.state_dict()
    found = {name: found[name] for name in found.keys() - drawn}
    return found, set(told['unexpected_keys'])


def _matches(name: str, saved: Mapping[str, Tensor]) -> list[str]:
    """The name itself, else the one that differs in its prefix alone."""
    if name in saved:
        return [name]
    found = [
        other
        for other in saved
        if f'.{name}'.endswith(f'.{other}') or f'.{other}'.endswith(f'.{name}')
    ]
    return found if len(found) == 1 else []


def _refuse_other_config(model: PreTrainedModel, directory: Path) -> None:
    text = (directory / 'config.json').read_text('utf-8')
    architectures = json.loads(text).get('architectures')
    own_name = type(model).__name__
    if architectures and own_name not in architectures:
        raise ValueError(
            f"Expected a checkpoint of '{own_name}' (got one of "
            f"'{architectures[0]}' in '{directory}'). {_ADVICE}"
        )
    own = model.config.to_dict()
    saved = type(model.config).from_pretrained(directory).to_dict()
    differ = [
        name
        for name in sorted(own.keys() | saved.keys())
        if name not in _ASIDE
        and not name.startswith('_')
        and own.get(name) != saved.get(name)
    ]
    if differ:
        raise ValueError(
            f'Expected a checkpoint of a model with the config '
            f'{ {name: own.get(name) for name in differ} } (got one with '
            f"{ {name: saved.get(name) for name in differ} } in '{directory}'"
            f'). {_ADVICE}'
        )


_ADVICE = 'Make the model as it was made then, or use another directory.'


def _refuse_other_additions(
    own: Mapping[str, Tensor], saved: Mapping[str, Tensor], directory: Path
) -> None:
    wanted, found = _additions(own), _additions(saved)
    if wanted != found:
        raise ValueError(
            f'Expected a checkpoint of a model with the remedies and tokens '
            f"{wanted} (got one with {found} in '{directory}'). {_ADVICE}"
        )


def _additions(tensors: Mapping[str, Tensor]) -> str:
    """What remedies and inserted tokens tell of their settings."""
    told = {
        name.rpartition('.')[2]: bytes(value.tolist()).decode()
        for name, value in tensors.items()
        if name.endswith('_json') and value.dtype == torch.uint8
    }
    return ' and '.join(told[name] for name in sorted(told)) or 'none'


def _refuse_unfit(
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    spare: set[str],
    directory: Path,
) -> None:
    missing = sorted(own.keys() - found.keys())
    for what, names in (('all of', missing), ('no more than', sorted(spare))):
        if names:
            raise ValueError(
                f"Expected {what} the model's weights in '{directory}' (got "
                f"one that differs in {len(names)}, the first '{names[0]}'). "
                f'{_ADVICE}'
            )
    for name, value in own.items():
        if found[name].shape != value.shape:
            raise ValueError(
                f"Expected '{name}' of shape {list(value.shape)} (got "
                f"{list(found[name].shape)} in '{directory}'). {_ADVICE}"
            )


def _refuse_other_dtypes(
    own: Mapping[str, Tensor], saved: Mapping[str, Tensor], directory: Path
) -> None:
    wanted, found = (
        sorted({str(x.dtype) for x in some.values() if x.is_floating_point()})
        for some in (own, saved)
    )
    if wanted != found:
        raise ValueError(
            f'Expected weights in {", ".join(wanted)} (got '
            f"{', '.join(found)} in '{directory}'). Their rounding would be "
            f'other than in one run. {_ADVICE}'
        )
