"""A static pattern for each head, from measured attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_size

# Scores of all heads at a time: bounds the memory.
_CHUNK = 1 << 22


def measured_pattern(
    graphs: Sequence[Data],
    edges_per_token: int,
    num_tokens: int,
    *,
    window: int = 2,
    sinks: int = 1,
) -> dict[int, Data]:
    r"""Shares a budget of edges among the layers and heads of a decoder.

    In layer :math:`l` the stream of token :math:`i` is :math:`(1 - \alpha_l)`
    itself and :math:`\alpha_l` attention, so :math:`\alpha_l A^{lh}_{ij}` is
    the conductance of an edge in the unrolled graph of the model (Theorem D
    of the theory page of :mod:`gnnbridge.spectral`, one step). Attention is
    averaged over the samples by distance, that to the first tokens apart, and
    each token gets the edges of largest conductance over all layers and
    heads: heads that look far get wide windows, and those that look at a sink
    next to nothing. Every head keeps a small window and the sinks.

    Args:
        graphs: One graph for each layer, as :func:`gnnbridge.capture` gives
            them, with attention by heads in ``edge_attr``; batches of several
            samples are welcome.
        edges_per_token: The mean number of edges of a token in a head.
        num_tokens: The length :math:`N` of the pattern, any.
        window: The window that every head keeps, the token itself included.
        sinks: The first tokens that every head sees.

    Returns:
        A graph for each layer, with ``edge_heads [E, H]``: what
        :func:`gnnbridge.rewire` takes. The rows of a longer pattern are those
        of a shorter one.

    Raises:
        ValueError: If there are no graphs, one has no attention by heads, or
            the budget is less than what every head keeps.
    """
    check_size('edges_per_token', edges_per_token)
    check_size('num_tokens', num_tokens)
    check_size('window', window)
    check_size('sinks', sinks, minimum=0)
    if edges_per_token < window + sinks:
        raise ValueError(
            f"Expected 'edges_per_token' to be at least window + sinks = "
            f'{window + sinks} (got {edges_per_token}).'
        )
    if len(graphs) == 0:
        raise ValueError('Expected a graph for each layer (got none).')
    profile = torch.stack([_profile(data, num_tokens) for data in graphs])
    layers, heads, _ = profile.shape
    chunk = max(_CHUNK // (layers * heads * num_tokens), 1)
    used = torch.cat(
        [
            _used(profile.flatten(0, 1), rows, edges_per_token, window, sinks)
            for rows in torch.arange(num_tokens).split(chunk)
        ]
    ).unflatten(1, (layers, heads))
    return {
        _layer(data, number): _graph(used[:, number])
        for number, data in enumerate(graphs)
    }


def _profile(data: Data, num_tokens: int) -> Tensor:  # shape: [H, N + 1]
    """Mean conductance by distance, and at the end that of the first token.

    Distances that no sample has get the mean of the farthest tenth of those
    that some have.
    """
    attention = data.get('edge_attr')
    if attention is None or attention.dim() != 2:
        raise ValueError(
            "Expected graphs with attention by heads in 'edge_attr' [E, H] "
            "(got one without). Use 'gnnbridge.capture'."
        )
    weight = attention.detach().double().cpu()
    if data.get('mixing') is not None:
        weight = weight * float(data.mixing.double().mean())
    source, target = data.edge_index.cpu()
    start = torch.zeros_like(source)
    ptr = torch.tensor([0, data.num_nodes])
    if data.get('batch') is not None:
        ptr = data.ptr.cpu()
        start = ptr[data.batch.cpu()[target]]
    distance, first = target - source, source == start
    later = first & (distance > 0)
    sizes = ptr.diff()
    size = max(num_tokens, int(sizes.max()))
    total = weight.new_zeros(size, weight.size(1))
    total = total.index_add(0, distance[~first], weight[~first])
    # Tokens with a key at a distance, the first token apart.
    count = (sizes - 1 - torch.arange(size).unsqueeze(1)).clamp(min=0).sum(1)
    mean = total / count.clamp(min=1).unsqueeze(1)
    seen = max(int((count > 0).sum()), 1)
    mean[seen:] = mean[seen - max(seen // 10, 1) : seen].mean(0)
    sink = weight[later].sum(0) / max(int((sizes - 1).sum()), 1)
    return torch.cat([mean[:num_tokens], sink.unsqueeze(0)]).T


def _used(
    profile: Tensor,  # shape: [K, N + 1]
    rows: Tensor,  # shape: [R]
    edges_per_token: int,
    window: int,
    sinks: int,
) -> Tensor:  # shape: [R, K, N]
    """Which keys each head of all layers uses in some rows."""
    num_tokens = profile.size(1) - 1
    key = torch.arange(num_tokens)
    distance = rows.unsqueeze(1) - key
    causal = distance >= 0
    score = profile[:, distance.clamp(min=0)].transpose(0, 1).clone()
    score[..., 0] = profile[:, -1]
    kept = causal & ((distance < window) | (key < sinks))
    score = score.masked_fill(kept.unsqueeze(1), torch.inf)
    score = score.masked_fill(~causal.unsqueeze(1), -torch.inf).flatten(1)
    budget = min(edges_per_token * len(profile), score.size(1))
    # In a stable order, equal scores go to the first layers, heads and keys.
    best = score.argsort(dim=1, descending=True, stable=True)[:, :budget]
    used = torch.zeros_like(score, dtype=torch.bool).scatter(1, best, True)
    return used.unflatten(1, (-1, num_tokens)) & causal.unsqueeze(1)


def _graph(used: Tensor) -> Data:  # shape: [N, H, N]
    """The edges that some head uses, and which."""
    target, source = used.any(1).nonzero(as_tuple=True)
    return Data(
        edge_index=torch.stack([source, target]),
        edge_heads=used[target, :, source],
        num_nodes=len(used),
    )


def _layer(data: Data, number: int) -> int:
    layer = data.get('layer')
    return number if layer is None else int(torch.as_tensor(layer).view(-1)[0])
