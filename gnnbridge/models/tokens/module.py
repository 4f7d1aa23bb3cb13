"""The embeddings of inserted tokens, as a submodule of a model."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gnnbridge.models.tokens.layout import TokenLayout
from gnnbridge.models.tokens.prompts import Request
from gnnbridge.models.tokens.settings import TokenSettings

# The submodule's name, by which its weights are found in files.
NAME = 'gnnbridge_tokens'
# Plain state, so that modules further out know it without having it.
_ATTRIBUTE = '_gnnbridge_tokens'


class InsertedTokens(nn.Module):
    """Learned embeddings of pause and sink tokens.

    ``pause [1 or prepend + append, d]`` and ``sink [sinks, d]`` are the
    parameters, where there are learned ones of that kind.

    Args:
        settings: The tokens.
        embeddings: Learned embeddings of each kind.
        takes_positions: Whether the module that they are inserted into takes
            ``position_ids``.
        context: Number of positions of the model; None if it has no limit.
    """

    settings_json: Tensor

    def __init__(
        self,
        settings: TokenSettings,
        embeddings: dict[str, Tensor],
        *,
        takes_positions: bool = True,
        context: int | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.takes_positions = takes_positions
        self.context = context
        self.frozen: list[str] = []
        self.handles: list[RemovableHandle] = []
        # What passes from hook to hook in one forward pass, by thread.
        self.requests: dict[int, Request] = {}
        self.layouts: dict[int, tuple[TokenLayout, bool]] = {}
        for kind in ('pause', 'sink'):
            value = embeddings.get(kind)
            self.register_parameter(
                kind, None if value is None else nn.Parameter(value)
            )
        self.register_buffer('settings_json', settings.to_tensor())

    def forward(self, embedding: nn.Module, device: torch.device) -> Tensor:
        """The embeddings of all inserted tokens ``[n, d]``, in their order.

        Args:
            embedding: The model's own, for tokens of the vocabulary.
            device: Where the model's embedding expects ids.
        """
        settings = self.settings
        pauses = settings.prepend + settings.append
        parts = [
            self._of('sink', settings.sink_id, len(settings.sinks)),
            self._of('pause', settings.pause_id, pauses),
        ]
        return torch.cat(
            [
                embedding(part.to(device)) if part.dim() == 1 else part
                for part in parts
                if part is not None
            ]
        )

    def _of(self, kind: str, given: int | None, count: int) -> Tensor | None:
        """Ids ``[k]`` or embeddings ``[k, d]`` of the tokens of one kind."""
        if count == 0:
            return None
        if given is not None:
            return torch.full((count,), given)
        learned: Tensor = getattr(self, kind)
        return learned.expand(count, -1)

    def take_request(self) -> Request | None:
        """What the caller of a module further out has asked for."""
        if torch.compiler.is_compiling() and self.requests:
            # That module need not have been compiled with this one.
            return self.requests.popitem()[1]
        return self.requests.pop(this_thread(), None)

    def take_layout(self) -> tuple[TokenLayout, bool] | None:
        """Where the tokens of the running forward pass stand."""
        return self.layouts.pop(this_thread(), None)

    def extra_repr(self) -> str:
        """The settings, in one line."""
        found = self.settings
        return (
            f'prepend={found.prepend}, append={found.append}, '
            f'sink={list(found.sinks)}'
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Refuses the weights of other tokens."""
        saved = state_dict.get(f'{prefix}settings_json')
        if saved is not None:
            other = TokenSettings.from_tensor(saved)
            if other != self.settings:
                raise ValueError(
                    f'Expected the weights of {self.settings} (got those of '
                    f'{other}). Load them with gnnbridge.load_tokens.'
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


def this_thread() -> int:
    """A number of the running thread, which torch.compile cannot ask for."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


def tokens_of(module: nn.Module) -> InsertedTokens | None:
    """The tokens of a model or of a part of it, or None if it has none."""
    known = module.__dict__.get(_ATTRIBUTE)
    if known is not None:
        return known
    parts = (part.__dict__.get(_ATTRIBUTE) for part in module.modules())
    return next((part for part in parts if part is not None), None)


def needed_length(module: nn.Module) -> int:
    """Number of tokens that a sequence needs for all positions of sinks."""
    tokens = tokens_of(module)
    return 1 if tokens is None else tokens.settings.min_length


def set_tokens(
    module: nn.Module, tokens: InsertedTokens, *, here: bool
) -> None:
    """Lets a module know tokens; they become its submodule ``here``."""
    module.__dict__[_ATTRIBUTE] = tokens
    if here:
        module.add_module(NAME, tokens)


def unset_tokens(module: nn.Module) -> None:
    """Takes the tokens off a module."""
    module.__dict__.pop(_ATTRIBUTE, None)
    module._modules.pop(NAME, None)
