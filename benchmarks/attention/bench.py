"""The lines of the benchmark that set one kernel beside one peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Any, TypeAlias

import torch
from attention.graphs import expander, sparse_digraph
from attention.measure import Clock, bound, bounds, inputs, trained
from attention.peers import (
    OursAsTransformerConv,
    message_passing,
    sdpa,
    torch_scatter_passing,
)
from torch import Tensor
from torch_geometric.nn import TransformerConv

from gnnbridge.nn import AttentionConv, plan_attention

HEADS, WIDTH = 12, 64


class Bench:
    """Makes the lines of the table."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.dtype = torch.float32 if device == 'cpu' else torch.bfloat16
        self.clock = Clock(device)
        self.conv = AttentionConv()
        self.rates = bounds(device, self.dtype)

    def against(
        self,
        edge_index: Tensor | str,
        nodes: int,
        peer: Callable[..., Tensor],
        *,
        backward: bool,
        backend: str = 'auto',
        shape: tuple[int, int] = (HEADS, WIDTH),
    ) -> dict[str, Any]:
        """One kernel beside one peer; ``shape`` is (heads, width)."""
        tensors = inputs(nodes, *shape, self.device, self.dtype)
        if isinstance(edge_index, Tensor):
            edge_index = edge_index.to(self.device)
        size = (nodes, nodes)
        plan = plan_attention(edge_index, size).to(self.device)
        if backend != 'auto':
            plan = plan_attention(plan.edge_index, size, backend=backend)

        def ours(*given: Tensor) -> Tensor:
            out = self.conv(*given, plan)
            assert isinstance(out, Tensor)
            return out

        with torch.no_grad():
            error = (ours(*tensors).float() - peer(*tensors).float()).abs()
        if backward:
            row = self.clock.pair(
                trained(ours, tensors), trained(peer, tensors)
            )
        else:
            with torch.no_grad():
                row = self.clock.pair(
                    lambda: ours(*tensors), lambda: peer(*tensors)
                )
        limit = bound(
            self.rates, plan.num_edges, nodes, *shape,
            self.dtype.itemsize, backward,
        )  # fmt: skip
        gathered = 2 * plan.num_edges * math.prod(shape) * self.dtype.itemsize
        return {
            **row,
            'backend': plan.backend,
            'edges': plan.num_edges,
            'largest_difference': float(error.max()),
            'bound_s': limit,
            'share_of_bound': limit / row['ours_s'],
            # A key and a value for every edge, if no cache held any.
            'gather_s': gathered / self.rates['bytes_per_s'],
        }

    def projections(
        self, conv: TransformerConv, x: Tensor, backward: bool
    ) -> float:
        """What the four products of a layer take, that both sides need."""
        layers = conv.lin_query, conv.lin_key, conv.lin_value, conv.lin_skip
        leaf = x.clone().requires_grad_(backward)

        def run() -> None:
            with torch.set_grad_enabled(backward):
                outs = [layer(leaf) for layer in layers]
            if backward:
                ones = [torch.ones_like(out) for out in outs]
                torch.autograd.grad(outs, [leaf], ones)

        return median(self.clock.once(run) for _ in range(7))

    def planning(self, edge_index: Tensor, nodes: int, **shape: int) -> Any:
        """Planning a graph beside one forward pass over it."""
        heads, width = shape.get('heads', HEADS), shape.get('width', WIDTH)
        edge_index = edge_index.to(self.device)
        tensors = inputs(nodes, heads, width, self.device, self.dtype)
        plan = plan_attention(edge_index, (nodes, nodes))
        # A copy is a graph that was never seen.
        return self.clock.pair(
            lambda: plan_attention(edge_index.clone(), (nodes, nodes)),
            lambda: self.conv(*tensors, plan),
            seconds=6.0,
        )


Line: TypeAlias = Callable[[Bench], Any]


def mask_of(edge_index: Tensor, nodes: int) -> Tensor:
    """The dense mask of a graph."""
    return plan_attention(edge_index, (nodes, nodes)).mask[0]


def causal(nodes: int, backward: bool) -> Line:
    """A full causal graph beside torch's causal kernel."""
    return lambda bench: bench.against(
        'causal', nodes, lambda *x: sdpa(*x, is_causal=True), backward=backward
    )


def dense_mask(
    graph: Callable[[int], Tensor],
    nodes: int,
    backward: bool,
    backend: str = 'auto',
) -> Line:
    """A sparse graph beside torch's kernel with its mask."""

    def line(bench: Bench) -> Any:
        edge_index = graph(nodes).to(bench.device)
        mask = mask_of(edge_index, nodes)
        return bench.against(
            edge_index,
            nodes,
            lambda *x: sdpa(*x, attn_mask=mask),
            backward=backward,
            backend=backend,
        )

    return line


def gather_scatter(
    peer: str,
    graph: Callable[[int], Tensor],
    nodes: int,
    *,
    backward: bool = False,
    shape: tuple[int, int] = (HEADS, WIDTH),
) -> Line:
    """A sparse graph beside gather, softmax and scatter."""

    def line(bench: Bench) -> Any:
        edge_index = graph(nodes).to(bench.device)
        return bench.against(
            edge_index, nodes, lambda *x: PEERS[peer](*x, edge_index),
            backward=backward, shape=shape,
        )  # fmt: skip

    return line


@cache
def transformer_conv(heads: int, width: int) -> TransformerConv:
    """A layer whose message passing is run; its projections are not."""
    return TransformerConv(heads * width, width, heads=heads)


def propagate(
    query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor
) -> Tensor:
    """The message passing of PyG's TransformerConv, on given projections."""
    return transformer_conv(*query.shape[1:]).propagate(
        edge_index, query=query, key=key, value=value, edge_attr=None
    )


PEERS = {
    'pyg': message_passing,
    'torch_scatter': torch_scatter_passing,
    'transformer_conv': propagate,
}


def gnn(backward: bool) -> Line:
    """PyG's whole TransformerConv on a large sparse graph."""

    def line(bench: Bench) -> Any:
        torch.manual_seed(0)
        edge_index = sparse_digraph().to(bench.device)
        peer = TransformerConv(128, 32, heads=4).to(bench.device)
        ours = OursAsTransformerConv(peer)
        plan = plan_attention(edge_index, (100_000, 100_000))
        x = torch.randn(100_000, 128, device=bench.device)
        with torch.no_grad():
            error = (ours(x, plan) - peer(x, edge_index)).abs().max()
        if backward:
            row = bench.clock.pair(
                trained(lambda y: ours(y, plan), [x]),
                trained(lambda y: peer(y, edge_index), [x]),
                seconds=40.0,
            )
        else:
            with torch.no_grad():
                row = bench.clock.pair(
                    lambda: ours(x, plan), lambda: peer(x, edge_index),
                    seconds=25.0,
                )  # fmt: skip
        return {
            **row, 'backend': plan.backend, 'edges': plan.num_edges,
            'largest_difference': float(error),
            'projections_s': bench.projections(peer, x, backward),
        }  # fmt: skip

    return line


def growth(bench: Bench) -> Any:
    """Times of an expander with a window as it grows."""
    rows = []
    for nodes in (2048, 4096, 8192, 16384):
        edge_index = expander(nodes).to(bench.device)
        plan = plan_attention(edge_index, (nodes, nodes))
        tensors = inputs(nodes, HEADS, WIDTH, bench.device, bench.dtype)
        both = trained(lambda *x, plan=plan: bench.conv(*x, plan), tensors)
        with torch.no_grad():
            ours = lambda tensors=tensors, plan=plan: bench.conv(*tensors, plan)  # noqa: E731
            forward = sorted(bench.clock.once(ours) for _ in range(6))[2]
        backward = sorted(bench.clock.once(both) for _ in range(4))[1]
        rows.append(
            {
                'tokens': nodes,
                'edges': plan.num_edges,
                'backend': plan.backend,
                'forward_s': forward,
                'forward_backward_s': backward,
            }
        )
    size = torch.tensor([row['edges'] for row in rows]).log()
    slopes = {}
    for name in ('forward_s', 'forward_backward_s'):
        spent = torch.tensor([row[name] for row in rows]).log()
        centred = size - size.mean()
        slopes[name] = float((centred * spent).sum() / centred.square().sum())
    return {'rows': rows, 'exponent': slopes}


def planning(graph: Callable[[], Tensor], nodes: int, **shape: int) -> Line:
    """Planning a graph beside one forward pass over it."""
    return lambda bench: bench.planning(graph(), nodes, **shape)


def full_causal_list(tokens: int) -> Tensor:
    """All edges of a causal graph, listed."""
    return plan_attention('causal', (tokens, tokens)).edge_index
