"""How attention is spread: sinks and entropy, per layer and head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.sequences import (
    Graphs,
    as_layers,
    node_sequence,
    sequence_starts,
    sum_into,
    tensor_of,
)
from gnnbridge.graph.checks import at_least_float32


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
        score = _dense_score(graphs, tokens, token)
        return (score > epsilon).to(score.dtype).mean(-1)
    rates = [
        (score > epsilon).to(score.dtype).mean()
        for score in _graph_scores(graphs, tokens, token)
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
        return _dense_score(graphs, tokens, token)
    scores = _graph_scores(graphs, tokens, token)
    return _stack_layers([score.mean(0) for score in scores])


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
        attention = _check_dense(graphs)
        _check_sign(attention)
        rows = torch.special.entr(attention).sum(-1)
        queries = (attention.sum(-1) > 0).sum(-1)
        return rows.sum(-1) / queries.clamp(min=1)
    layers = as_layers(graphs)
    return _stack_layers(
        [_graph_entropy(graph, layer) for layer, graph in enumerate(layers)]
    )


def _graph_entropy(graph: Data, layer: int) -> Tensor:
    attention = tensor_of(graph, 'edge_attr', layer, 2)
    _check_sign(attention)
    starts = sequence_starts(graph)
    target = graph.edge_index[1]
    mass = sum_into(graph.num_nodes, target, attention)
    entropy = sum_into(graph.num_nodes, target, torch.special.entr(attention))
    sequence = node_sequence(starts)
    size = len(starts) - 1
    queries = sum_into(size, sequence, (mass > 0).to(mass.dtype))
    return (sum_into(size, sequence, entropy) / queries.clamp(min=1)).mean(0)


def _graph_scores(
    graphs: Graphs, tokens: int | None, token: int
) -> list[Tensor]:
    """The score of each sequence and head, ``[B, H]`` for each layer."""
    scores = []
    for layer, graph in enumerate(as_layers(graphs)):
        attention = tensor_of(graph, 'edge_attr', layer, 2)
        if graph.get('num_queries') is not None:
            raise ValueError(
                f'Expected a graph in which every token queries (got a cache '
                f'graph with fewer queries than keys at layer {layer}).'
            )
        starts = sequence_starts(graph)
        first, length = starts[:-1], _lengths(starts.diff(), tokens, token)
        source, target = graph.edge_index
        sequence = node_sequence(starts)[target]
        query = target - first[sequence]
        seen = (source - first[sequence] == token) & (query >= token)
        seen &= query < length[sequence]
        total = sum_into(len(first), sequence[seen], attention[seen])
        scores.append(total / (length - token).unsqueeze(-1))
    return scores


def _dense_score(attention: Tensor, tokens: int | None, token: int) -> Tensor:
    attention = _check_dense(attention)
    size = torch.tensor([attention.size(-1)])
    length = int(_lengths(size, tokens, token))
    return attention[..., token:length, token].mean(-1)


def _lengths(sizes: Tensor, tokens: int | None, token: int) -> Tensor:
    """How many tokens of each sequence count."""
    shortest = int(sizes.min())
    if tokens is not None and shortest < tokens:
        raise ValueError(
            f'Expected sequences of at least tokens={tokens} tokens (got one '
            f'of {shortest}). Use tokens=None for whole sequences instead.'
        )
    end = shortest if tokens is None else tokens
    if not 0 <= token < end:
        raise ValueError(
            f"Expected 'token' to be one of the first {end} tokens, 0 to "
            f'{end - 1} (got {token}).'
        )
    return sizes if tokens is None else torch.full_like(sizes, tokens)


def _check_dense(attention: Tensor) -> Tensor:
    shape = tuple(attention.shape)
    if len(shape) < 3 or shape[-1] != shape[-2] or 0 in shape:
        raise ValueError(
            f'Expected dense attention of shape [..., H, T, T] (got {shape}).'
        )
    if not attention.is_floating_point():
        raise TypeError(
            f'Expected floating-point attention (got {attention.dtype}).'
        )
    return at_least_float32(attention)


def _check_sign(attention: Tensor) -> None:
    lowest = attention.min() if attention.numel() else attention.new_zeros(())
    if not lowest >= 0:
        raise ValueError(
            f'Expected non-negative attention, as entropy needs (got '
            f'{lowest.item():.4g}). Use one softmax map of differential '
            f'attention at a time instead.'
        )


def _stack_layers(layers: list[Tensor]) -> Tensor:
    heads = [layer.size(0) for layer in layers]
    if len(set(heads)) > 1:
        raise ValueError(
            f'Expected the same number of heads in every layer (got {heads}). '
            f'Use one layer at a time instead.'
        )
    return torch.stack(layers)
