"""Masks that transformers need not make: what they would say, in a word."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gnnbridge.nn.plan import Structure


class StructuralMask(Tensor):
    """Stands for a causal or full mask ``[B, 1, Q, K]`` without its entries.

    A mask of 32k tokens takes a gigabyte. Where transformers finds that a mask
    is plainly causal, or hides nothing, it would pass none at all to its own
    kernels; ours is told which of the two it was. Whatever else is done with
    it, apart from looking at its shape, is done with the real mask.

    Attributes:
        structure: ``'causal'`` or ``'full'``.
    """

    structure: Structure

    @classmethod
    def of(
        cls,
        structure: Structure,
        shape: tuple[int, int, int, int],
        device: torch.device | str,
        dtype: torch.dtype = torch.bool,
    ) -> StructuralMask:
        """A mask that takes the space of one entry, bool or additive."""
        kept = 1 if dtype == torch.bool else 0
        entry = torch.full((), kept, dtype=dtype, device=device)
        mask = entry.expand(shape).as_subclass(cls)
        mask.structure = structure
        return mask

    def entries(self) -> Tensor:
        """The real mask, bool or float."""
        with torch._C.DisableTorchFunctionSubclass():
            plain = self.as_subclass(Tensor)
            if self.structure == 'full':
                return plain
            queries, keys = plain.shape[2:]
            lower = torch.ones(
                queries, keys, dtype=torch.bool, device=plain.device
            )
            lower = lower.tril(keys - queries)
            if plain.dtype == torch.bool:
                return lower.expand(plain.shape)
            closed = torch.finfo(plain.dtype).min
            return plain.masked_fill(~lower, closed)

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Any operation, on the real mask where it reads more than shapes."""
        kwargs = kwargs or {}
        if func in _LOOKS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        args, kwargs = tree_map(_real, (args, kwargs))
        return func(*args, **kwargs)


def _real(value: Any) -> Any:
    return value.entries() if isinstance(value, StructuralMask) else value


# What says nothing about the entries.
_LOOKS = {
    Tensor.size,
    Tensor.dim,
    Tensor.ndimension,
    Tensor.numel,
    Tensor.is_floating_point,
    Tensor.is_inference,
    *(
        getattr(Tensor, name).__get__
        for name in (
            'shape', 'ndim', 'dtype', 'device', 'layout', 'is_cuda',
            'is_meta', 'requires_grad', '_version',
        )
    ),
}  # fmt: skip
