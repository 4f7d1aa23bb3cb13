"""Running a model's attention on another graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform
from transformers import PreTrainedModel

from gnnbridge.models.convert import Mode, converted
from gnnbridge.models.slots import GraphSource, Slot, self_attention_slots
from gnnbridge.models.sources import (
    ComputedGraph,
    GivenGraph,
    Rule,
)
from gnnbridge.models.static_graph import (
    StaticGraph,
    is_static,
    sets_only_weights,
)

OneRewiring: TypeAlias = (
    BaseTransform | Data | Tensor | Callable[[int, Data], Data]
)
Rewiring: TypeAlias = OneRewiring | Mapping[int, OneRewiring]


@contextmanager
def rewire(
    model: PreTrainedModel,
    what: Rewiring,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    mode: Mode = 'messages',
) -> Iterator[PreTrainedModel]:
    """Lets the attention of a model run on a rewired graph inside a context.

    The graph says which keys each query attends to; attention is computed
    anew over these edges, with the model's own queries, keys and values. A
    query left without edges gets zeros. ``generate()`` works inside, with any
    KV cache, and equals a full forward pass on the same graph. Nodes are
    tokens: left padding is not counted.

    Args:
        model: A model of ``transformers``; it need not be converted.
        what: A graph (``Data``, or an ``edge_index [2, E]``) over the first
            tokens, tokens past its end keep the model's own edges; or a PyG
            transform, or a function ``(layer, Data) -> Data``. Transforms and
            functions are called for each sequence at each forward pass with
            the graph of all tokens so far: the edges of the model's own mask,
            ``edge_attr [E, H]`` and ``edge_weight [E]`` with the attention on
            them for this very input, ``position``, ``layer`` and
            ``num_heads``. Only the edges of what they return are used.
            Transforms of :mod:`gnnbridge.transforms` that look at nothing but
            edges (``static``) are run once for each length of a sequence and
            see no attention. A graph may say which heads use which edge:
            ``edge_heads [E, H]``, bool. Or a mapping from layers to any of
            these; the other layers keep their own graphs.
        layers: Layers to rewire, all by default.
        heads: Heads to rewire, all by default; the others keep their edges.
        mode: ``'mask'`` for architectures that :func:`gnnbridge.convert`
            refuses otherwise: the same numbers by dense attention, in place
            of message passing. A model that is converted keeps its mode.

    Yields:
        The model. On leaving the context it is as it was.

    Raises:
        TypeError: If ``what`` is none of these.
        ValueError: If a layer, a head or an edge does not exist, a transform
            changes nothing but weights, or, at the
            forward pass, if the graph has an edge that the layer's mask
            forbids (a later token in a decoder, one outside its window).
        NotImplementedError: If the model cannot be converted, or trains with
            activation checkpointing, whose backward pass would run the layers
            again after the context has ended.
    """
    # The public name of this flag is changing in transformers.
    if model.training and any(
        getattr(module, 'gradient_checkpointing', False)
        for module in model.modules()
    ):
        raise NotImplementedError(
            'Expected a model without activation checkpointing (got one that '
            'recomputes its layers in the backward pass, outside of this '
            'context). Disable checkpointing first.'
        )
    make_source = _by_layer(what, layers, heads)
    with converted(model, mode):
        if isinstance(what, Mapping):
            layers = list(what)
        slots = list(self_attention_slots(model, layers).values())
        before = [slot.source for slot in slots]
        for slot in slots:
            slot.source = make_source(slot)
            slot.shared.forget_thread()
        try:
            yield model
        finally:
            slots[0].shared.forget_thread()
            for slot, source in zip(slots, before, strict=True):
                slot.source = source


def _by_layer(
    what: Any, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> Callable[[Slot], GraphSource]:
    """A maker of the graph source of each layer."""
    if not isinstance(what, Mapping):
        make = _sources(what, heads)
        return lambda slot: make()
    if layers is not None:
        raise ValueError(
            f"Expected no 'layers' beside a mapping from layers to graphs "
            f'(got {list(layers)}).'
        )
    if negative := [layer for layer in what if layer < 0]:
        raise ValueError(
            f'Expected layers counted from 0 in a mapping (got {negative}).'
        )
    makers = {layer: _sources(one, heads) for layer, one in what.items()}
    return lambda slot: makers[slot.layer]()


def _sources(
    what: Any, heads: Sequence[int] | None
) -> Callable[[], GraphSource]:
    """A maker of graph sources: computed graphs differ from layer to layer."""
    if isinstance(what, Tensor):
        num_nodes = int(what.max()) + 1 if what.numel() > 0 else 0
        what = Data(edge_index=what, num_nodes=num_nodes)
    if isinstance(what, Data):
        given = GivenGraph(Rule.of(what), heads)
        return lambda: given
    if isinstance(what, BaseTransform):
        transform = what
        if sets_only_weights(transform):
            raise ValueError(
                f'Expected a transform that changes edges (got {transform!r}, '
                f'which changes weights: attention is computed anew on the '
                f'edges). Let it add edges, or use another.'
            )
        if is_static(transform):
            static = StaticGraph(transform, heads)
            return lambda: static
        return lambda: ComputedGraph(lambda _, data: transform(data), heads)
    if callable(what):
        function = what
        return lambda: ComputedGraph(function, heads)
    raise TypeError(
        f'Expected a PyG transform, a Data, an edge_index or a function '
        f"(layer, Data) -> Data (got '{type(what).__name__}')."
    )
