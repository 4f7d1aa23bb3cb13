"""Where inserted tokens enter a model, found by running it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.models.support import run_once
from gnnbridge.models.tokens.embeddings import Vocabulary
from gnnbridge.models.tokens.hooks import (
    by_name,
    drop_request,
    insert_tokens,
    note_request,
    read_out,
)
from gnnbridge.models.tokens.module import (
    InsertedTokens,
    set_tokens,
    tokens_of,
    unset_tokens,
)
from gnnbridge.models.tokens.settings import TokenSettings

_NEEDED = ('inputs_embeds', 'attention_mask', 'past_key_values')


@dataclass(frozen=True)
class Entry:
    """The module that tokens enter, and those around it.

    Attributes:
        model: The model.
        module: The module that embeds ids; tokens enter behind.
        around: Modules that pass ids on to it, the model first.
        vocabulary: Its embedding.
    """

    model: Any
    module: Any
    around: tuple[Any, ...]
    vocabulary: Vocabulary

    @property
    def context(self) -> int | None:
        """Number of positions of the model; None if it has no limit."""
        found = getattr(self.module.config, 'max_position_embeddings', None)
        return found if found and found > 0 else None

    def tokens(
        self, settings: TokenSettings, embeddings: dict[str, Tensor]
    ) -> InsertedTokens:
        """Tokens that suit this module."""
        accepted = inspect.signature(self.module.forward).parameters
        return InsertedTokens(
            settings,
            embeddings,
            takes_positions='position_ids' in accepted,
            context=self.context,
        )

    def install(self, tokens: InsertedTokens) -> None:
        """Lets tokens enter."""
        for module in self.around:
            set_tokens(module, tokens, here=False)
            tokens.handles += [
                module.register_forward_pre_hook(
                    note_request, with_kwargs=True
                ),
                module.register_forward_hook(drop_request, always_call=True),
            ]
        set_tokens(self.module, tokens, here=True)
        tokens.handles += [
            self.module.register_forward_pre_hook(
                insert_tokens, with_kwargs=True
            ),
            self.module.register_forward_hook(read_out, with_kwargs=True),
        ]

    @staticmethod
    def uninstall(model: nn.Module) -> None:
        """Takes the tokens of a model away."""
        tokens = tokens_of(model)
        for module in model.modules():
            unset_tokens(module)
        for handle in [] if tokens is None else tokens.handles:
            handle.remove()


def find_entry(model: Any) -> Entry:
    """The module of a model that tokens can enter.

    Raises:
        TypeError: If this is no model of ``transformers``.
        ValueError: If the model has inserted tokens already.
        NotImplementedError: If there is no such module.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"Expected a transformers 'PreTrainedModel' (got '{name}'). Load "
            f'it with from_pretrained.'
        )
    if tokens_of(model) is not None:
        raise ValueError(
            f"Expected a model without inserted tokens (got '{name}' with "
            f'some). Remove them with gnnbridge.remove_tokens first.'
        )
    if model.config.is_encoder_decoder or model.main_input_name != 'input_ids':
        raise NotImplementedError(
            f"Expected a causal language model (got '{name}', which is none). "
            f'Pass a decoder-only model of tokens.'
        )
    device = 'cpu' if model.device.type == 'meta' else model.device
    entered = _modules_with_ids(model, device)
    module: Any = entered[-1] if entered else None
    _check_inputs(name, module)
    vocabulary = Vocabulary(_embedding(name, module), device)
    return Entry(model, module, tuple(entered[:-1]), vocabulary)


def _embedding(name: str, module: Any) -> Any:
    """The embedding of a module, which has to be one."""
    try:
        embedding = module.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    if not isinstance(getattr(embedding, 'weight', None), Tensor):
        raise NotImplementedError(
            f"Expected a model with one embedding of its ids (got '{name}' "
            f'without). This architecture cannot have inserted tokens.'
        )
    return embedding


def _check_inputs(name: str, module: Any) -> None:
    """Refuses modules that take no embeddings, or give no states."""
    accepted: Any = ()
    if module is not None:
        accepted = inspect.signature(module.forward).parameters
    missing = [one for one in _NEEDED if one not in accepted]
    if missing:
        raise NotImplementedError(
            f"Expected a model that takes {', '.join(_NEEDED)} (got '{name}' "
            f'without {", ".join(missing)}). This architecture cannot have '
            f'inserted tokens.'
        )
    if module.get_output_embeddings() is not None:
        raise NotImplementedError(
            f'Expected a model whose head is apart from its blocks (got '
            f"'{name}' in one). This architecture cannot have inserted tokens."
        )


def _modules_with_ids(model: Any, device: Any) -> list[Any]:
    """Models within a model that are called with ids, the outermost first."""
    entered: list[Any] = []
    ids = torch.ones(1, 2, dtype=torch.long, device=device)

    def note(module: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        if by_name(module, args, kwargs).get('input_ids') is not None:
            entered.append(module)

    parts = [p for p in model.modules() if isinstance(p, PreTrainedModel)]
    handles = [
        part.register_forward_pre_hook(note, with_kwargs=True) for part in parts
    ]
    try:
        run_once(model, {'input_ids': ids})
    finally:
        for handle in handles:
            handle.remove()
    return entered
