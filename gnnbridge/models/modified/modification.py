"""What a change of attention may do, and the changes of one module."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from torch import Tensor, nn

from gnnbridge.models.attend import Attention
from gnnbridge.models.modified.memory import Memory, memory_of
from gnnbridge.models.slots import Frame, Pairs, Slot
from gnnbridge.models.tokens.module import this_thread

# The submodule of an attention module, by which weights are found in files.
NAME = 'gnnbridge_remedies'
# States, cache and frame of a call.
Entered: TypeAlias = tuple[Tensor | None, Any, Frame]


@dataclass(frozen=True)
class Moment:
    """One call of an attention module, as a change sees it.

    Attributes:
        slot: State of the module that called.
        own: The pairs that the model's own mask allows; changes that came
            earlier may have taken some away.
        states: What the module was given ``[B, Q, d]``.
        cache: The KV cache of the call, or None.
        frame: Where the queries and keys stand in the sequence.
        training: Whether the module trains.
    """

    slot: Slot
    own: Pairs
    states: Tensor | None
    cache: Any
    frame: Frame
    training: bool

    def memory(self, kind: str) -> Memory | None:
        """What this layer keeps beside the cache; None without a cache."""
        frame = self.frame
        if self.cache is None or frame.cache_layer is None:
            return None
        place = (kind, self.slot.layer, frame.cache_layer)
        return memory_of(self.cache, place)


class Modification(nn.Module):
    """A change of the attention of one layer; this one changes nothing."""

    def pairs(self, moment: Moment) -> Pairs:
        """The pairs that take the place of the model's own."""
        return moment.own

    def attention(self, attention: Attention, moment: Moment) -> Attention:
        """The attention that runs over the pairs of a call."""
        return attention

    def output(self, out: Tensor, moment: Moment) -> Tensor:
        """What becomes of the output ``[B, Q, H, Dv]``."""
        return out


class Changes(nn.ModuleDict):
    """The changes of one attention module, by name, in their order."""

    def __init__(self) -> None:
        super().__init__()
        # What the running calls were given, by thread.
        self.entered: dict[int, Entered] = {}

    def pairs(self, slot: Slot, own: Pairs) -> Pairs:
        """The pairs that all changes leave of the model's own."""
        # Exact pairs are the whole truth, whatever a change would take.
        if slot.exact is not None:
            return own
        for change in self._changes():
            own = change.pairs(self._moment(slot, own))
        return own

    def attention(
        self, attention: Attention, slot: Slot, own: Pairs
    ) -> Attention:
        """The attention that all changes make of the model's own."""
        for change in self._changes():
            moment = self._moment(slot, own)
            attention = change.attention(attention, moment)
        return attention

    def output(self, out: Tensor, slot: Slot, own: Pairs) -> Tensor:
        """The output after all changes ``[B, Q, H, Dv]``."""
        for change in self._changes():
            moment = self._moment(slot, own)
            out = change.output(out, moment)
        return out

    def _moment(self, slot: Slot, own: Pairs) -> Moment:
        entered = self.entered.get(this_thread(), (None, None, slot.frame))
        return Moment(slot, own, *entered, self.training)

    def _changes(self) -> Iterable[Modification]:
        return cast(Iterable[Modification], self.values())

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: nothing of a running call."""
        return {**self.__dict__, 'entered': {}}


# Of modules without any; it holds nothing, so all may share it.
_NONE = Changes()


def changes_of(module: nn.Module) -> Changes:
    """The changes of an attention module, empty if it has none."""
    # Replicas of a module for several devices have submodules of their own.
    found = module._modules.get(NAME)
    return _NONE if found is None else cast(Changes, found)
