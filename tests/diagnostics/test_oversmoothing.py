import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import get_laplacian, to_dense_adj

from gnnbridge.diagnostics import oversmoothing
from gnnbridge.diagnostics.oversmoothing import (
    dirichlet_energy,
    effective_rank,
    mean_cosine,
    rank_collapse,
)
from gnnbridge.graph.causal import causal_graph
from gnnbridge.graph.dense import from_attention

MEASURES = [effective_rank, rank_collapse, mean_cosine]


def random_graph(size: int, channels: int, seed: int) -> Data:
    """Causal attention with hidden states, both float64."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator).double().tril()
    graph = from_attention(A / A.sum(1, keepdim=True))
    x = torch.randn(size, channels, generator=generator)
    graph.x = x.double()
    return graph


def dense(graph: Data) -> Tensor:
    A = torch.zeros(graph.num_nodes, graph.num_nodes).double()
    for source, target, w in zip(
        *graph.edge_index.tolist(), graph.edge_weight.tolist(), strict=True
    ):
        A[target, source] = w
    return A


def energy_by_loops(A: Tensor, x: Tensor) -> float:
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            gap = (x[i] - x[j]).numpy()
            total += A[i, j].item() * float(gap @ gap)
    return total / (2 * len(x))


def test_energy_equals_loops() -> None:
    graph = random_graph(7, 3, 0)
    A, x = dense(graph), graph.x
    expected = energy_by_loops(A, x)
    assert dirichlet_energy(x, A).item() == pytest.approx(expected)
    assert dirichlet_energy(graph).tolist() == pytest.approx([expected])
    from_edges = dirichlet_energy(x, graph.edge_index, graph.edge_weight)
    assert from_edges.item() == pytest.approx(expected)
    scale = x.square().sum().item() / 7
    for args in ((x, A), (graph,), (x, graph.edge_index, graph.edge_weight)):
        normalized = dirichlet_energy(*args, normalized=True)
        assert normalized.item() == pytest.approx(expected / scale)


def test_energy_is_the_laplacian_form_of_pyg_on_a_symmetric_graph() -> None:
    generator = torch.Generator().manual_seed(1)
    A = torch.rand(6, 6, generator=generator, dtype=torch.float64)
    A = A + A.mT
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    source, target = A.nonzero(as_tuple=True)
    L = to_dense_adj(
        *_weighted(
            get_laplacian(torch.stack([source, target]), A[source, target])
        )
    )[0]
    expected = torch.trace(x.mT @ L @ x) / 6
    torch.testing.assert_close(dirichlet_energy(x, A), expected)


def _weighted(edges: tuple[Tensor, Tensor]) -> tuple[Tensor, None, Tensor]:
    return edges[0], None, edges[1]


def test_energy_follows_the_direction() -> None:
    # Token 1 attends to 0; a graph that it does not is free of energy.
    x = torch.tensor([[0.0], [2.0], [2.0]])
    edge_index = torch.tensor([[0, 1], [1, 2]])
    assert dirichlet_energy(x, edge_index).item() == pytest.approx(4 / 6)
    weight = torch.tensor([0.0, 1.0])
    assert dirichlet_energy(x, edge_index, weight).item() == 0


def test_energy_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(9, 5, 2)
    whole = dirichlet_energy(graph)
    monkeypatch.setattr(oversmoothing, '_CHUNK', 17)
    torch.testing.assert_close(dirichlet_energy(graph), whole)


def test_energy_survives_a_collapse_in_float32() -> None:
    # Inner products of float32 would lose all of it: 1e-4 against 1e6.
    graph = random_graph(8, 4, 3)
    x = (1000 + 0.01 * graph.x).float()
    expected = energy_by_loops(dense(graph), x.double())
    for energy in (
        dirichlet_energy(x, dense(graph).float()),
        dirichlet_energy(x, graph.edge_index, graph.edge_weight.float()),
    ):
        assert energy.dtype == torch.float32
        # Sums of float32 numbers that are exact up to their rounding.
        assert energy.item() == pytest.approx(expected, rel=1e-5)


def test_energy_of_many_edges_in_float32() -> None:
    A = from_attention(torch.ones(600, 600).tril() / 600)
    x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    expected = dirichlet_energy(
        x.double(), A.edge_index, A.edge_weight.double()
    ).item()
    energy = dirichlet_energy(x, A.edge_index, A.edge_weight)
    # Added up in float32 as well it is off by 7e-7, and 1e-5 at 1000 tokens.
    assert energy.item() == pytest.approx(expected, rel=3e-7)


def test_energy_of_batches() -> None:
    graphs = [random_graph(size, 3, size) for size in (4, 7, 6)]
    layer = Batch.from_data_list(graphs)
    for normalized in (False, True):
        parts = [dirichlet_energy(g, normalized=normalized) for g in graphs]
        torch.testing.assert_close(
            dirichlet_energy([layer, layer], normalized=normalized),
            torch.cat(parts).mean().expand(2),
        )
    x = torch.stack([graphs[1].x, 2 * graphs[1].x])
    A = dense(graphs[1])
    torch.testing.assert_close(
        dirichlet_energy(x, A),
        torch.stack([dirichlet_energy(x[0], A), dirichlet_energy(x[1], A)]),
    )


def test_energy_gradients() -> None:
    graph = random_graph(5, 2, 4)
    x = graph.x.requires_grad_()
    weight = graph.edge_weight.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: dirichlet_energy(x, graph.edge_index, w, normalized=True),
        (x, weight),
    )
    A = dense(graph) + 0.1
    assert torch.autograd.gradcheck(dirichlet_energy, (x, A.requires_grad_()))


@pytest.mark.parametrize('size', [2, 5, 9])
def test_orthonormal_tokens(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    x, _ = torch.linalg.qr(torch.randn(11, size, generator=generator).double())
    x = x.mT
    assert effective_rank(x).item() == pytest.approx(size)
    # Cosines of a few ulp.
    assert mean_cosine(x).item() == pytest.approx(0, abs=1e-14)
    eye = torch.eye(size)
    # |I - 11'/N|_1 = |I - 11'/N|_inf = 2 (N - 1) / N
    assert rank_collapse(eye).item() == pytest.approx(2 * (size - 1) / size)
    energy = dirichlet_energy(eye, torch.ones(size, size))
    assert energy.item() == pytest.approx(size - 1)


def test_repeated_tokens() -> None:
    token = torch.randn(6, generator=torch.Generator().manual_seed(0))
    x = token.expand(8, 6)
    # Singular values of zero come out as rounding errors.
    assert effective_rank(x).item() == pytest.approx(1, abs=1e-4)
    assert rank_collapse(x).item() == pytest.approx(0, abs=1e-6)
    assert mean_cosine(x).item() == pytest.approx(1, abs=1e-6)
    assert dirichlet_energy(x, torch.rand(8, 8)).item() == 0


def test_rank_one_is_not_yet_collapse() -> None:
    # Along one direction, but with opposite signs.
    x = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]]) @ torch.ones(1, 3)
    assert effective_rank(x).item() == pytest.approx(1, abs=1e-4)
    assert rank_collapse(x).item() == pytest.approx(1)
    # pairs: -1, 1, -1, -1, 1, -1
    assert mean_cosine(x).item() == pytest.approx(-2 / 6)


def test_collapse_equals_numpy_norms() -> None:
    x = random_graph(7, 4, 5).x.numpy()
    rest = x - x.mean(0)

    def norm(m: np.ndarray) -> float:
        return math.sqrt(np.linalg.norm(m, 1) * np.linalg.norm(m, np.inf))

    out = rank_collapse(torch.from_numpy(x))
    assert out.item() == pytest.approx(norm(rest) / norm(x))


def test_effective_rank_equals_numpy_and_scipy() -> None:
    x = random_graph(9, 4, 6).x
    sigma = np.linalg.svd(x.numpy(), compute_uv=False)
    expected = math.exp(entropy(sigma / sigma.sum()))
    assert effective_rank(x).item() == pytest.approx(expected)


def test_mean_cosine_equals_loops() -> None:
    x = random_graph(6, 3, 7).x.numpy()
    total = 0.0
    for i in range(6):
        for j in range(6):
            if i != j:
                norms = np.linalg.norm(x[i]) * np.linalg.norm(x[j])
                total += float(x[i] @ x[j]) / norms
    assert mean_cosine(torch.from_numpy(x)).item() == pytest.approx(total / 30)


def test_zero_states_are_no_nan() -> None:
    x = torch.zeros(4, 3)
    assert effective_rank(x).item() == 0
    assert rank_collapse(x).item() == 0
    assert mean_cosine(x).item() == 0
    energy = dirichlet_energy(x, torch.ones(4, 4), normalized=True)
    assert energy.item() == 0


@pytest.mark.parametrize('measure', MEASURES)
def test_graphs_and_batches(measure: Any) -> None:
    graphs = [random_graph(size, 3, size) for size in (4, 7)]
    layer = Batch.from_data_list(graphs)
    parts = torch.stack([measure(graph.x) for graph in graphs])
    torch.testing.assert_close(measure([layer]), parts.mean().reshape(1))
    torch.testing.assert_close(measure(graphs), parts)
    stacked = torch.stack([graphs[0].x, graphs[1].x[:4]]).unsqueeze(0)
    out = measure(stacked)
    assert out.shape == (1, 2)
    torch.testing.assert_close(out[0, 0], parts[0])
    assert measure(graphs[0].x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize('measure', MEASURES)
def test_gradients(measure: Any) -> None:
    x = random_graph(5, 3, 8).x.requires_grad_()
    assert torch.autograd.gradcheck(measure, x)


@pytest.mark.parametrize('measure', [*MEASURES, dirichlet_energy])
def test_input_that_does_not_fit(measure: Any) -> None:
    graph = random_graph(4, 2, 9)
    del graph.x
    with pytest.raises(ValueError, match="layer 0 to hold 'x'"):
        measure(graph)
    with pytest.raises(TypeError, match='none'):
        measure([])


def test_shapes_that_do_not_fit() -> None:
    graph = random_graph(4, 2, 10)
    x = graph.x
    with pytest.raises(ValueError, match='two tokens'):
        mean_cosine(x[:1])
    with pytest.raises(ValueError, match=r'\[..., N, d\]'):
        effective_rank(x[0])
    with pytest.raises(ValueError, match="'edge_index'"):
        dirichlet_energy(x)
    with pytest.raises(ValueError, match='hold their own'):
        dirichlet_energy(graph, graph.edge_index)
    with pytest.raises(ValueError, match=r'\[..., 5, d\]'):
        dirichlet_energy(x, torch.ones(5, 5))
    with pytest.raises(ValueError, match=r'\[N, d\] with edges'):
        dirichlet_energy(x.unsqueeze(0), graph.edge_index)
    with pytest.raises(ValueError, match='one weight per edge'):
        dirichlet_energy(x, graph.edge_index, torch.ones(10, 2))
    with pytest.raises(ValueError, match='non-negative'):
        dirichlet_energy(x, graph.edge_index, -graph.edge_weight)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    size=st.integers(2, 9),
    channels=st.integers(1, 9),
    seed=st.integers(0, 99),
    scale=st.floats(0.01, 100),
)
def test_bounds_and_scale(
    size: int, channels: int, seed: int, scale: float
) -> None:
    graph = random_graph(size, channels, seed)
    x = graph.x
    rank = effective_rank(x).item()
    # Both ends are reached up to rounding.
    assert 1 - 1e-9 <= rank <= min(size, channels) + 1e-9
    assert -1 - 1e-9 <= mean_cosine(x).item() <= 1 + 1e-9
    for measure in MEASURES:
        torch.testing.assert_close(measure(scale * x), measure(x))
    torch.testing.assert_close(
        dirichlet_energy(scale * x, dense(graph)),
        scale**2 * dirichlet_energy(x, dense(graph)),
    )
    torch.testing.assert_close(
        dirichlet_energy(x + scale, dense(graph)),
        dirichlet_energy(x, dense(graph)),
    )


@pytest.mark.parametrize('collapse', [1.0, 1e-3, 1e-6])
def test_products_and_differences_give_one_energy(
    collapse: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 40, generator=generator)
    x = 30 * x + collapse * torch.randn(23, 40, generator=generator)
    graph = causal_graph(23)
    weight = torch.rand(graph.num_edges, generator=generator)
    found = dirichlet_energy(x, graph.edge_index, weight)
    monkeypatch.setattr(oversmoothing, '_SPARE', 0)
    expected = dirichlet_energy(x, graph.edge_index, weight)
    # Differences of close float32 numbers are exact; their squares are not.
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    exact = dirichlet_energy(x.double(), graph.edge_index, weight.double())
    # Rounding of the sum to float32 at the end.
    assert float(found) == pytest.approx(float(exact), rel=1e-6)
