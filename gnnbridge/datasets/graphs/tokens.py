r"""Token tasks as graphs: copying and lookup along causal edges.

Nodes are tokens, and edges those of a causal mask, in full or within a
window: the last token must tell what stands earlier on. ``x`` holds the
token and its place, so that models without any encoding of positions can
know the order, and ``position`` the place for those that have one.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch_geometric.data import Data

from gnnbridge.datasets.graphs.edges import marked
from gnnbridge.datasets.retrieval import key_value_retrieval
from gnnbridge.datasets.vocabulary import StreamVocabulary
from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.graph.checks import check_size


def causal_copy(
    num_graphs: int,
    *,
    length: int,
    num_symbols: int,
    lag: int | None = None,
    window: int | None = None,
    generator: Generator,
) -> list[Data]:
    """Draws random tokens; the last must give an earlier one.

    Without ``lag`` that is the first token, and with a lag of 0 the last one
    itself: CopyFirst and CopyLast of `Marisca et al., 2025, "Over-squashing
    in Spatiotemporal Graph Neural Networks"
    <https://arxiv.org/abs/2506.15507>`_, who copy numbers.

    Args:
        num_graphs: The number of sequences.
        length: The number of tokens of each.
        num_symbols: The number of different tokens, at least 2.
        lag: How many places before the last the token stands; None for the
            first token.
        window: How many tokens each sees, itself included; None for all
            before it.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[length, 2]`` int64, ``y`` ``[1]`` int64.

    Raises:
        ValueError: If a size is too small or ``lag`` leads out of the
            sequence.
    """
    check_size('num_graphs', num_graphs)
    check_size('length', length)
    check_size('num_symbols', num_symbols, 2)
    lag = length - 1 if lag is None else check_size('lag', lag, 0)
    if lag >= length:
        raise ValueError(
            f"Expected 'lag' to be less than the {length} tokens (got {lag})."
        )
    tokens = torch.randint(
        num_symbols, (num_graphs, length), generator=generator
    )
    return _graphs(tokens, tokens[:, length - 1 - lag], window)


def key_value_graphs(
    num_graphs: int,
    *,
    num_pairs: int,
    num_symbols: int,
    window: int | None = None,
    generator: Generator,
) -> list[Data]:
    r"""Draws keys with values; the last token, a key, must give its value.

    The tokens ``k1 v1 ... kn vn k`` of
    :func:`~gnnbridge.datasets.retrieval.key_value_retrieval`, without marks.

    Args:
        num_graphs: The number of sequences.
        num_pairs: The number of pairs :math:`n`.
        num_symbols: How many keys there are, tokens from 0, and how many
            values, the tokens after them.
        window: How many tokens each sees, itself included; None for all
            before it.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[2 n + 1, 2]`` int64; ``y`` ``[1]`` int64, the value from
        0.

    Raises:
        ValueError: If a size is too small or there are fewer keys than
            ``num_pairs``.
    """
    check_size('num_graphs', num_graphs)
    check_size('num_pairs', num_pairs)
    check_size('num_symbols', num_symbols, 2)
    vocabulary = StreamVocabulary(
        bos=2 * num_symbols,
        query=2 * num_symbols + 1,
        first_key=0,
        first_value=num_symbols,
        num_symbols=num_symbols,
    )
    batch = key_value_retrieval(
        num_graphs, num_pairs, vocabulary, generator=generator
    )
    asked_at = int(batch.asked_at[0])
    pairs = batch.input_ids[:, 1 : 1 + 2 * num_pairs]
    asked = batch.input_ids[:, asked_at : asked_at + 1]
    answer = batch.labels[:, asked_at + 1] - num_symbols
    return _graphs(torch.cat([pairs, asked], dim=1), answer, window)


def _graphs(
    tokens: Tensor,  # shape: [G, T]
    answer: Tensor,  # shape: [G]
    window: int | None,
) -> list[Data]:
    length = tokens.size(1)
    graph = (
        causal_graph(length)
        if window is None
        else sliding_window_graph(length, window)
    )
    return [
        Data(
            x=torch.stack([row, graph.position], dim=1),
            edge_index=graph.edge_index,
            position=graph.position,
            y=answer[i : i + 1].clone(),
            target_mask=marked(length - 1, length),
        )
        for i, row in enumerate(tokens)
    ]
