from math import comb

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.graph.dense import from_attention
from gnnbridge.graph.schema import is_causal, roots, validate
from gnnbridge.graph.unroll import unroll

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def layers(seed, num_layers, n):
    """Row-stochastic causal maps with holes, and shares, both float64."""
    generator = torch.Generator().manual_seed(seed)
    options = {'generator': generator, 'dtype': torch.float64}
    A = torch.rand(num_layers, n, n, **options)
    A = A * (torch.rand(num_layers, n, n, **options) < 0.6)
    # A first column without holes: no row is empty, some have no self-loop.
    A[:, :, 0] += 0.1
    A = A.tril()
    A = A / A.sum(dim=-1, keepdim=True)
    return A, torch.rand(num_layers, n, **options)


def path_weights(data, num_layers, n):
    """Weights summed over paths from level 0 to L, walked edge by edge."""
    total = torch.zeros(data.num_nodes, n, dtype=torch.float64)
    total[:n] = torch.eye(n)
    weight = data.edge_weight.tolist()
    # Sorted by target, so that a level is complete before it is read.
    for e, (j, i) in enumerate(data.edge_index.t().tolist()):
        total[i] += weight[e] * total[j]
    return total[num_layers * n :]


@PROPERTY
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 6))
def test_path_weights_are_the_product_of_the_layers(seed, num_layers, n):
    A, share = layers(seed, num_layers, n)
    data = unroll([from_attention(a) for a in A], mixing=share)
    product = torch.eye(n, dtype=torch.float64)
    for a, m in zip(A, share, strict=True):
        product = (torch.diag(1 - m) + torch.diag(m) @ a) @ product
    # Sums of a few dozen float64 numbers below one.
    assert torch.allclose(
        path_weights(data, num_layers, n), product, rtol=0, atol=1e-14
    )


@PROPERTY
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 6))
def test_the_unrolled_graph_is_a_sound_dag(seed, num_layers, n):
    A, share = layers(seed, num_layers, n)
    data = unroll([from_attention(a) for a in A], mixing=share)
    assert validate(data, causal=True) is data
    source, target = data.edge_index
    assert torch.equal(data.level[target], data.level[source] + 1)
    assert torch.equal(data.edge_layer, data.level[source])
    assert torch.equal(
        torch.arange(data.num_nodes), data.level * n + data.token
    )
    assert bool((data.token[source] <= data.token[target]).all())
    digraph = nx.DiGraph(data.edge_index.t().tolist())
    assert nx.is_directed_acyclic_graph(digraph)
    # The embeddings attend to nothing; all else leads back to them.
    assert roots(data).tolist() == list(range(n))


@PROPERTY
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 6))
def test_rows_sum_to_one(seed, num_layers, n):
    A, share = layers(seed, num_layers, n)
    data = unroll([from_attention(a) for a in A], mixing=share)
    mass = torch.zeros(data.num_nodes, dtype=torch.float64)
    mass.index_add_(0, data.edge_index[1], data.edge_weight)
    assert torch.equal(mass[:n], torch.zeros(n, dtype=torch.float64))
    # A handful of float64 additions per row.
    assert torch.allclose(
        mass[n:], torch.ones_like(mass[n:]), rtol=0, atol=1e-14
    )


def test_a_self_loop_and_its_residual_are_one_edge():
    A = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    data = unroll([from_attention(A)], mixing=[0.5])
    assert data.edge_index.tolist() == [[0, 0, 1], [2, 3, 3]]
    assert data.edge_weight.tolist() == [1.0, 0.125, 0.875]
    assert data.edge_residual.tolist() == [0.5, 0.0, 0.5]


def test_a_token_without_self_loop_keeps_its_residual_edge():
    A = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    data = unroll([from_attention(A)], mixing=0.25)
    assert data.edge_index.tolist() == [[0, 0, 1], [2, 3, 3]]
    assert data.edge_weight.tolist() == [1.0, 0.25, 0.75]
    assert data.edge_residual.tolist() == [0.75, 0.0, 0.75]


@pytest.mark.parametrize(('num_layers', 'n'), [(1, 5), (3, 7), (5, 4)])
def test_the_number_of_causal_paths_is_binomial(num_layers, n):
    # Non-increasing sequences of L steps from i to j.
    data = unroll([causal_graph(n)] * num_layers, mixing=1.0)
    count = path_weights(data, num_layers, n)
    for i in range(n):
        for j in range(n):
            steps = num_layers - 1
            paths = comb(i - j + steps, steps) if j <= i else 0
            assert count[i, j] == paths


def test_a_window_reaches_as_far_as_its_depth():
    n, window, num_layers = 9, 3, 2
    data = unroll([sliding_window_graph(n, window)] * num_layers, mixing=0.5)
    digraph = nx.DiGraph(data.edge_index.t().tolist())
    for i in range(n):
        reached = nx.ancestors(digraph, num_layers * n + i)
        first = max(0, i - num_layers * (window - 1))
        assert sorted(v for v in reached if v < n) == list(range(first, i + 1))


def test_mixing_is_read_from_the_graphs():
    A, share = layers(0, 2, 4)
    graphs = [from_attention(a) for a in A]
    for data, m in zip(graphs, share, strict=True):
        data.mixing = m
    found, expected = unroll(graphs), unroll(graphs, mixing=share)
    assert torch.equal(found.edge_weight, expected.edge_weight)
    # The argument wins.
    flat = unroll(graphs, mixing=[0.25, 0.5])
    assert flat.edge_residual[flat.edge_layer == 0].max() == 0.75
    assert flat.edge_residual[flat.edge_layer == 1].max() == 0.5


def test_one_number_per_layer_and_one_for_all():
    A, _ = layers(1, 3, 3)
    graphs = [from_attention(a) for a in A]
    number, per_layer, per_token = (
        unroll(graphs, mixing=mixing)
        for mixing in (0.3, [0.3] * 3, torch.full((3, 3), 0.3))
    )
    assert torch.equal(number.edge_weight, per_layer.edge_weight)
    assert torch.equal(number.edge_residual, per_layer.edge_residual)
    # 0.3 as a float32 tensor is 0.3 to 4e-8 only; as a number it is exact.
    assert torch.allclose(
        number.edge_weight, per_token.edge_weight, rtol=0, atol=4e-8
    )
    assert number.edge_residual.max() == 0.7


def test_gradients_reach_weights_and_shares():
    # Inside their ranges, so that finite differences stay in them.
    generator = torch.Generator().manual_seed(2)
    A = 0.1 + torch.rand(2, 3, 3, generator=generator, dtype=torch.float64)
    share = A[:, 0] / 2

    def weights(A, share):
        data = unroll([from_attention(a) for a in A], mixing=share)
        return data.edge_weight, data.edge_residual

    assert torch.autograd.gradcheck(
        weights, (A.requires_grad_(), share.requires_grad_())
    )


def test_inputs_are_left_as_they_were():
    data = from_attention(torch.rand(3, 3).tril() + torch.eye(3))
    before = data.clone()
    out = unroll([data, data], mixing=0.5)
    assert is_causal(out)
    assert data.keys() == before.keys()
    assert torch.equal(data.edge_weight, before.edge_weight)


@pytest.mark.parametrize(
    ('mixing', 'match'),
    [
        (None, "graph 0 to have 'mixing'"),
        (1.5, r'in \[0, 1\] \(got 1.5 in layer 0, token 0\)'),
        ([0.5, -0.25], r'got -0.25 in layer 1, token 0'),
        ([[0.5] * 3, [0.5, float('nan'), 0.5]], 'nan in layer 1, token 1'),
        ([0.5], r'\[L\] or \[L, N\] with L = 2, N = 3 \(got \[1\]\)'),
        ([[0.5], [0.5]], r'L = 2, N = 3 \(got \[2, 1\]\)'),
        ([[0.5, 0.5]] * 2, r'L = 2, N = 3 \(got \[2, 2\]\)'),
    ],
)
def test_shares_that_make_no_sense_are_refused(mixing, match):
    graphs = [causal_graph(3), causal_graph(3)]
    with pytest.raises(ValueError, match=match):
        unroll(graphs, mixing=mixing)


def test_graphs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='at least one graph'):
        unroll([], mixing=0.5)
    with pytest.raises(ValueError, match=r'3 nodes in every .*4 in graph 1'):
        unroll([causal_graph(3), causal_graph(4)], mixing=0.5)
