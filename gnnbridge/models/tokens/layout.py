"""Where inserted and original tokens stand in a batch of sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnbridge.models.tokens.settings import TokenSettings


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """Places of tokens in the sequences that a model runs on.

    A slot is a place of such a sequence, padding counted: ``T`` original
    tokens and ``n`` inserted ones fill ``n + T`` slots. A node is a token of
    the graphs of :func:`gnnbridge.capture`, padding not counted.

    Attributes:
        kinds: What each inserted token is: ``'sink'``, ``'prepend'`` or
            ``'append'``.
        inserted: Slot of each inserted token ``[B, n]``.
        original: Slot of each original token ``[B, T]``.
        readout: Slot whose output stands for that of each original token
            ``[B, T]``: its own, but for the last token of a prompt the last
            appended one.
        real: Which slots hold no padding ``[B, n + T]``, bool.
        order: What fills each slot ``[B, n + T]``: first the inserted tokens
            are numbered, then the original ones.
        anchor: Slot in the original sequence ``[B, n]`` of the token that
            each inserted one is next to.
        behind: Whether it follows that token, or precedes it ``[B, n]``.
    """

    kinds: tuple[str, ...]
    inserted: Tensor
    original: Tensor
    readout: Tensor
    real: Tensor
    order: Tensor
    anchor: Tensor
    behind: Tensor

    def nodes(self, slots: Tensor) -> Tensor:
        """The nodes at given slots ``[B, k]``, -1 where there is padding."""
        node = (self.real.long().cumsum(1) - 1).masked_fill(~self.real, -1)
        return node.gather(1, slots)

    def extend(self, inserted: Tensor, original: Tensor) -> Tensor:
        """Inserted values ``[B, n, ...]`` among original ones ``[B, T, ...]``.

        Returns:
            Both in the order of the slots, ``[B, n + T, ...]``.
        """
        return merge(self.order, inserted, original)

    def positions(self, position_ids: Tensor) -> Tensor:
        """Positions of all tokens ``[B, n + T]``, consecutive.

        Args:
            position_ids: Positions of the original tokens ``[B, T]``.
        """
        own = position_ids.gather(1, self.anchor) + self.behind.long()
        is_inserted = (self.order < len(self.kinds)).long()
        before = is_inserted.cumsum(1) - is_inserted
        return self.extend(own, position_ids) + before


def merge(order: Tensor, inserted: Tensor, original: Tensor) -> Tensor:
    """Fills slots ``[B, n + T]`` with inserted and original values."""
    both = torch.cat([inserted, original], dim=1)
    index = order.view(*order.shape, *[1] * (both.dim() - 2))
    return both.gather(1, index.expand(-1, -1, *both.shape[2:]))


def lay_out(
    settings: TokenSettings, real: Tensor, length: Tensor
) -> TokenLayout:
    """Places tokens next to the real tokens of each sequence.

    Args:
        settings: The tokens.
        real: Which original tokens are no padding ``[B, T]``, bool.
        length: Number of real tokens in the prompt of each sequence ``[B]``,
            at least ``settings.min_length``.
    """
    num_tokens, size = settings.num_tokens, real.size(1)
    # Slots of the real tokens, first to last, and those of padding.
    slots = (~real).long().argsort(dim=1, stable=True)
    count = real.sum(1, keepdim=True)
    place = settings.places(length)
    behind = place >= count
    anchor = slots.gather(1, torch.where(behind, count - 1, place).clamp_min(0))
    key = torch.cat(
        [
            2 * (anchor + behind.long()),
            (2 * torch.arange(size, device=real.device) + 1).expand_as(real),
        ],
        dim=1,
    )
    order = key.argsort(dim=1, stable=True)
    slot = order.argsort(dim=1)
    inserted, original = slot[:, :num_tokens], slot[:, num_tokens:]
    readout = original
    if settings.append > 0:
        last = slots.gather(1, (length - 1).unsqueeze(1))
        readout = original.scatter(1, last, inserted[:, -1:])
    everywhere = real.new_ones(real.size(0), num_tokens)
    return TokenLayout(
        kinds=settings.kinds,
        inserted=inserted,
        original=original,
        readout=readout,
        real=merge(order, everywhere, real),
        order=order,
        anchor=anchor,
        behind=behind,
    )
