"""What a change of attention keeps beside a KV cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ATTRIBUTE = '_gnnbridge_remedies'
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Memory:
    """A tensor that lives as long as a cache, and how it knows the cache.

    Attributes:
        value: What is remembered.
    """

    def __init__(self) -> None:
        self.value: Tensor | None = None
        # Sums over as many keys as there were, of the last two lengths: a
        # call may look twice.
        self._known: dict[int, Tensor] = {}

    @torch.compiler.disable
    def check(self, key: Tensor, before: int) -> None:
        """Raises if keys do not go on from those seen last.

        A cache does not say when its sequences were reordered or cut.

        Args:
            key: All keys ``[B, K, Hkv, D]``.
            before: How many of them were there before this call.

        Raises:
            NotImplementedError: If they are of another past.
        """
        known = self._known.get(before)
        if before > 0 and (
            known is None or not torch.equal(known, _checksum(key[:, :before]))
        ):
            raise NotImplementedError(
                f'Expected a cache that has only grown since this layer saw '
                f'it (got {before} keys of another past). Use a new '
                f'DynamicCache; beam search and cropped caches are not '
                f'supported here.'
            )

    @torch.compiler.disable
    def keep(self, value: Tensor, key: Tensor, count: int) -> None:
        """Remembers a value together with the first ``count`` keys."""
        last = max((n for n in self._known if n < count), default=None)
        earlier = {} if last is None else {last: self._known[last]}
        self._known = {**earlier, count: _checksum(key[:, :count])}
        self.value = value


def memory_of(cache: Any, place: tuple[Any, ...]) -> Memory:
    """The memory of one layer beside a cache, a new one at first."""
    if not hasattr(cache, _ATTRIBUTE):
        setattr(cache, _ATTRIBUTE, {})
    return getattr(cache, _ATTRIBUTE).setdefault(place, Memory())


def _checksum(key: Tensor) -> Tensor:
    """A sum over keys that is exact in any order ``[B, Hkv, D]``."""
    bits = key.detach().contiguous().view(_INTEGERS[key.element_size()])
    return bits.sum(dim=1)
