"""Differential attention with history, one row after the other.

Written with none of the means of the layer: dense maps, Python loops over
rows and heads, sums as they stand in the formulas.
"""

from __future__ import annotations

import torch

from gnnbridge.graph import (
    causal_graph,
    complete_graph,
    dilated_graph,
    sliding_window_graph,
)
from gnnbridge.nn import (
    AttentionHistory,
    DifferentialAttentionConv,
    naive_attention,
)

HEADS = 4
# Kinds of history that come from earlier rows.
ROWS = ('decay', 'runway')
KINDS = (*ROWS, 'layer')
GRAPHS = {
    'causal': lambda n: causal_graph(n).edge_index,
    'window': lambda n: sliding_window_graph(n, 3, sinks=1).edge_index,
    'dilated': lambda n: dilated_graph(n, 3, 2).edge_index,
    'full': lambda n: complete_graph(n).edge_index,
}


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(dtype)


def tensors(queries, heads, kv_heads, *, keys=None, seed=0, dtype=None):
    """Queries and keys of width 5, values of width 10."""
    dtype = torch.float64 if dtype is None else dtype
    keys = queries if keys is None else keys
    return [
        draw(queries, 2 * heads, 5, seed=seed + 1, dtype=dtype).mul_(2),
        draw(keys, 2 * kv_heads, 5, seed=seed + 2, dtype=dtype),
        draw(keys, kv_heads, 10, seed=seed + 3, dtype=dtype),
    ]


def randomised(conv, seed=0):
    """A layer with vectors of lambda and gains that are far from the first."""
    with torch.no_grad():
        for n, parameter in enumerate(conv.parameters()):
            # Shares of history stay where the test wants them.
            if parameter.numel() != conv.heads or n < 4:
                parameter.copy_(draw(*parameter.shape, seed=seed + n) * 0.4)
    return conv


def layer(kind, *, of='second', rho=0.37, decay=0.8, heads=HEADS):
    history = kind
    if kind is not None:
        history = AttentionHistory(kind, heads, of=of, rho=rho, decay=decay)
    conv = DifferentialAttentionConv(5, heads, layer=2, history=history)
    return randomised(conv.double())


def spread(history):
    """Different shares for different heads."""
    with torch.no_grad():
        for n, parameter in enumerate(history.parameters()):
            parameter.copy_(draw(history.heads, seed=40 + n))


def below(kind, nodes, kv_heads=2, dtype=None):
    """Queries and keys of the layer below, where they are needed."""
    if kind != 'layer':
        return None
    return tuple(tensors(nodes, HEADS, kv_heads, seed=50, dtype=dtype)[:2])


def maps_of(query, key, edge_index, edge_bias=None):
    """The two maps ``[H, Nq, Nk]``."""
    value = torch.ones(key.size(0), key.size(1) // 2, 1, dtype=query.dtype)
    bias = {'edge_bias': edge_bias if edge_index.numel() else None}
    (q1, q2), (k1, k2) = query.chunk(2, 1), key.chunk(2, 1)
    return (
        naive_attention(q1, k1, value, edge_index, **bias)[1],
        naive_attention(q2, k2, value, edge_index, **bias)[1],
    )


def visible(edge_index, queries, keys, heads, edge_bias=None):
    """Which pairs a head may use ``[H, Nq, Nk]``."""
    mask = torch.zeros(heads, queries, keys, dtype=torch.bool)
    on = torch.ones(edge_index.size(1), heads, dtype=torch.bool)
    if edge_bias is not None:
        off = edge_bias == -torch.inf
        on = on & ~(off.unsqueeze(-1) if off.dim() == 1 else off)
    mask[:, edge_index[1], edge_index[0]] = on.t()
    return mask


def history_row(kind, source, i, decay):
    """The history of row ``i`` of one head ``[Nk]``, before normalisation."""
    if kind == 'layer':
        return source[i]
    rows = [
        (1 - decay) * decay ** (i - 1 - m) * source[m]
        if kind == 'decay'
        else source[m]
        for m in range(i)
    ]
    return sum(rows) if rows else torch.zeros_like(source[0])


def subtracted(history, second, source, mask):
    """The map that is subtracted ``[H, Nq, Nk]``, row by row."""
    heads, queries, _ = second.shape
    rows = []
    for h in range(heads):
        rho, decay = history.rho[h], history.decay[h]
        for i in range(queries):
            past = history_row(history.kind, source[h], i, decay)
            past = past * mask[h, i]
            mass = past.sum()
            past = second[h, i] if mass == 0 else past / mass
            mixed = (1 - rho) * second[h, i] + rho * past
            total = mixed.sum()
            rows.append(mixed / total if total > 0 else mixed)
    return torch.stack(rows).view_as(second)


def twin(conv, query, key, value, edge_index, *, edge_bias=None, previous=None):
    """Output ``[Nq, H, Dv]`` and the maps ``[H, Nq, Nk]`` of a layer."""
    heads = conv.heads
    first, second = maps_of(query, key, edge_index, edge_bias)
    history = conv.history
    if history is not None and (previous is not None or history.of_rows):
        mask = visible(edge_index, query.size(0), key.size(0), heads, edge_bias)
        pair = (first, second)
        if previous is not None:
            pair = maps_of(*previous, edge_index, edge_bias)
        source = pair[history.of == 'second']
        second = subtracted(history, second, source, mask)
    q1, k1, q2, k2 = (
        getattr(conv, f'lambda_{name}') for name in ('q1', 'k1', 'q2', 'k2')
    )
    factor = (q1 * k1).sum().exp() - (q2 * k2).sum().exp() + conv.lambda_init
    signed = first - factor * second
    groups = heads // value.size(1)
    out = torch.stack(
        [signed[h] @ value[:, h // groups] for h in range(heads)], dim=1
    )
    square = out.square().mean(dim=-1, keepdim=True)
    out = out / (square + conv.norm.eps).sqrt() * (1 - conv.lambda_init)
    if conv.norm.weight is not None:
        out = out * conv.norm.weight
    return out, (signed, first, second)
