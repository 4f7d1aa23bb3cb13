"""The graphs of the benchmark."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.graph.causal import sliding_window_graph


def window(tokens: int) -> Tensor:
    """A window of 128 tokens with 4 sinks."""
    return sliding_window_graph(tokens, 128, sinks=4).edge_index


def random_causal(tokens: int, share: float = 0.01) -> Tensor:
    """Each earlier pair with a probability, and every token itself."""
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(tokens, tokens, generator=generator) < share
    keep = keep.tril().fill_diagonal_(True)
    query, key = keep.nonzero(as_tuple=True)
    return torch.stack([key, query])


def expander(tokens: int, degree: int = 8) -> Tensor:
    """A window of 128, and random earlier tokens for each."""
    generator = torch.Generator().manual_seed(0)
    query = torch.arange(tokens).repeat_interleave(degree)
    share = torch.rand(query.numel(), generator=generator)
    far = torch.stack([(share * (query + 1)).long(), query])
    near = sliding_window_graph(tokens, 128).edge_index
    code = torch.cat([far, near], dim=1)
    code = (code[1] * tokens + code[0]).unique()
    return torch.stack([code % tokens, code // tokens])


def sparse_digraph(nodes: int = 100_000, edges: int = 1_000_000) -> Tensor:
    """Random edges in random order, as a loader of graphs would give them."""
    generator = torch.Generator().manual_seed(0)
    code = torch.randint(nodes * nodes, (edges,), generator=generator)
    code = code.unique()
    code = code[torch.randperm(code.numel(), generator=generator)]
    return torch.stack([code // nodes, code % nodes])
