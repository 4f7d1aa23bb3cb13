"""Inserted tokens in the files of a model."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from gnnbridge.models.tokens.add import install
from gnnbridge.models.tokens.entry import find_entry
from gnnbridge.models.tokens.module import NAME
from gnnbridge.models.tokens.probe import check_insertion
from gnnbridge.models.tokens.settings import TokenSettings

_INDEX, _WEIGHTS = 'model.safetensors.index.json', 'model.safetensors'


def load_tokens(
    model: PreTrainedModel,
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    freeze: bool = False,
) -> PreTrainedModel:
    """Gives a model the inserted tokens that were saved with it, in place.

    ``save_pretrained`` writes the tokens of :func:`gnnbridge.add_tokens` among
    the weights, as ``gnnbridge_tokens.*``. ``from_pretrained`` alone ignores
    them, reports them as unexpected keys, and returns the model without them;
    this adds them again::

        model = AutoModelForCausalLM.from_pretrained(directory)
        gnnbridge.load_tokens(model)

    Args:
        model: The model, without inserted tokens.
        name_or_path: A directory that ``save_pretrained`` wrote, or a name on
            the hub; where the model was loaded from by default.
        freeze: As in :func:`gnnbridge.add_tokens`.

    Returns:
        The model that was given.

    Raises:
        ValueError: If no tokens were saved, those saved do not fit the model,
            or the model has some.
    """
    name = os.fspath(name_or_path or model.name_or_path)
    saved = saved_tokens(name) if name else {}
    if not saved:
        raise ValueError(
            f'Expected inserted tokens among the safetensors weights of '
            f"'{name}' (got none). Give the directory that a model with "
            f'tokens was saved to.'
        )
    entry = find_entry(model)
    settings = TokenSettings.from_tensor(saved.pop('settings_json'))
    like = entry.vocabulary.example()
    for kind, value in saved.items():
        if value.size(-1) != like.size(-1):
            raise ValueError(
                f"Expected '{kind}' of {like.size(-1)} dimensions (got "
                f'{value.size(-1)}). Load the model that was saved with it.'
            )
    check_insertion(entry, settings)
    values = {kind: value.to(like, copy=True) for kind, value in saved.items()}
    return install(model, entry, entry.tokens(settings, values), freeze)


def saved_tokens(name: str) -> dict[str, Tensor]:
    """What the weights of a model hold of inserted tokens, by short names."""
    found = {}
    for path in _files(name):
        with safe_open(path, framework='pt') as file:
            names = file.keys()
            for key in names:
                if f'.{NAME}.' in f'.{key}':
                    short = key.rpartition(f'{NAME}.')[2]
                    found[short] = file.get_tensor(key)
    return found


def _files(name: str) -> list[str]:
    """The weights of a model, in a directory or loaded from the hub."""
    if Path(name).expanduser().is_dir():
        return sorted(map(str, Path(name).expanduser().glob('*.safetensors')))
    optional = {
        '_raise_exceptions_for_missing_entries': False,
        '_raise_exceptions_for_connection_errors': False,
    }
    index = cached_file(name, _INDEX, **optional)
    if index is None:
        single = cached_file(name, _WEIGHTS, **optional)
        return [] if single is None else [single]
    shards = json.loads(Path(index).read_text())['weight_map']
    holding = {shard for key, shard in shards.items() if NAME in key}
    found = (cached_file(name, shard, **optional) for shard in sorted(holding))
    return [path for path in found if path is not None]
