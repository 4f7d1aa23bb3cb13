"""How attention is spread: sinks and entropy, per layer and head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.edges import (
    Edges,
    check_dense,
    check_sign,
    dense_length,
    dense_query_mean,
    query_mean,
    row_sums,
    stack_layers,
)
from gnnbridge.diagnostics.sequences import Graphs, as_layers, tensor_of


def sink_rate(
    graphs: Graphs | Tensor,
    *,
    epsilon: float = 0.3,
    tokens: int | None = 64,
    token: int = 0,
) -> Tensor:
    r"""Share of the heads for which a token is an attention sink.

    The metric of `Gu et al., 2025 <https://arxiv.org/abs/2410.10781>`_ for
    each layer,

    .. math::
        \mathrm{Sink}_k^{\epsilon} = \frac{1}{B H} \sum_{b=1}^{B}
        \sum_{h=1}^{H} \mathbb{1} [ \alpha_k^{b,h} > \epsilon ]

    with :math:`\alpha` the :func:`sink_score`. The threshold applies to each
    sequence, before the mean. The rate falls with `tokens`, so that only
    rates with the same value compare.

    Args:
        graphs: The token graph of each layer with per-head attention in
            ``edge_attr`` (a batch per layer for several sequences), a single
            one, or dense attention.
        epsilon: The threshold :math:`\epsilon`.
        tokens: How many tokens of each sequence to look at; all if ``None``.
        token: The token :math:`k`, counted from 0 in its sequence.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L)`, or :math:`(*)` for dense attention

    Returns:
        The rates, in float32 or the wider dtype of the attention.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: If a sequence is shorter than `tokens`, or `token` is not
            among them, or a graph has no per-head attention.
    """
    if isinstance(graphs, Tensor):
        score = dense_score(graphs, tokens, token)
        return (score > epsilon).to(score.dtype).mean(-1)
    rates = [
        (score > epsilon).to(score.dtype).mean()
        for score in graph_scores(graphs, tokens, token)
    ]
    return torch.stack(rates)


def sink_score(
    graphs: Graphs | Tensor,
    *,
    tokens: int | None = 64,
    token: int = 0,
) -> Tensor:
    r"""Mean attention that a token receives from itself and later queries.

    .. math::
        \alpha_k^h = \frac{1}{T - k} \sum_{i=k}^{T-1} A^h_{ik}

    over the first :math:`T` tokens, counted from 0
    (`Gu et al., 2025 <https://arxiv.org/abs/2410.10781>`_). For the first
    token of causal attention it lies between :math:`1 / T` and 1;
    :func:`uniform_sink_score` is its value without any preference. Attention
    dropped from a sparsified graph counts as zero.

    Args:
        graphs: The token graphs, or dense attention; see :func:`sink_rate`.
        tokens: How many tokens :math:`T` of each sequence to look at; all if
            ``None``.
        token: The token :math:`k`, counted from 0 in its sequence.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L, H)`, or :math:`(*, H)` for dense attention

    Returns:
        The scores, in float32 or the wider dtype of the attention; for graphs
        the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: As :func:`sink_rate`; or if layers differ in heads.
    """
    if isinstance(graphs, Tensor):
        return dense_score(graphs, tokens, token)
    scores = graph_scores(graphs, tokens, token)
    return stack_layers([score.mean(0) for score in scores])


def uniform_sink_score(tokens: int) -> float:
    r"""The :func:`sink_score` of token 0 under uniform causal attention.

    .. math::
        \alpha_0 = \frac{1}{T} \sum_{i=1}^{T} \frac{1}{i}

    Args:
        tokens: The number of tokens :math:`T`.

    Returns:
        The score, a number: the null against which sinks stand out.

    Raises:
        ValueError: If `tokens` is not positive.
    """
    if tokens < 1:
        raise ValueError(f"Expected 'tokens' to be at least 1 (got {tokens}).")
    return sum(1 / i for i in range(1, tokens + 1)) / tokens


def attention_entropy(graphs: Graphs | Tensor) -> Tensor:
    r"""Mean entropy of the attention of a query, in nats.

    .. math::
        S^h = - \frac{1}{|Q|} \sum_{i \in Q} \sum_j A^h_{ij} \ln A^h_{ij}

    over the queries :math:`Q` that attend to anything. Weights are taken as
    they are: rows that sum to less than one (a learned sink, a sparsified
    graph) are not rescaled.

    Args:
        graphs: The token graphs, or dense attention; see :func:`sink_rate`.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L, H)`, or :math:`(*, H)` for dense attention

    Returns:
        The entropies, in float32 or the wider dtype of the attention; for
        graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: If a weight is negative, a graph has no per-head
            attention, or layers differ in heads.
    """
    if isinstance(graphs, Tensor):
        attention = check_dense(graphs)
        check_sign(attention)
        rows = torch.special.entr(attention).sum(-1)
        return dense_query_mean(rows, attention.sum(-1))
    return stack_layers(
        [
            _entropy(graph, layer)
            for layer, graph in enumerate(as_layers(graphs))
        ]
    )


def _entropy(graph: Data, layer: int) -> Tensor:
    attention = tensor_of(graph, 'edge_attr', layer, 2)
    check_sign(attention)
    rows, mass = (
        row_sums(graph, values)
        for values in (torch.special.entr(attention), attention)
    )
    return query_mean(graph, rows, mass)


def graph_scores(
    graphs: Graphs, tokens: int | None, token: int
) -> list[Tensor]:
    """The score of each sequence and head, ``[B, H]`` for each layer."""
    scores = []
    for layer, graph in enumerate(as_layers(graphs)):
        edges = Edges.of(graph, layer, tokens, token)
        seen = (edges.key == token) & (edges.query >= token) & edges.counted
        total = edges.total(edges.attention, seen)
        scores.append(total / (edges.length - token).unsqueeze(-1))
    return scores


def dense_score(attention: Tensor, tokens: int | None, token: int) -> Tensor:
    """The score of each head of dense attention, ``[..., H]``."""
    attention = check_dense(attention)
    length = dense_length(attention, tokens, token)
    return attention[..., token:length, token].mean(-1)
