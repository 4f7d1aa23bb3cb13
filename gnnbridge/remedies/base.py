"""The interface of all remedies."""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from gnnbridge.models.modified.files import load_tensors
from gnnbridge.models.modified.fresh import fresh_causal_lm
from gnnbridge.models.modified.install import (
    add_changes,
    restore_if_unchanged,
    take_changes,
)
from gnnbridge.models.modified.ledger import freeze, ledger_of, thaw, write
from gnnbridge.models.modified.modification import NAME, Modification
from gnnbridge.models.modified.sites import Site

Model = TypeVar('Model', bound=nn.Module)


@dataclass(frozen=True)
class Remedy(ABC):
    """A change of a causal language model against one of its failures.

    A remedy holds settings alone; what it adds to a model is the model's. So
    one remedy serves any number of models, and a table of them is a loop::

        for name in remedies.REMEDIES:
            model = remedies.make(name).build(config, seed=0)

    Args:
        frozen: Whether only what the remedy adds is trained. The model's own
            parameters get no gradient until the remedy is removed.

    Attributes:
        name: The name of the remedy in the registry.
        part: What it changes of a model; one remedy at a time does.
        costs: What it costs, in words.
        learns: Whether it adds something to train.
    """

    frozen: bool = field(default=False, kw_only=True)

    name: ClassVar[str]
    part: ClassVar[str]
    costs: ClassVar[str]
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: If one is out of range, or there is nothing to train.
        """
        if self.frozen and not self.learns:
            raise ValueError(
                f"Expected a remedy with parameters for 'frozen' (got "
                f"'{type(self).__name__}', which adds none). Leave it out."
            )

    def apply(self, model: Model) -> Model:
        """Gives a model the remedy, in place.

        A remedy of attention converts the model (:func:`gnnbridge.convert`)
        if it is not converted. If this fails, the model is as it was.

        Args:
            model: A causal language model of ``transformers``.

        Returns:
            The model that was given.

        Raises:
            TypeError: If this is no model of ``transformers``.
            ValueError: If the model has a remedy of the same part, or one
                that runs in attention that this one would replace.
            NotImplementedError: If the remedy does not suit the model.
        """
        self._refuse_others(model)
        undo = self._add(model)
        _enter(self, model, undo)
        return model

    def remove(self, model: Model) -> Model:
        """Takes the remedy away; what it has learned is lost.

        What else of the model was trained stays. Parameters that were frozen
        are trained again, and a model that was converted for its remedies is
        restored with the last of them.

        Returns:
            The model that was given.

        Raises:
            ValueError: If the model does not have this remedy.
        """
        self._refuse_without(model)
        ledger = ledger_of(model)
        _, undo = ledger.entries[self.name]
        thaw(model)
        self._remove(model, undo)
        del ledger.entries[self.name]
        _freeze_others(model)
        _write(model)
        return model

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """What the remedy has added to a model, by name.

        Raises:
            ValueError: If the model does not have this remedy.
        """
        self._refuse_without(model)
        return self._added(model)

    def num_parameters(self, model: nn.Module) -> int:
        """How many numbers it has added; the arguments of `parameters`."""
        return sum(x.numel() for x in self.parameters(model).values())

    def build(self, config: Any, seed: int = 0) -> Any:
        """A freshly initialised model with the remedy.

        The model's own weights are those that it has without the remedy.

        Args:
            config: A config of a causal language model of ``transformers``.
            seed: Seed of the weights; the global random state is left alone.

        Returns:
            The model, in evaluation mode.

        Raises:
            TypeError: If this is no config.
            ValueError: As :meth:`apply`.
            NotImplementedError: As :meth:`apply`.
        """
        return self.apply(fresh_causal_lm(config, seed))

    def calibrate(self, model: Model, sequences: Tensor) -> Model:
        """Fits what is fitted to given sequences ``[B, T]``, not trained.

        Most remedies have nothing of this kind and change nothing here.

        Raises:
            ValueError: If the model does not have this remedy.
        """
        self._refuse_without(model)
        return model

    @classmethod
    def neutral(cls) -> Remedy | None:
        """The remedy at settings that change nothing, if there are any."""
        return None

    def settings(self) -> dict[str, Any]:
        """The settings by name, as JSON has them."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> Remedy:
        """The inverse of :meth:`settings`; lists become tuples."""
        found: Any = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        return cls(**found)

    def load(self, model: Model, directory: str | os.PathLike[str]) -> Model:
        """Applies the remedy with what was saved of it in a directory."""
        self.apply(model)
        try:
            self._load(model, directory)
        except BaseException:
            self.remove(model)
            raise
        return model

    @abstractmethod
    def _add(self, model: Any) -> Any:
        """Changes a model; returns what is needed to undo it."""

    @abstractmethod
    def _remove(self, model: Any, undo: Any) -> None:
        """Undoes :meth:`_add`."""

    @abstractmethod
    def _added(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that it added."""

    @abstractmethod
    def _load(self, model: Any, directory: str | os.PathLike[str]) -> None:
        """Fills what was added from files."""

    def _refuse_others(self, model: nn.Module) -> None:
        for other in applied(model):
            if other.part == self.part:
                raise ValueError(
                    f"Expected a model without a remedy of its '{self.part}' "
                    f'(got one with {other!r}). Remove that one first.'
                )

    def _refuse_without(self, model: nn.Module) -> None:
        if self not in applied(model):
            raise ValueError(
                f'Expected a model with {self!r} (got '
                f"'{type(model).__name__}' with {applied(model)}). Apply it "
                f'first.'
            )


@dataclass(frozen=True)
class AttentionRemedy(Remedy):
    """A remedy that changes how attention runs in some layers.

    Args:
        layers: The layers to change, all by default; negative numbers count
            from the end.
    """

    layers: tuple[int, ...] | None = field(default=None, kw_only=True)

    @abstractmethod
    def modification(self, site: Site) -> Modification:
        """The change of one attention module."""

    def _add(self, model: Any) -> None:
        add_changes(model, self.name, self.modification, self.layers)

    def _remove(self, model: Any, undo: Any) -> None:
        take_changes(model, self.name)
        restore_if_unchanged(model)

    def _added(self, model: nn.Module) -> dict[str, nn.Parameter]:
        part = f'.{NAME}.{self.name}.'
        return {n: p for n, p in model.named_parameters() if part in n}

    def _load(self, model: Any, directory: str | os.PathLike[str]) -> None:
        load_tensors(model, directory, f'.{NAME}.{self.name}.')


def applied(model: nn.Module) -> list[Remedy]:
    """The remedies of a model, in the order in which they were applied."""
    return [remedy for remedy, _ in ledger_of(model).entries.values()]


def _enter(remedy: Remedy, model: nn.Module, undo: Any) -> None:
    ledger_of(model).entries[remedy.name] = remedy, undo
    _freeze_others(model)
    _write(model)


def _freeze_others(model: nn.Module) -> None:
    """Freezes what no remedy has added, if one of them asks for it."""
    remedies = applied(model)
    if any(remedy.frozen for remedy in remedies):
        freeze(model, {n for r in remedies for n in r._added(model)})


def _write(model: nn.Module) -> None:
    write(
        model, [{'name': r.name, **r.settings()} for r in applied(model)]
    )  # fmt: skip
