import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.spectral.laplacian import laplacian
from gnnbridge.spectral.resistance import total_resistance
from gnnbridge.transforms import lyapunov_index
from gnnbridge.transforms.gtr import GTR
from gnnbridge.transforms.lyapunov_index import total_lyapunov_resistance


@pytest.mark.parametrize('name', ['karate', 'tree', 'gnp-15', 'gnp-9-dense'])
def test_the_total_is_that_of_the_resistances(name: str) -> None:
    graph = {**NETWORKS, **DIGRAPHS}[name]
    L = laplacian(edges_of(graph), num_nodes=len(graph))
    expected = total_resistance(edges_of(graph), kind='lyapunov')
    found = total_lyapunov_resistance(L, causal=False)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize('name', ['causal', 'window-and-sink'])
def test_the_triangular_equation_has_the_same_total(name: str) -> None:
    L = laplacian(edges_of(DIGRAPHS[name]))
    batch = torch.stack([L, 3 * L])
    short, whole = (
        total_lyapunov_resistance(batch, causal) for causal in (True, False)
    )
    torch.testing.assert_close(short, whole, rtol=1e-10, atol=0)
    torch.testing.assert_close(short[0] / 3, short[1], rtol=1e-10, atol=0)


def slope_of(L: torch.Tensor, causal: bool) -> torch.Tensor:
    L.requires_grad_()
    total = total_lyapunov_resistance(L, causal)
    (slope,) = torch.autograd.grad(total, L)
    return slope.diagonal().unsqueeze(-1) - slope


def test_both_directions_of_an_edge_make_the_undirected_derivative() -> None:
    edges = edges_of(NETWORKS['gnm-19-dense'])
    L = laplacian(edges)
    slope = slope_of(L.clone(), causal=False)
    square = torch.linalg.matrix_power(torch.linalg.pinv(L), 2)
    own = square.diagonal()
    B = own.unsqueeze(-1) + own - 2 * square
    torch.testing.assert_close(slope + slope.T, -19 * B, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('causal', [True, False])
def test_slopes_are_differences_of_totals(causal: bool) -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    A = edges_to_dense(edges, None, 13).double()
    slope = slope_of(laplacian(A), causal)
    for target, source in [(12, 5), (8, 1), (3, 0)]:
        totals = []
        for by in (-1e-4, 1e-4):
            changed = A.clone()
            # Negative weights are no graph, but a Laplacian.
            changed[target, source] += by
            L = torch.diag(changed.sum(-1)) - changed
            totals.append(total_lyapunov_resistance(L, causal))
        # An error of the order of the square of the step.
        difference = (totals[1] - totals[0]) / 2e-4
        torch.testing.assert_close(
            slope[target, source], difference, rtol=1e-5, atol=0
        )


def test_few_exact_values_find_the_same_edges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges = edges_of(DIGRAPHS['gnp-15'])
    every = GTR(4, kind='lyapunov').plan(edges)
    monkeypatch.setattr(lyapunov_index, '_EXACT', 20)
    monkeypatch.setattr(lyapunov_index, '_ENTRIES', 1)
    monkeypatch.setattr(lyapunov_index, '_BATCH', 300)
    some = GTR(4, kind='lyapunov').plan(edges)
    assert torch.equal(every.edge_index, some.edge_index)
    assert torch.allclose(every.trace, some.trace, rtol=1e-12)
