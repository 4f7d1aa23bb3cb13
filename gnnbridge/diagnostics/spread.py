"""How far attention reaches, and over how many tokens it is spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.edges import (
    check_dense,
    check_sign,
    dense_query_mean,
    query_mean,
    row_sums,
    stack_layers,
)
from gnnbridge.diagnostics.sequences import Graphs, as_layers, tensor_of
from gnnbridge.graph.checks import check_size


def attention_span(graphs: Graphs | Tensor) -> Tensor:
    r"""Mean distance from a query to what it attends to, in tokens.

    .. math::
        D^h = \frac{1}{|Q|} \sum_{i \in Q}
        \frac{\sum_j A^h_{ij} |i - j|}{\sum_j A^h_{ij}}

    over the queries :math:`Q` that attend to anything. Rows that sum to less
    than one are rescaled: what leaks to a learned sink is at no distance.
    :func:`uniform_span` is its value without any preference.

    Args:
        graphs: The token graph of each layer with per-head attention in
            ``edge_attr`` (a batch per layer for several sequences), a single
            one, or dense attention.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L, H)`, or :math:`(*, H)` for dense attention

    Returns:
        The distances, in float32 or the wider dtype of the attention; for
        graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: If a weight is negative, a graph has no per-head
            attention, or layers differ in heads.
    """
    if isinstance(graphs, Tensor):
        attention = check_dense(graphs)
        check_sign(attention)
        place = torch.arange(attention.size(-1), device=attention.device)
        distance = (place.unsqueeze(1) - place).abs().to(attention.dtype)
        mass = attention.sum(-1)
        rows = _rescaled((attention * distance).sum(-1), mass)
        return dense_query_mean(rows, mass)
    return stack_layers(
        [_span(graph, layer) for layer, graph in enumerate(as_layers(graphs))]
    )


def inverse_participation(graphs: Graphs | Tensor) -> Tensor:
    r"""Mean inverse participation ratio of the attention of a query.

    .. math::
        Y^h = \frac{1}{|Q|} \sum_{i \in Q} \sum_j (A^h_{ij})^2

    over the queries :math:`Q` that attend to anything: one over the number of
    tokens for attention that is even over so many, 1 for a single one. In the
    `analysis of random transformers <https://arxiv.org/abs/2505.24333>`_ it
    stays above zero for long sequences where attention freezes on few tokens,
    the failure that residual connections do not mend. Weights are taken as
    they are; rows that sum to less than one are not rescaled.

    Args:
        graphs: The token graphs, or dense attention; see
            :func:`attention_span`.

    Shapes:
        - **dense attention:** :math:`(*, H, T, T)`, row = receiver
        - **output:** :math:`(L, H)`, or :math:`(*, H)` for dense attention

    Returns:
        The ratios, in float32 or the wider dtype of the attention; for graphs
        the mean over the sequences of a layer.

    Raises:
        TypeError: If `graphs` is neither graphs nor a tensor.
        ValueError: If a graph has no per-head attention, or layers differ in
            heads.
    """
    if isinstance(graphs, Tensor):
        attention = check_dense(graphs)
        rows = attention.square().sum(-1)
        return dense_query_mean(rows, rows)
    layers = []
    for layer, graph in enumerate(as_layers(graphs)):
        attention = tensor_of(graph, 'edge_attr', layer, 2)
        rows = row_sums(graph, attention.square())
        layers.append(query_mean(graph, rows, rows))
    return stack_layers(layers)


def uniform_entropy(tokens: int, *, causal: bool = True) -> float:
    r"""The attention entropy, in nats, of uniform attention.

    :math:`\frac{1}{T} \ln T!` if causal, else :math:`\ln T`.

    Args:
        tokens: The number of tokens :math:`T`.
        causal: Whether a query sees the tokens up to itself, or all.

    Returns:
        The entropy, a number: the most that it can be.

    Raises:
        ValueError: If `tokens` is not positive.
    """
    check_size('tokens', tokens)
    return math.lgamma(tokens + 1) / tokens if causal else math.log(tokens)


def uniform_span(tokens: int, *, causal: bool = True) -> float:
    r"""The :func:`attention_span` of uniform attention.

    :math:`(T - 1) / 4` if causal, else :math:`(T^2 - 1) / 3T`.

    Args:
        tokens: The number of tokens :math:`T`.
        causal: Whether a query sees the tokens up to itself, or all.

    Returns:
        The distance, a number of tokens.

    Raises:
        ValueError: If `tokens` is not positive.
    """
    check_size('tokens', tokens)
    return (tokens - 1) / 4 if causal else (tokens**2 - 1) / (3 * tokens)


def _span(graph: Data, layer: int) -> Tensor:
    attention = tensor_of(graph, 'edge_attr', layer, 2)
    check_sign(attention)
    source, target = graph.edge_index
    distance = (target - source).abs().to(attention.dtype).unsqueeze(1)
    mass = row_sums(graph, attention)
    rows = _rescaled(row_sums(graph, attention * distance), mass)
    return query_mean(graph, rows, mass)


def _rescaled(rows: Tensor, mass: Tensor) -> Tensor:
    return rows / mass.masked_fill(mass == 0, 1.0)
