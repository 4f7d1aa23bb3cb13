"""One token graph per attention layer of a running model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from transformers import PreTrainedModel

from gnnbridge.graph.sparsify import sparsify
from gnnbridge.models.blocks import BlockWatch, find_block
from gnnbridge.models.convert import converted
from gnnbridge.models.pairs import check_heads, seen_keys
from gnnbridge.models.slots import Call, Rows, Slot, self_attention_slots
from gnnbridge.models.support import evaluation_mode


def capture(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    top_k: int | None = None,
    threshold: float | None = None,
    hidden_states: bool = True,
    device: torch.device | str | None = None,
    on_layer: Callable[[Data], None] | None = None,
    **model_inputs: Any,
) -> list[Data]:
    r"""Runs a model once and returns the token graph of each attention layer.

    The model runs as it is loaded by default, converted or not, in evaluation
    mode and without gradients; it is left as it was. Each layer's attention
    is turned into its graph, and thinned out if asked, as soon as the layer
    has run: never more than one layer's full attention is held beyond what
    is returned.

    Args:
        model: A model of ``transformers``.
        input_ids: Token ids :obj:`[T]` or :obj:`[B, T]` (pixel values for
            image models).
        attention_mask: Padding mask :obj:`[B, T]`, 1 for real tokens. Padding
            becomes no node, and positions count real tokens from 0.
        layers: Layers to return, all by default; negative numbers count from
            the end.
        heads: Heads to return, all by default.
        top_k: Keep this many of the heaviest edges of each query.
        threshold: Keep edges whose weight is at least this.
        hidden_states: Whether to return ``x`` and ``mixing``.
        device: Where to put the graphs; the model's device by default.
        on_layer: Called with each layer's graph as soon as the layer has run;
            the graphs are then not kept, and the list that is returned is
            empty.
        **model_inputs: Further inputs of the model, such as
            ``decoder_input_ids``; without these an encoder-decoder runs its
            encoder only.

    Returns:
        One :class:`torch_geometric.data.Data` per layer (a
        :class:`torch_geometric.data.Batch` for several sequences) with
        ``edge_index [2, E]`` int64, row 0 the key and row 1 the query, sorted
        by query then key; ``edge_attr [E, H]`` float32, attention per head;
        ``edge_weight [E]``, its mean over the heads; ``position [N]``;
        ``token_id [N]``; ``layer``; ``num_heads``; with ``hidden_states`` also
        ``x [N, d]``, the state entering the block, and ``mixing [N]``, the
        share of attention in the residual stream
        :math:`\lVert a_i \rVert / (\lVert x_i \rVert + \lVert a_i \rVert)`
        (Herasimchyk et al. 2026, https://arxiv.org/abs/2602.16837, per token);
        with ``top_k`` or ``threshold`` also ``discarded_mass [N]``. Learned
        sinks leave the sum of a row below one. A layer that attends twice
        (DiffLlama) gives its first call, whose heads hold both maps.

    Raises:
        ValueError: If the inputs do not fit, or a layer or head does not
            exist.
        NotImplementedError: If the model cannot be converted.
    """
    if top_k is not None and threshold is not None:
        raise ValueError(
            f"Expected at most one of 'top_k' and 'threshold' (got {top_k} and "
            f'{threshold}).'
        )
    inputs = _inputs(model, input_ids, attention_mask, model_inputs)
    thinning = {'top_k': top_k, 'threshold': threshold}
    if top_k is None and threshold is None:
        thinning = {}
    with converted(model, None), evaluation_mode(model), torch.no_grad():
        runner = _runner(model, inputs)
        chosen = self_attention_slots(runner, layers)
        records = {
            module: _Record(slot, inputs.get('input_ids'), heads, thinning)
            for module, slot in chosen.items()
        }
        with _recording(model, records, hidden_states, device, on_layer):
            runner(**inputs)
    results = [record.result() for record in records.values()]
    return results if on_layer is None else []


@dataclass
class _Record:
    """Collects the graphs of one layer, one per sequence."""

    slot: Slot
    token_id: Tensor | None
    heads: Sequence[int] | None
    thinning: dict[str, Any]
    graphs: list[Data] = field(default_factory=list)
    real: list[Tensor] = field(default_factory=list)
    handed_over: bool = False

    def __call__(self, call: Call, rows: Iterable[Rows]) -> None:
        if self.graphs or self.handed_over:
            return
        num_sequences, num_heads, num_queries, num_keys = call.shape
        heads = None
        if self.heads is not None:
            heads = check_heads(self.heads, num_heads)
        # What the model's own mask shows to no query is padding.
        is_real = seen_keys(call.own)
        if num_queries != num_keys:
            raise ValueError(
                f'Expected a model run without a KV cache (got {num_queries} '
                f'queries and {num_keys} keys in layer {self.slot.layer}).'
            )
        parts: list[list[Data]] = [[] for _ in range(num_sequences)]
        for some in rows:
            if heads is not None:
                some = replace(some, alpha=some.alpha[:, heads])
            for sequence, real in enumerate(is_real):
                parts[sequence].append(self._edges(some, sequence, real))
        for sequence, real in enumerate(is_real):
            self.real.append(real)
            self.graphs.append(self._graph(parts[sequence], sequence, real))

    def _edges(self, rows: Rows, sequence: int, real: Tensor) -> Data:
        """The edges of some rows, thinned out: all of a row is in one part."""
        pairs, node = rows.pairs, real.cumsum(0) - 1
        query = pairs.query + rows.first
        used = (pairs.batch == sequence) & real[query] & real[pairs.key]
        alpha = rows.alpha[used]
        part = Data(
            edge_index=torch.stack([node[pairs.key[used]], node[query[used]]]),
            edge_weight=alpha.mean(dim=1),
            edge_attr=alpha,
            num_nodes=int(real.sum()),
        )
        return sparsify(part, **self.thinning) if self.thinning else part

    def _graph(self, parts: list[Data], sequence: int, real: Tensor) -> Data:
        graph = Data(
            edge_index=torch.cat([part.edge_index for part in parts], dim=1),
            edge_weight=torch.cat([part.edge_weight for part in parts]),
            edge_attr=torch.cat([part.edge_attr for part in parts]),
            position=torch.arange(int(real.sum()), device=real.device),
            layer=self.slot.layer,
            num_heads=parts[0].edge_attr.size(1),
            num_nodes=int(real.sum()),
        )
        if self.thinning:
            graph.discarded_mass = sum(part.discarded_mass for part in parts)
        ids = self.token_id
        if ids is not None and ids.size(1) == real.numel():
            graph.token_id = ids[sequence].to(real.device)[real]
        return graph

    def add_states(self, watch: BlockWatch) -> None:
        """Adds what the block around the layer showed."""
        if watch.states is None or watch.mixing is None:
            return
        for sequence, graph in enumerate(self.graphs):
            real = self.real[sequence]
            graph.x = watch.states[sequence][real]
            graph.mixing = watch.mixing[sequence][real]
        watch.states = watch.mixing = None

    def move(self, device: torch.device | str) -> None:
        """Moves the graphs to another device."""
        self.graphs = [graph.to(device) for graph in self.graphs]

    def hand_over(self, on_layer: Callable[[Data], None]) -> None:
        """Gives the graph away, once, and forgets it."""
        if not self.handed_over:
            on_layer(self.result())
            self.graphs, self.real, self.handed_over = [], [], True

    def result(self) -> Data | None:
        """The graph of the layer, or the batch of its sequences' graphs.

        None if it was handed over.
        """
        if self.handed_over:
            return None
        if not self.graphs:
            raise RuntimeError(
                f"Expected layer {self.slot.layer} ('{self.slot.name}') to run "
                f'(got no call). Pass the model inputs that reach it.'
            )
        if len(self.graphs) == 1:
            return self.graphs[0]
        return Batch.from_data_list(self.graphs)


@contextmanager
def _recording(
    model: PreTrainedModel,
    records: dict[nn.Module, _Record],
    hidden_states: bool,
    device: torch.device | str | None,
    on_layer: Callable[[Data], None] | None,
) -> Iterator[None]:
    """Lets records listen to their layers for the time of one forward pass."""
    watches, handles = [], []
    for module, record in records.items():
        record.slot.recorder = record
        block = find_block(model, record.slot.name)[1]
        watch = BlockWatch(block, module) if hidden_states else None
        if watch is not None:
            watches.append(watch)

        def finish(
            block: nn.Module,
            args: Any,
            output: Any,
            record: _Record = record,
            watch: BlockWatch | None = watch,
        ) -> None:
            if watch is not None:
                record.add_states(watch)
            if device is not None:
                record.move(device)
            if on_layer is not None and record.graphs:
                record.hand_over(on_layer)

        handles.append(block.register_forward_hook(finish))
    try:
        yield
    finally:
        for record in records.values():
            record.slot.recorder = None
        for watch in watches:
            watch.remove()
        for handle in handles:
            handle.remove()


def _inputs(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    model_inputs: dict[str, Any],
) -> dict[str, Any]:
    name = getattr(model, 'main_input_name', 'input_ids')
    if name != 'input_ids':
        return {name: input_ids.to(model.device), **model_inputs}
    if input_ids.dim() == 1:
        input_ids = input_ids.unsqueeze(0)
    if input_ids.dim() != 2 or input_ids.numel() == 0:
        raise ValueError(
            f"Expected 'input_ids' of shape [T] or [B, T] with at least one "
            f'token (got {list(input_ids.shape)}).'
        )
    if attention_mask is None:
        # Without a mask, positions that do not simply count up would be taken
        # for several sequences packed into one.
        attention_mask = torch.ones_like(input_ids)
    if attention_mask.dim() == 1:
        attention_mask = attention_mask.unsqueeze(0)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"Expected 'attention_mask' of the shape of 'input_ids' "
            f'{list(input_ids.shape)} (got {list(attention_mask.shape)}).'
        )
    empty = (attention_mask == 0).all(dim=1)
    if empty.any():
        raise ValueError(
            f'Expected a real token in every sequence (got padding only in '
            f'sequence {int(empty.nonzero()[0, 0])}).'
        )
    return {
        'input_ids': input_ids.to(model.device),
        'attention_mask': attention_mask.to(model.device),
        **model_inputs,
    }


def _runner(model: PreTrainedModel, inputs: dict[str, Any]) -> Any:
    """The part of a model to run: no output head, no decoder without input."""
    if model.config.is_encoder_decoder:
        given = {'decoder_input_ids', 'decoder_inputs_embeds'} & set(inputs)
        return model if given else model.get_encoder()
    base = model.base_model
    has_all = len(self_attention_slots(base)) == len(
        self_attention_slots(model)
    )
    return base if has_all else model
