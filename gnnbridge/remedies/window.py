"""Attention to a window and to the first tokens, for good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.models.modified.modification import Modification, Moment
from gnnbridge.models.modified.sites import Site
from gnnbridge.models.pairs import first_seen, make_pairs, mask_of
from gnnbridge.models.slots import Pairs
from gnnbridge.nn.plan import plan_attention
from gnnbridge.remedies.base import AttentionRemedy
from gnnbridge.remedies.checks import check_count

# Pairs of a call above which edges are listed in place of a mask.
_SMALL = 1 << 22
# What the layers of a model share in one forward pass.
_known: WeakKeyDictionary[Pairs, dict[tuple[int, ...], Pairs]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class WindowWithSinks(AttentionRemedy):
    r"""Keeps the edges of a window, and those from the first tokens.

    The edges of StreamingLLM, `"Efficient Streaming Language Models with
    Attention Sinks" <https://arxiv.org/abs/2309.17453>`_:

    .. math::
        j \to i \text{ is kept} \iff i - j < w \text{ or } j < s

    Tokens are counted without left padding. The window is the model's own
    mask from then on: what :func:`gnnbridge.rewire` is given, and may not add
    to. A model that has windows of its own keeps only what is in both.

    .. note::
        Positions stay absolute. StreamingLLM counts them within its cache, so
        that a model never meets a position that it was not trained on; this
        does not, and the KV cache keeps all tokens. The edges are the same,
        the memory and the numbers beyond the trained length are not.

    Args:
        window: The number :math:`w` of keys, the query itself included.
        sinks: The number :math:`s` of first tokens.
    """

    window: int = 1024
    sinks: int = 4

    name: ClassVar[str] = 'window_sinks'
    part: ClassVar[str] = 'graph'
    costs: ClassVar[str] = 'no parameters; fewer edges'
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count('window', self.window, 1)
        check_count('sinks', self.sinks, 0)

    @classmethod
    def neutral(cls) -> WindowWithSinks:
        """With a window that no sequence is longer than."""
        return cls(window=1 << 40)

    def modification(self, site: Site) -> Modification:
        """No parameter."""
        return _Window(self.window, self.sinks)


class _Window(Modification):
    def __init__(self, window: int, sinks: int) -> None:
        super().__init__()
        self.window, self.sinks = window, sinks

    # What is looked up here is not for torch.compile to look into.
    @torch.compiler.disable
    def pairs(self, moment: Moment) -> Pairs:
        own, frame = moment.own, moment.frame
        padding = _padding(moment)
        first, first_key = int(frame.first_query), frame.first_key
        key = (self.window, self.sinks, first, first_key, *padding.tolist())
        known = _known.setdefault(own, {})
        # What is made inside of a transform must not outlive it.
        if torch._C._are_functorch_transforms_active():
            known = {}
        if key not in known:
            known[key] = self._pairs(moment, padding, first, first_key)
        # The padding is read off what the mask shows, not off the window.
        return replace(known[key], before_choice=own.before_choice or own)

    def _pairs(
        self, moment: Moment, padding: Tensor, first: int, first_key: int
    ) -> Pairs:
        own, backend = moment.own, moment.slot.shared.backend
        _, _, queries, keys = own.shape
        plain = own.plan.structure == 'causal' and queries == keys
        if plain and queries * keys > _SMALL:
            return self._listed(own, backend)
        device = own.plan.device
        query = torch.arange(queries, device=device).unsqueeze(1) + first
        key = torch.arange(keys, device=device) + first_key
        token = key - padding.view(-1, 1, 1)
        kept = (query - key < self.window) | (token < self.sinks)
        mask = mask_of(own) & kept
        mask = mask.expand(own.shape[0], -1, -1)
        plan = plan_attention(mask, backend=backend)
        return Pairs(plan, own.shape, own.head_keep)

    def _listed(self, own: Pairs, backend: str) -> Pairs:
        """The same for long sequences without padding, edge by edge."""
        batch, _, queries, _ = own.shape
        graph = sliding_window_graph(
            queries, min(self.window, queries), self.sinks,
            device=own.plan.device,
        )  # fmt: skip
        key, query = graph.edge_index.repeat(1, batch)
        count = graph.edge_index.size(1)
        sequence = torch.arange(batch, device=key.device)
        sequence = sequence.repeat_interleave(count)
        pairs = make_pairs(sequence, query, key, own.shape, backend)
        return replace(pairs, head_keep=own.head_keep)

    def extra_repr(self) -> str:
        return f'window={self.window}, sinks={self.sinks}'


def _padding(moment: Moment) -> Tensor:
    """Number of padding tokens before each sequence ``[B]``."""
    own, frame = moment.own, moment.frame
    memory = moment.memory('padding')
    if int(frame.first_query) == 0:
        found = first_seen(own) + frame.first_key
        if memory is not None:
            memory.value = found
        return found
    if memory is not None and memory.value is not None:
        if len(memory.value) == own.shape[0]:
            return memory.value
    elif own.plan.structure == 'causal':
        return torch.zeros(own.shape[0], dtype=torch.long).to(own.plan.device)
    raise NotImplementedError(
        f'Expected a KV cache that was filled with the remedy in place, since '
        f'the padding of its sequences is not known (got one of another past '
        f'in layer {moment.slot.layer}). Fill the cache anew.'
    )
