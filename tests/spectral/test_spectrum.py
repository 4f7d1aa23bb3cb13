import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import (
    edges_of,
    random_causal,
    random_digraph,
    random_walk,
    static_key,
    window,
)
from torch import Tensor

from gnnbridge.spectral.laplacian import leave_rate
from gnnbridge.spectral.spectrum import (
    fiedler_vector,
    magnetic_laplacian,
    singular_values,
    spectral_gap,
)

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)


def random_network(size: int, seed: int) -> tuple[Tensor, Any]:
    """Random connected undirected weights, and the same in networkx."""
    graph = nx.connected_watts_strogatz_graph(size, 4, 0.5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for i, j in graph.edges:
        draw = torch.rand((), generator=generator).item()
        graph.edges[i, j]['weight'] = 0.1 + draw
    return torch.from_numpy(nx.to_numpy_array(graph)), graph


def closed_chain(A: Tensor, rho: Tensor) -> Tensor:
    P = A / A.sum(1, keepdim=True)
    P[leave_rate(A) == 0] = rho
    return P


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_symmetric_gap_equals_networkx(seed: int) -> None:
    A, graph = random_network(11, seed)
    spectrum = sorted(nx.normalized_laplacian_spectrum(graph))
    assert spectral_gap(A).item() == pytest.approx(spectrum[1], rel=1e-10)


def test_symmetric_gap_of_a_directed_graph_is_that_of_its_sum() -> None:
    A = random_causal(9, 3, density=0.6)
    graph = nx.from_numpy_array(((A + A.mT) / 2).fill_diagonal_(0).numpy())
    spectrum = sorted(nx.normalized_laplacian_spectrum(graph))
    assert spectral_gap(A).item() == pytest.approx(spectrum[1], rel=1e-10)
    loops = A + torch.diag(torch.arange(9).double())
    torch.testing.assert_close(spectral_gap(loops), spectral_gap(A))


@pytest.mark.parametrize('size', [2, 3, 8])
def test_gaps_in_closed_form(size: int) -> None:
    complete = torch.ones(size, size).double()
    # n / (n - 1), and 1 - cos of the first angle of a cycle or a path.
    assert spectral_gap(complete).item() == pytest.approx(size / (size - 1))
    i = torch.arange(size)
    path = torch.zeros(size, size).index_put((i[1:], i[:-1]), torch.ones(1))
    expected = 1 - math.cos(math.pi / (size - 1))
    assert spectral_gap(path).item() == pytest.approx(expected)
    # Uniform attention has rank one.
    assert spectral_gap(complete, operator='walk').item() == pytest.approx(1)
    gap = spectral_gap(complete, operator='singular')
    assert gap.item() == pytest.approx(1)


def test_several_components_have_no_gap() -> None:
    A = torch.block_diag(random_causal(4, 4), random_causal(3, 5))
    # Zero up to the rounding of the eigenvalues.
    assert spectral_gap(A).item() == pytest.approx(0, abs=1e-14)
    assert spectral_gap(A, operator='walk').item() == pytest.approx(
        0, abs=1e-14
    )
    alone = torch.zeros(5, 5)
    alone[:3, :3] = 1
    assert spectral_gap(alone).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    'operator', ['symmetric', 'restart', 'singular', 'walk']
)
def test_one_token(operator: Any) -> None:
    for A in (torch.ones(1, 1), torch.zeros(1, 1), torch.ones(2, 1, 1)):
        gap = spectral_gap(A, operator=operator)
        assert gap.shape == A.shape[:-2]
        assert not gap.any()


def test_eigenvalues_of_causal_attention_are_its_diagonal() -> None:
    # Whatever the window, the second largest entry is 1/2: a gap of 1/2.
    size = 64
    full = static_key(torch.ones(size))
    for A in (full, window(size, 2), window(size, 3), window(size, 16)):
        gap = spectral_gap(A, operator='walk')
        assert gap.item() == pytest.approx(0.5, abs=1e-6)
    A = random_causal(9, 6)
    second = A.diagonal().sort(descending=True).values[1].item()
    gap = spectral_gap(A, operator='walk')
    assert gap.item() == pytest.approx(1 - second, rel=1e-6)


def test_other_operators_see_the_window() -> None:
    size = 64
    full, near = static_key(torch.ones(size)), window(size, 3)
    for operator in ('symmetric', 'restart'):
        gaps = [
            spectral_gap(A, operator=operator).item()  # type: ignore[arg-type]
            for A in (full, near)
        ]
        assert gaps[0] > 5 * gaps[1]


def test_singular_values_of_full_and_windowed_attention() -> None:
    # The survey's numbers: 1.60 / 1.01 / 0.67 and 1.23 / 1.00 / 1.00, n = 64.
    full = singular_values(static_key(torch.ones(64)))
    near = singular_values(window(64, 3))
    assert full.shape == (64,)
    assert full[:3].tolist() == pytest.approx([1.60, 1.01, 0.67], abs=0.005)
    assert near[:3].tolist() == pytest.approx([1.23, 1.00, 1.00], abs=0.005)
    for A, values in (
        (static_key(torch.ones(64)), full),
        (window(64, 3), near),
    ):
        expected = np.linalg.svd(A.numpy(), compute_uv=False)
        torch.testing.assert_close(values, torch.from_numpy(expected))
        gap = spectral_gap(A, operator='singular')
        torch.testing.assert_close(gap, 1 - values[1] / values[0])


@pytest.mark.parametrize('restart', ['uniform', 'last', 'tensor'])
@pytest.mark.parametrize(
    'A',
    [
        pytest.param(random_causal(7, 7, density=0.6), id='causal'),
        pytest.param(
            torch.block_diag(random_causal(3, 8), random_causal(4, 9)),
            id='two_roots',
        ),
        pytest.param(random_digraph(7, 10), id='digraph'),
        pytest.param(3 * random_causal(7, 11), id='scaled'),
    ],
)
def test_restart_gap_is_chung_s_of_the_closed_chain(
    A: Tensor, restart: str
) -> None:
    generator = torch.Generator().manual_seed(12)
    rho = {
        'uniform': torch.full((7,), 1 / 7, dtype=torch.float64),
        'last': torch.eye(7, dtype=torch.float64)[6],
        'tensor': torch.rand(7, generator=generator).double().softmax(0),
    }[restart]
    P = closed_chain(A, rho)
    # Chung's Laplacian by hand, from the stationary distribution.
    values, vectors = torch.linalg.eig(P.mT)
    pi = vectors[:, (values - 1).abs().argmin()].real
    pi = pi / pi.sum()
    choice: Any = rho if restart == 'tensor' else restart
    if pi.min() < 1e-12:
        with pytest.raises(ValueError, match='visits every token'):
            spectral_gap(A, operator='restart', restart=choice)
        return
    flow = (pi / 2).unsqueeze(1) * P
    flow = flow + flow.mT
    scale = pi.rsqrt()
    L = torch.eye(7) - scale.unsqueeze(1) * flow * scale
    expected = torch.linalg.eigvalsh(L)[1]
    found = spectral_gap(A, operator='restart', restart=choice)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_restart_gap_equals_networkx() -> None:
    A = random_causal(7, 13, density=0.6)
    P = closed_chain(A, torch.full((7,), 1 / 7, dtype=torch.float64))
    graph = nx.from_numpy_array(P.numpy(), create_using=nx.DiGraph)
    L = nx.directed_laplacian_matrix(graph, walk_type='random')
    expected = np.linalg.eigvalsh(L)[1]
    found = spectral_gap(A, operator='restart').item()
    # networkx has eigenvectors of a general sparse matrix.
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('normalized', [True, False])
@pytest.mark.parametrize('seed', [0, 1])
def test_fiedler_vector_equals_networkx(normalized: bool, seed: int) -> None:
    A, graph = random_network(10, seed)
    expected = nx.fiedler_vector(
        graph, normalized=normalized, method='lanczos', seed=0, tol=1e-12
    )
    if normalized:
        # networkx and we both give the vector of the symmetric form.
        L = nx.normalized_laplacian_matrix(graph).toarray()
    else:
        L = nx.laplacian_matrix(graph).toarray()
    vector = fiedler_vector(A, normalized=normalized)
    unit = torch.from_numpy(np.asarray(expected, dtype=np.float64))
    unit = unit / unit.norm()
    torch.testing.assert_close(
        (unit @ vector).abs(), torch.ones((), dtype=torch.float64)
    )
    values, vectors = np.linalg.eigh(L)
    assert abs(vectors[:, 1] @ vector.numpy()) == pytest.approx(1)
    moved = torch.from_numpy(L) @ vector
    torch.testing.assert_close(moved, values[1] * vector)
    assert vector.norm().item() == pytest.approx(1)
    assert vector[vector.abs().argmax()] > 0


def test_fiedler_vector_of_a_path_is_a_cosine() -> None:
    i = torch.arange(9)
    path = torch.zeros(9, 9).index_put((i[1:], i[:-1]), torch.ones(1))
    wave = torch.cos(math.pi * (i.double() + 0.5) / 9)
    wave = wave / wave.norm()
    vector = fiedler_vector(path, normalized=False)
    torch.testing.assert_close(vector.abs(), wave.abs())
    assert (vector * wave).sum().abs().item() == pytest.approx(1)


@SETTINGS
@given(size=st.integers(1, 9), seed=st.integers(0, 999), q=st.floats(-1, 1))
def test_magnetic_laplacian_is_hermitian_and_positive(
    size: int, seed: int, q: float
) -> None:
    A = random_causal(size, seed, 0.6) + random_walk(size, seed)
    for normalized in (True, False):
        L = magnetic_laplacian(A, q=q, normalized=normalized)
        torch.testing.assert_close(L, L.mH)
        assert torch.linalg.eigvalsh(L).min() >= -1e-13
        scaled = magnetic_laplacian(3 * A, q=q, normalized=normalized)
        scale = 1 if normalized else 3
        torch.testing.assert_close(scaled, scale * L)


def test_magnetic_laplacian_without_charge_is_the_symmetric_one() -> None:
    A = random_causal(8, 14, density=0.6)
    graph = nx.from_numpy_array(((A + A.mT) / 2).fill_diagonal_(0).numpy())
    for normalized, form in (
        (True, nx.normalized_laplacian_matrix),
        (False, nx.laplacian_matrix),
    ):
        L = magnetic_laplacian(A, q=0, normalized=normalized)
        assert not L.imag.any()
        expected = torch.from_numpy(form(graph).toarray())
        torch.testing.assert_close(L.real, expected)


@pytest.mark.parametrize('size', [3, 5, 8])
@pytest.mark.parametrize('q', [0.0, 0.1, 0.25, 1 / 3])
def test_magnetic_laplacian_of_a_directed_cycle(size: int, q: float) -> None:
    i = torch.arange(size)
    edge_index = torch.stack([i, (i + 1) % size])
    # A circulant matrix: 1 - cos(2 pi (k / n + q)) for the phase 2 pi q.
    angle = 2 * math.pi * (i.double() / size + q)
    expected = (1 - angle.cos()).sort().values
    found = torch.linalg.eigvalsh(magnetic_laplacian(edge_index, q=q))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_magnetic_laplacian_keeps_the_direction() -> None:
    # One edge from source 0 to receiver 1: L_01 = -e^{2 pi i q}.
    edge_index = torch.tensor([[0], [1]])
    L = magnetic_laplacian(edge_index, q=0.25)
    expected = torch.tensor([[1, -1j], [1j, 1]], dtype=torch.complex128)
    torch.testing.assert_close(L, expected)
    both = torch.tensor([[0, 1], [1, 0]])
    L = magnetic_laplacian(both, q=0.25)
    assert not L.imag.any()
    L = magnetic_laplacian(edge_index, num_nodes=3)
    assert not L[2].any()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_batches_and_precision(dtype: torch.dtype) -> None:
    A = torch.stack([random_causal(6, seed) for seed in range(6)])
    A = A.reshape(2, 3, 6, 6)
    complex_ = torch.complex64 if dtype == torch.float32 else torch.complex128
    for function, options, result in (
        (singular_values, {}, dtype),
        (spectral_gap, {'operator': 'symmetric'}, dtype),
        (spectral_gap, {'operator': 'restart'}, dtype),
        (spectral_gap, {'operator': 'singular'}, dtype),
        (spectral_gap, {'operator': 'walk'}, dtype),
        (fiedler_vector, {}, dtype),
        (fiedler_vector, {'normalized': False}, dtype),
        (magnetic_laplacian, {}, complex_),
    ):
        call: Any = function
        found = call(A, dtype=dtype, **options)
        assert found.dtype == result
        assert found.shape[:2] == (2, 3)
        one = call(A[1, 2], **options)
        loose = dtype == torch.float32
        torch.testing.assert_close(
            found[1, 2].to(one.dtype),
            one,
            rtol=1e-3 if loose else 1e-9,
            atol=1e-5 if loose else 1e-12,
        )
        edge_index, weight = edges_of(A[1, 2])
        torch.testing.assert_close(call(edge_index, weight, **options), one)


@pytest.mark.parametrize(
    ('operator', 'causal'),
    [
        ('symmetric', True),
        ('symmetric', False),
        ('restart', True),
        ('singular', True),
        ('walk', True),
    ],
)
def test_gradients_of_the_gap(operator: Any, causal: bool) -> None:
    mask = torch.ones(5, 5).triu(1).bool() if causal else torch.zeros(5, 5) > 0
    generator = torch.Generator().manual_seed(15)
    logits = torch.randn(5, 5, generator=generator, dtype=torch.float64)

    def gap(logits: Tensor) -> Tensor:
        A = logits.masked_fill(mask, -math.inf).softmax(-1)
        return spectral_gap(A, operator=operator)

    assert torch.autograd.gradcheck(gap, logits.requires_grad_())


def test_gradients_of_the_magnetic_laplacian_and_singular_values() -> None:
    A = random_walk(4, 16).requires_grad_()
    assert torch.autograd.gradcheck(magnetic_laplacian, A)
    assert torch.autograd.gradcheck(singular_values, A)
    sparse = random_causal(4, 17).requires_grad_()
    (grad,) = torch.autograd.grad(magnetic_laplacian(sparse).real.sum(), sparse)
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    ('A', 'options', 'match'),
    [
        (torch.eye(3), {'operator': 'gap'}, "'symmetric', 'restart'"),
        (torch.eye(3), {'restart': 'last'}, "operator='restart'"),
        (torch.ones(3, 3), {'operator': 'restart'}, 'closed class'),
        (
            torch.eye(3),
            {'operator': 'restart', 'restart': 'last'},
            'never visits token',
        ),
        (
            torch.ones(3, 3).tril(),
            {'operator': 'restart', 'restart': torch.ones(3)},
            'sum to one',
        ),
        (-torch.eye(3), {}, 'non-negative'),
        (torch.eye(3), {'dtype': torch.float16}, 'float64'),
    ],
)
def test_errors_of_the_gap(
    A: Tensor, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        spectral_gap(A, **options)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match='at least two tokens'):
        fiedler_vector(torch.ones(1, 1))
    for q in (math.inf, math.nan):
        with pytest.raises(ValueError, match="'q'"):
            magnetic_laplacian(torch.eye(3), q=q)
