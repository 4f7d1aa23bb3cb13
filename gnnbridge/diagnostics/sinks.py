"""Where attention sinks are, and how strong."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.diagnostics.attention import (
    dense_score,
    graph_scores,
    uniform_sink_score,
)
from gnnbridge.diagnostics.edges import (
    Edges,
    check_dense,
    dense_length,
    stack_layers,
)
from gnnbridge.diagnostics.sequences import (
    Graphs,
    as_layers,
    sequence_starts,
)
from gnnbridge.graph.checks import check_size
from gnnbridge.graph.schema import is_causal


def sink_edge_rate(
    graphs: Graphs | Tensor,
    *,
    tau: float = 0.2,
    tokens: int | None = 64,
    token: int = 0,
) -> Tensor:
    r"""Share of the edges from a token that carry much attention.

    The metric of `Wu et al., 2025 <https://arxiv.org/abs/2502.01951>`_ for
    each layer, over its heads,

    .. math::
        \frac{1}{H \sum_i M_{ik}} \sum_{h=1}^{H} \sum_i
        \mathbb{1} [ A^h_{ik} > \tau ]

    with :math:`M` the mask. It counts edges, where
    :func:`~gnnbridge.diagnostics.sink_rate` counts heads: the two differ. The
    edge of the token to itself counts as well.

    Args:
        graphs: The token graph of each layer with per-head attention in
            ``edge_attr`` (a batch per layer for several sequences), a single
            one, or dense attention.
        tau: The threshold :math:`\tau`.
        tokens: How many tokens of each sequence to look at; all if ``None``.
        token: The token :math:`k`, counted from 0 in its sequence.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver; every
          query from the token on is taken to see it
        - **output:** :math:`(L)`, or :math:`(*)` for dense attention

    Returns:
        The rates, in float32 or the wider dtype of the attention; for graphs
        the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: As :func:`~gnnbridge.diagnostics.sink_rate`.
    """
    if isinstance(graphs, Tensor):
        attention, end = _cut(graphs, tokens, token)
        received = attention[..., token:end, token]
        return (received > tau).to(attention.dtype).mean((-2, -1))
    rates = []
    for layer, graph in enumerate(as_layers(graphs)):
        edges = Edges.of(graph, layer, tokens, token)
        seen = (edges.key == token) & (edges.query >= token) & edges.counted
        strong = (edges.attention > tau).to(edges.attention.dtype)
        count = edges.total(torch.ones_like(strong), seen).clamp(min=1)
        rates.append((edges.total(strong, seen) / count).mean())
    return torch.stack(rates)


def first_attention_rate(
    graphs: Graphs | Tensor, *, tokens: int | None = 64
) -> Tensor:
    r"""Share of the queries and heads that attend most to the first token.

    The metric of `Kaul et al., 2024 <https://arxiv.org/abs/2410.17174>`_ for
    each layer, over its heads and the queries after the first, which has
    nothing else to attend to. Of equally attended tokens none is the one
    attended most: uniform attention gives 0.

    Args:
        graphs: The token graphs, or dense attention; see
            :func:`sink_edge_rate`.
        tokens: How many tokens of each sequence to look at; all if ``None``.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L)`, or :math:`(*)` for dense attention

    Returns:
        The rates, in float32 or the wider dtype of the attention; for graphs
        the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: As :func:`~gnnbridge.diagnostics.sink_rate`; or if a
            sequence has a single token.
    """
    if isinstance(graphs, Tensor):
        attention, end = _cut(graphs, tokens, 0)
        _check_two(end)
        rows = attention[..., 1:end, :]
        ahead = rows[..., 0] > rows[..., 1:].amax(-1)
        return ahead.to(attention.dtype).mean((-2, -1))
    rates = []
    for layer, graph in enumerate(as_layers(graphs)):
        edges = Edges.of(graph, layer, tokens)
        _check_two(int(edges.length.min()))
        first, target = edges.key == 0, graph.edge_index[1]
        heads = edges.attention.size(1)
        most = edges.attention.new_zeros(2, graph.num_nodes, heads)
        for row, chosen in zip(most, (first, ~first), strict=True):
            weight = edges.attention.detach()[chosen]
            place = target[chosen].unsqueeze(1).expand_as(weight)
            row.scatter_reduce_(0, place, weight, 'amax')
        ahead = (most[0] > most[1]).to(most.dtype)[target]
        seen = first & (edges.query > 0) & edges.counted
        count = (edges.length - 1).unsqueeze(1)
        rates.append((edges.total(ahead, seen) / count).mean())
    return torch.stack(rates)


def sink_excess(
    graphs: Graphs | Tensor,
    *,
    tokens: int | None = 64,
    token: int = 0,
    causal: bool | None = None,
) -> Tensor:
    r"""How far a sink score exceeds that of uniform attention.

    :func:`~gnnbridge.diagnostics.sink_score` minus its value if every query
    attended evenly to all tokens that it may see: for the first token of
    causal attention :math:`H_T / T`, with :math:`H_T` the harmonic number.
    Without causality it is one over the length of the whole sequence. Windows
    are not taken into account.

    Args:
        graphs: The token graphs, or dense attention; see
            :func:`sink_edge_rate`.
        tokens: How many tokens :math:`T` of each sequence to look at; all if
            ``None``.
        token: The token, counted from 0 in its sequence.
        causal: Whether queries see no later tokens; looked up in each layer
            if not given.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L, H)`, or :math:`(*, H)` for dense attention

    Returns:
        The differences, in float32 or the wider dtype of the attention; for
        graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: As :func:`~gnnbridge.diagnostics.sink_score`.
    """
    if isinstance(graphs, Tensor):
        attention, end = _cut(graphs, tokens, token)
        if causal is None:
            causal = not attention.triu(1).any()
        null = _null(attention.size(-1), end, token, causal)
        return dense_score(attention, tokens, token) - null
    layers = []
    scores = graph_scores(graphs, tokens, token)
    for graph, score in zip(as_layers(graphs), scores, strict=True):
        known = is_causal(graph) if causal is None else causal
        nulls = [
            _null(size, size if tokens is None else tokens, token, known)
            for size in sequence_starts(graph).diff().tolist()
        ]
        layers.append((score - score.new_tensor(nulls).unsqueeze(1)).mean(0))
    return stack_layers(layers)


def sink_rates_by_token(
    graphs: Graphs | Tensor,
    *,
    epsilon: float = 0.3,
    tokens: int | None = 64,
    first: int = 16,
) -> Tensor:
    r"""The sink rate of each of the first tokens, not of token 0 alone.

    :func:`~gnnbridge.diagnostics.sink_rate` with :math:`k = 0, 1, \ldots`: a
    model may have its sink elsewhere, or several. The last tokens looked at
    are seen by few queries, and get high scores for that alone; choose
    `first` well below `tokens`.

    Args:
        graphs: The token graphs, or dense attention; see
            :func:`sink_edge_rate`.
        epsilon: The threshold :math:`\epsilon`.
        tokens: How many tokens of each sequence to look at; all if ``None``.
        first: How many of these are asked as sinks; all if there are fewer.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L, K)`, or :math:`(*, K)` for dense attention

    Returns:
        The rates, in float32 or the wider dtype of the attention.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: As :func:`~gnnbridge.diagnostics.sink_rate`.
    """
    check_size('first', first)
    if isinstance(graphs, Tensor):
        attention, end = _cut(graphs, tokens, 0)
        received = attention[..., :end, : min(first, end)].tril().sum(-2)
        queries = end - torch.arange(received.size(-1), device=received.device)
        return (received / queries > epsilon).to(attention.dtype).mean(-2)
    layers = []
    for layer, graph in enumerate(as_layers(graphs)):
        edges = Edges.of(graph, layer, tokens)
        size = min(first, int(edges.length.min()))
        place = torch.arange(size, device=edges.key.device)
        seen = (edges.key < size) & (edges.query >= edges.key) & edges.counted
        total = edges.attention.new_zeros(
            len(edges.length), size, edges.attention.size(1)
        ).index_put(
            (edges.sequence[seen], edges.key[seen]),
            edges.attention[seen],
            accumulate=True,
        )
        queries = (edges.length.unsqueeze(1) - place).unsqueeze(2)
        strong = (total / queries > epsilon).to(total.dtype)
        layers.append(strong.mean((0, 2)))
    lengths = {len(layer) for layer in layers}
    return torch.stack([layer[: min(lengths)] for layer in layers])


def _cut(
    attention: Tensor, tokens: int | None, token: int
) -> tuple[Tensor, int]:
    """Dense attention, and how many of its queries count."""
    attention = check_dense(attention)
    return attention, dense_length(attention, tokens, token)


def _check_two(tokens: int) -> None:
    if tokens < 2:
        raise ValueError(f'Expected at least two tokens (got {tokens}).')


def _null(size: int, tokens: int, token: int, causal: bool) -> float:
    """The sink score of uniform attention."""
    if not causal:
        return 1 / size
    # Of all the sums over queries, what the earlier ones give is left out.
    total = tokens * uniform_sink_score(tokens)
    earlier = token * uniform_sink_score(token) if token else 0.0
    return (total - earlier) / (tokens - token)
