"""Budgets shared by measured attention."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch, Data

from gnnbridge.graph import causal_graph
from gnnbridge.transforms.measured_pattern import measured_pattern


def captured(n, layer, scores, mixing=0.5):
    """Attention by distance: a softmax of `scores [H, N]` in every row."""
    data = causal_graph(n)
    source, target = data.edge_index
    weight = scores[:, target - source].exp().T  # shape: [E, H]
    total = torch.zeros(n, weight.size(1)).index_add(0, target, weight)
    data.edge_attr = weight / total[target]
    data.mixing = torch.full((n,), mixing)
    data.layer = layer
    return data


def random_graphs(n, layers=2, heads=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        captured(n, k, 2 * torch.randn(heads, n, generator=generator), 0.3 + k)
        for k in range(layers)
    ]


def mask(data):
    """Which keys each head uses ``[H, N, N]``."""
    n = data.num_nodes
    keep = torch.zeros(data.edge_heads.size(1), n, n, dtype=torch.bool)
    source, target = data.edge_index
    keep[:, target, source] = data.edge_heads.T
    return keep


def stacked(graphs, *args, **options):
    found = measured_pattern(graphs, *args, **options)
    return torch.cat([mask(found[k]) for k in sorted(found)])


def brute_force(graphs, budget, n, window, sinks):
    """Row by row: the mean conductance of each distance, then the largest."""
    K = sum(data.edge_attr.size(1) for data in graphs)
    profile = torch.zeros(K, n).double()
    sink = torch.zeros(K).double()
    first = 0
    for data in graphs:
        heads = data.edge_attr.size(1)
        A = torch.zeros(heads, n, n).double()
        source, target = data.edge_index
        A[:, target, source] = data.edge_attr.double().T
        A = A * float(data.mixing.double().mean())
        for head in range(heads):
            for d in range(n - 1):
                entries = [A[head, i, i - d] for i in range(d + 1, n)]
                profile[first + head, d] = sum(entries) / len(entries)
            sink[first + head] = sum(A[head, 1:, 0]) / (n - 1)
        first += heads
    keep = torch.zeros(K, n, n, dtype=torch.bool)
    for i in range(n):
        found = []
        for k in range(K):
            for j in range(i + 1):
                score = sink[k] if j == 0 else profile[k, i - j]
                if i - j < window or j < sinks:
                    score = torch.inf
                found.append((-float(score), k, j))
        for _, k, j in sorted(found)[: budget * K]:
            keep[k, i, j] = True
    return keep


@pytest.mark.parametrize(('window', 'sinks'), [(1, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize('budget', [5, 7])
def test_rows_take_the_largest_conductances(budget, window, sinks):
    graphs = random_graphs(13)
    ours = stacked(graphs, budget, 13, window=window, sinks=sinks)
    assert torch.equal(ours, brute_force(graphs, budget, 13, window, sinks))


def test_the_budget_is_that_of_all_heads_together():
    graphs = random_graphs(19)
    keep = stacked(graphs, 4, 19)
    count = keep.sum(2).sum(0)
    full = 6 * torch.arange(1, 20)
    assert torch.equal(count, full.clamp(max=6 * 4))
    # Not all heads have the same.
    assert keep.sum(2)[:, -1].unique().numel() > 1


def test_heads_that_look_far_get_the_edges():
    n = 30
    near = torch.full((n,), -9.0)
    near[:2] = 0
    graphs = [captured(n, 0, torch.stack([near, torch.zeros(n)]))]
    used = mask(measured_pattern(graphs, 8, n)[0]).sum(2)[:, -1]
    assert used.tolist() == [3, 13]  # the window and the sink, and the rest


def test_more_mixing_gets_more_edges():
    n = 20
    scores = torch.zeros(1, n)
    graphs = [captured(n, 0, scores, 0.9), captured(n, 1, scores, 0.1)]
    keep = stacked(graphs, 6, n)
    assert keep.sum(2)[:, -1].tolist() == [9, 3]


def test_longer_patterns_keep_the_rows_of_shorter_ones():
    graphs = random_graphs(11)
    long, short = stacked(graphs, 5, 40), stacked(graphs, 5, 23)
    assert torch.equal(long[:, :23, :23], short)


def test_samples_may_come_in_batches():
    both = [random_graphs(11, seed=1), random_graphs(7, seed=2)]
    pairs = zip(*both, strict=True)
    batch = [Batch.from_data_list(list(pair)) for pair in pairs]
    found = measured_pattern(batch, 4, 11)
    assert sorted(found) == [0, 1]
    # The mean over all rows of both, so the same sample twice is that sample.
    twice = [Batch.from_data_list([data, data]) for data in random_graphs(11)]
    assert torch.equal(stacked(twice, 5, 11), stacked(random_graphs(11), 5, 11))


def test_a_budget_of_everything_is_everything():
    keep = stacked(random_graphs(9), 9, 9)
    assert torch.equal(keep, torch.ones(6, 9, 9).bool().tril())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((2, 9), 'at least window'),
        ((0, 9), "'edges_per_token'"),
        ((4, 0), "'num_tokens'"),
    ],
)
def test_bad_budgets(arguments, message):
    with pytest.raises(ValueError, match=message):
        measured_pattern(random_graphs(9), *arguments)


def test_bad_graphs():
    with pytest.raises(ValueError, match='each layer'):
        measured_pattern([], 4, 9)
    plain = Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2)
    with pytest.raises(ValueError, match="'edge_attr'"):
        measured_pattern([plain], 4, 9)
