"""The graphs of one layer, made while a model runs."""

from __future__ import annotations

import threading
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
from gnnbridge.models.pairs import check_heads, seen_keys
from gnnbridge.models.slots import Call, Rows, Slot, Vectors


@dataclass
class Record:
    """Collects the graphs of one layer, one per sequence."""

    slot: Slot
    token_id: Tensor | None
    heads: Sequence[int] | None
    thinning: dict[str, Any]
    values: bool = False
    graphs: list[Data] = field(default_factory=list)
    real: list[Tensor] = field(default_factory=list)
    handed_over: bool = False
    thread: int = field(default_factory=threading.get_ident)

    def __call__(self, call: Call, rows: Iterable[Rows]) -> None:
        """Makes the graphs of a call, the first one if there are several."""
        if self.graphs or self.handed_over:
            return
        if self.thread != threading.get_ident():  # somebody else's run
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
        if self.values and call.vectors is not None:
            self._add_vectors(call.vectors, heads)

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

    def _add_vectors(
        self, vectors: Vectors, heads: Sequence[int] | None
    ) -> None:
        """Adds the sizes of values and keys, and the angles to the first key.

        All are ``[N, H]``: a key that serves several queries counts for each.
        """
        query = vectors.query.float()
        groups = query.size(1) // vectors.key.size(1)
        rows = torch.arange(len(self.real), device=query.device)
        first = torch.stack([real.long().argmax() for real in self.real])
        first_key = vectors.key[rows, :, first].float()
        found = {
            name: x.float().norm(dim=-1).repeat_interleave(groups, dim=1)
            for name, x in (
                ('value_norm', vectors.value),
                ('key_norm', vectors.key),
            )
        }
        found['query_key_cosine'] = torch.cosine_similarity(
            query,
            first_key.repeat_interleave(groups, dim=1).unsqueeze(2),
            dim=-1,
        )
        for name, of_heads in found.items():
            if heads is not None:
                of_heads = of_heads[:, heads]
            for graph, real, own in zip(
                self.graphs, self.real, of_heads, strict=True
            ):
                graph[name] = own[:, real].T.contiguous()

    def finish(
        self,
        watch: BlockWatch | None,
        device: torch.device | str | None,
        on_layer: Callable[[Data], None] | None,
    ) -> None:
        """Completes the graphs when the block around the layer has run."""
        if self.thread != threading.get_ident():
            return
        if watch is not None:
            self._add_states(watch)
        if device is not None:
            self.graphs = [graph.to(device) for graph in self.graphs]
        if on_layer is not None and self.graphs:
            graph = self.result()
            assert graph is not None  # it is handed over just now
            self.graphs, self.real, self.handed_over = [], [], True
            on_layer(graph)

    def _add_states(self, watch: BlockWatch) -> None:
        """Adds what the block around the layer showed."""
        shape = (len(self.real), self.real[0].numel()) if self.real else ()
        for name, value in (('x', watch.states), ('mixing', watch.mixing)):
            # Streams of several vectors may have another shape.
            if value is None or value.shape[:2] != shape:
                continue
            for graph, real, own in zip(
                self.graphs, self.real, value, strict=True
            ):
                if name not in graph:  # else a block that is run again
                    graph[name] = own[real]
        watch.states = watch.mixing = None

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
def recording(
    model: PreTrainedModel,
    records: dict[nn.Module, Record],
    hidden_states: bool,
    device: torch.device | str | None,
    on_layer: Callable[[Data], None] | None,
) -> Iterator[None]:
    """Lets records listen to their layers for the time of one forward pass."""
    if any(record.slot.recorder is not None for record in records.values()):
        raise RuntimeError(
            f"Expected '{type(model).__name__}' to be captured by one thread "
            f'at a time (got another one that is not done).'
        )
    watches: list[BlockWatch] = []
    handles = []
    for module, record in records.items():
        record.slot.recorder = record
        _, block = find_block(model, record.slot.name)
        watch = None
        if hidden_states and block is not None:
            watch = BlockWatch(block, module)
            watches.append(watch)

        def finish(
            block: nn.Module,
            args: Any,
            output: Any,
            record: Record = record,
            watch: BlockWatch | None = watch,
        ) -> None:
            record.finish(watch, device, on_layer)

        handles.append((block or module).register_forward_hook(finish))
    try:
        yield
    finally:
        for record in records.values():
            record.slot.recorder = None
        for found in watches:
            found.remove()
        for handle in handles:
            handle.remove()
