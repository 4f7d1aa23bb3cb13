"""Differential attention, with and without a history."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from gnnbridge.models.convert import is_converted
from gnnbridge.models.modified.diffllama import (
    diffllama_config,
    give_history,
    is_diffllama,
    take_history,
)
from gnnbridge.models.modified.files import load_tensors
from gnnbridge.models.modified.fresh import check_config, fresh_causal_lm
from gnnbridge.nn.history import AttentionHistory
from gnnbridge.remedies.base import Remedy, applied


@dataclass(frozen=True)
class Differential(Remedy):
    """The difference of two attention maps, the second with a memory.

    `"Differential Transformer" <https://arxiv.org/abs/2410.05258>`_ as
    ``transformers`` builds it, and the history that
    :class:`gnnbridge.nn.AttentionHistory` gives its subtracted map. The two
    maps have weights of their own, so this is no change of a trained softmax:
    :meth:`build` makes the DiffLlama of the sizes of a Llama's config, and
    :meth:`apply` takes a DiffLlama alone. Without history that is left as it
    is.

    Args:
        history: ``'decay'``, ``'runway'``, ``'layer'`` or None.
        of: Whose rows history has, ``'second'`` or ``'first'``.
        rho: First share of history; 0 is none, and stays none.
        decay: First memory of ``'decay'``.
    """

    history: str | None = None
    of: str = 'second'
    rho: float = 0.1
    decay: float = 0.9

    name: ClassVar[str] = 'differential'
    part: ClassVar[str] = 'architecture'
    costs: ClassVar[str] = (
        'four vectors of the width of a head in each layer; with history one '
        'or two numbers for each head of each layer, and a second map of '
        'each head'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.history is None and self.frozen:
            raise ValueError(
                "Expected a 'history' to train for 'frozen' (got None)."
            )
        # Its errors are those of the settings.
        AttentionHistory(self.history or 'decay', 1, **self._options())

    @classmethod
    def neutral(cls) -> Differential:
        """The DiffLlama that it is applied to."""
        return cls()

    def build(self, config: Any, seed: int = 0) -> Any:
        """A fresh DiffLlama, of the sizes of a Llama if that is given.

        Raises:
            NotImplementedError: For other architectures, an odd number of
                heads, and what DiffLlama does not have.
        """
        check_config(config)
        return self.apply(fresh_causal_lm(diffllama_config(config), seed))

    def _refuse_others(self, model: nn.Module) -> None:
        super()._refuse_others(model)
        if not is_diffllama(model):
            raise NotImplementedError(
                f"Expected a DiffLlama model (got '{type(model).__name__}'). "
                f'Differential attention has weights that others do not have; '
                f'build a new model with Differential().build(config).'
            )
        if self.history and (is_converted(model) or applied(model)):
            raise NotImplementedError(
                'Expected a model as it was built for history (got one that is '
                'converted or has other remedies). Restore it first.'
            )

    def _add(self, model: Any) -> Any:
        if self.history is None:
            return None
        return give_history(model, self.history, **self._options())

    def _remove(self, model: Any, undo: Any) -> None:
        if undo is not None:
            take_history(model, undo)

    def _added(self, model: nn.Module) -> dict[str, nn.Parameter]:
        # Its name within the layers of gnnbridge.nn.
        part = '.conv.history.'
        return {n: p for n, p in model.named_parameters() if part in n}

    def _load(self, model: Any, directory: str | os.PathLike[str]) -> None:
        if self.history is not None:
            load_tensors(model, directory, '.self_attn.attention.')

    def _options(self) -> dict[str, Any]:
        return {'of': self.of, 'rho': self.rho, 'decay': self.decay}
