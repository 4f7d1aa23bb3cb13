"""What the backend keeps on each attention module of a converted model.

The state lives on the module itself. A keyword argument would be rejected by
``generate()``, and a context variable is lost when gradient checkpointing
recomputes a layer in the backward pass.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import Cache

from gnnbridge.models.versions import cache_offsets
from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.formats import lazy
from gnnbridge.nn.plan import AttentionPlan, plan_attention

_ATTRIBUTE = '_gnnbridge_slot'


@dataclass(frozen=True)
class Frame:
    """Where the queries and keys of one call stand in the whole sequence.

    Key ``k`` of the call has index ``first_key + k``, query ``q`` has index
    ``first_query + q``: with a KV cache neither starts at zero. A module that
    is run several times has a ``cache_layer`` for each.
    """

    first_query: int | Tensor = 0
    first_key: int = 0
    cache_layer: int | None = None


@dataclass(frozen=True, eq=False)
class Pairs:
    """The query-key pairs of one call, over a batch of sequences.

    Attributes:
        plan: The pairs as graphs side by side; they are listed when they are
            first asked for, if at all.
        shape: ``(batch, heads, queries, keys)``.
        head_keep: Which pairs each head uses ``[B | 1, H, Q, K]``, or None
            where all use all.
        bias: Bias of each pair ``[E]``, or of each pair and head ``[E, H]``,
            that comes with the graph, or None.
        heads: Heads that run on these pairs; all where ``rest`` is None.
        rest: Pairs of the other heads.
        before_choice: The pairs of the mask, where the layer has chosen some
            of them; None where it uses all.
    """

    plan: AttentionPlan
    shape: tuple[int, int, int, int]
    head_keep: Tensor | None = None
    bias: Tensor | None = None
    heads: tuple[int, ...] = ()
    rest: Pairs | None = None
    before_choice: Pairs | None = None

    @property
    def batch(self) -> Tensor:
        """Sequence of each pair ``[E]``."""
        return self.plan.places[0]

    @property
    def query(self) -> Tensor:
        """Query of each pair within the call ``[E]``."""
        return self.plan.places[1]

    @property
    def key(self) -> Tensor:
        """Key of each pair within the call ``[E]``."""
        return self.plan.places[2]

    @property
    def code(self) -> Tensor:
        """A number for each pair, in the order of sequence, query, key."""
        return self.plan.edge_index[1] * self.shape[3] + self.key

    def with_bias(self, bias: Tensor | None) -> Pairs:
        """The same pairs with a bias for each."""
        return replace(self, bias=bias)

    def alone(self) -> Pairs:
        """These pairs for all heads."""
        return replace(self, heads=(), rest=None)

    def union(self) -> Pairs:
        """The pairs that some head uses."""
        return self if self.rest is None else self._union

    @lazy
    def _union(self) -> Pairs:
        assert self.rest is not None  # checked by the caller
        num_keys = self.shape[3]
        code = torch.cat([self.code, self.rest.code]).unique()
        query = code // num_keys
        key = query // self.shape[2] * num_keys + code % num_keys
        plan = plan_attention(
            torch.stack([key, query]),
            self.plan.size,
            backend=self.plan.backend if self.plan.forced else 'auto',
            num_graphs=self.plan.num_graphs,
        )
        return Pairs(plan, self.shape)


@dataclass(frozen=True)
class Vectors:
    """What one call of the attention function was given, after rotation.

    Attributes:
        query: ``[B, H, Q, D]``.
        key: ``[B, Hkv, K, D]``; its heads serve equal groups of queries.
        value: ``[B, Hkv, K, Dv]``.
    """

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class Call:
    """One call of the attention function, as graphs and recorders see it.

    Attributes:
        slot: State of the module that called.
        shape: ``(batch, heads, queries, keys)``.
        own: The pairs that the model's own mask allows.
        pairs: The pairs that attention runs on.
        attend: Runs attention over given pairs; returns the output and the
            weights ``[E, H]``.
        scale: Factor of the scores.
        vectors: Queries, keys and values; None where only scores are seen.
    """

    slot: Slot
    shape: tuple[int, int, int, int]
    own: Pairs
    pairs: Pairs
    attend: Callable[[Pairs], tuple[Tensor, Tensor]]
    scale: float = 1.0
    vectors: Vectors | None = None


class GraphSource(Protocol):
    """Gives the pairs that a call runs on, in place of the model's own."""

    def pairs(self, call: Call) -> Pairs:
        """Pairs of the rewired graph for this call."""
        ...


@dataclass(frozen=True)
class Rows:
    """Attention of some queries of a call, one after the other.

    Attributes:
        first: The first of the queries within the call.
        pairs: Their pairs; queries are counted from ``first``.
        alpha: Weights of the pairs ``[E, H]``.
    """

    first: int
    pairs: Pairs
    alpha: Tensor


# Rows come block by block, so that a recorder may keep less than all of them.
Recorder = Callable[[Call, Iterable[Rows]], None]
Observer = Callable[[Call], None]


@dataclass
class Shared:
    """State shared by all attention modules of one model.

    Attributes:
        architecture: Class name of the model, for messages.
        backend: Kernel that all graphs are run by, or ``'auto'``.
        weights_for: The module whose caller asked for attention weights.
        conv: The message-passing layer; it has no weights of its own.
        cache: Pairs of the masks seen last, with the masks.
        frames: Frames that layers had last, by kind of layer.
    """

    architecture: str
    backend: str = 'auto'
    weights_for: nn.Module | None = None
    conv: AttentionConv = field(default_factory=AttentionConv)
    cache: list[tuple[Any, Any, Pairs]] = field(default_factory=list)
    frames: dict[Any, Frame] = field(default_factory=dict)

    def check_thread(self) -> None:
        """Lets one thread at a time run a rewired model.

        Raises:
            RuntimeError: In any other than the first since the rewiring.
        """
        here = threading.get_ident()
        if self.__dict__.setdefault('thread', here) != here:
            raise RuntimeError(
                f"Expected a rewired '{self.architecture}' to be run by one "
                f'thread (got another one): what a layer has seen of its KV '
                f'cache is kept on the model. Copy the model for each thread.'
            )

    def forget_thread(self) -> None:
        """Lets another thread run the model."""
        self.__dict__.pop('thread', None)

    def cached(self, mask: Tensor | None, key: tuple[Any, ...]) -> Pairs | None:
        """Pairs found earlier for the very same mask tensor, unchanged."""
        if torch._C._are_functorch_transforms_active():
            return None
        for reference, cached_key, pairs in self.cache:
            if mask is None:
                same = reference is None
            else:
                same = reference is not None and reference() is mask
            if same and cached_key == (*key, _version(mask)):
                return pairs
        return None

    def remember(
        self, mask: Tensor | None, key: tuple[Any, ...], pairs: Pairs
    ) -> None:
        """Keeps the pairs of a mask as long as few others come after it."""
        # What is made inside of a transform must not outlive it.
        if torch._C._are_functorch_transforms_active():
            return
        reference = None if mask is None else weakref.ref(mask)
        entry = (reference, (*key, _version(mask)), pairs)
        # A model has two or three kinds of masks in one forward.
        self.cache = [entry, *self.cache[:3]]

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        """A copied model starts with an empty cache."""
        copied = Shared(self.architecture, self.backend)
        memo[id(self)] = copied
        return copied


def _version(mask: Tensor | None) -> int:
    if mask is None or mask.is_inference():
        return 0
    return mask._version


@dataclass
class Slot:
    """State of one attention module.

    Attributes:
        name: Name of the module within the model.
        layer: Number of the layer in the model.
        shared: State of the whole model.
        cross: Whether keys come from another sequence (cross-attention).
        frame: Position of the running call, set by the module's pre-hook.
        source: The graph to run on; None for the model's own.
        exact: Pairs to run on whatever the mask says; None for the mask's.
        recorder: Called with every call and the weights of its rows.
        observer: Called with every call; no weights are computed for it.
    """

    name: str
    layer: int
    shared: Shared
    cross: bool = False
    frame: Frame = field(default_factory=Frame)
    source: GraphSource | None = None
    exact: Pairs | None = None
    recorder: Recorder | None = None
    observer: Observer | None = None


def get_slot(module: nn.Module) -> Any:
    """The slot of a module, or None."""
    return module.__dict__.get(_ATTRIBUTE)


def set_slot(module: nn.Module, slot: Any) -> None:
    """Puts a slot on a module; plain state, neither buffer nor submodule."""
    module.__dict__[_ATTRIBUTE] = slot


def remove_slot(module: nn.Module) -> None:
    """Takes the slot off a module."""
    module.__dict__.pop(_ATTRIBUTE, None)


def slots_of(model: nn.Module) -> dict[nn.Module, Slot]:
    """All slots of a model, in the order of its layers."""
    found = {m: get_slot(m) for m in model.modules() if get_slot(m)}
    return dict(sorted(found.items(), key=lambda item: item[1].layer))


def self_attention_slots(
    model: nn.Module, layers: Sequence[int] | None = None
) -> dict[nn.Module, Slot]:
    """The slots of the chosen self-attention layers of a converted model.

    Raises:
        ValueError: If a layer does not exist, or none is chosen.
    """
    slots = {m: s for m, s in slots_of(model).items() if not s.cross}
    if layers is None:
        return slots
    numbers = [slot.layer for slot in slots.values()]
    # Counted from the end as in a list, where layers are numbered through.
    chosen = {numbers[n] if -len(numbers) <= n < 0 else n for n in layers}
    missing = sorted(chosen - set(numbers))
    if missing or not chosen:
        raise ValueError(
            f"Expected 'layers' to choose from the attention layers {numbers} "
            f'(got {list(layers)}).'
        )
    return {m: s for m, s in slots.items() if s.layer in chosen}


def _cache_layer(module: nn.Module, kwargs: dict[str, Any]) -> int:
    """The layer of the cache that a module is about to use."""
    # A module that is shared by several layers is told which one it is.
    layer = kwargs.get('layer_idx')
    if layer is None:
        layer = getattr(module, 'layer_idx', getattr(module, 'layer_id', None))
    # One that is run in cycles has a layer of the cache for each.
    return (layer or 0) + (kwargs.get('cycle_offset') or 0)


def set_frame(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Forward pre-hook: reads the cache's offsets before the layer updates it.

    The attention function sees keys only; that the first of them is not the
    first token of the sequence (sliding-window caches), or that the last are
    not filled yet (static caches), only the cache can tell.
    """
    slot = get_slot(module)
    if slot is None:
        return
    if slot.source is not None and not torch.compiler.is_compiling():
        slot.shared.check_thread()
    # Its keyword has several names.
    given = (*kwargs.values(), *args)
    cache = next((x for x in given if isinstance(x, Cache)), None)
    cache = getattr(cache, 'self_attention_cache', cache)
    layer = _cache_layer(module, kwargs)
    kind = getattr(module, 'layer_type', None)
    if getattr(module, 'is_kv_shared_layer', False):
        # It attends to the keys of the last layer of its kind that has some.
        slot.frame = slot.shared.frames.get(kind, Frame())
        return
    if cache is None or slot.cross:
        slot.frame = slot.shared.frames[kind] = Frame()
        return
    hidden = kwargs['hidden_states'] if 'hidden_states' in kwargs else args[0]
    first, first_key = cache_offsets(cache, hidden.shape[1], layer)
    slot.frame = slot.shared.frames[kind] = Frame(first, first_key, layer)
