import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import (
    edges_of,
    random_causal,
    random_digraph,
    random_walk,
    static_key,
)
from torch import Tensor

from gnnbridge.spectral.green import absorption_time
from gnnbridge.spectral.laplacian import laplacian
from gnnbridge.spectral.lyapunov import lyapunov_resistance
from gnnbridge.spectral.resistance import (
    effective_resistance,
    total_resistance,
)

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)
METHODS = ['auto', 'recursive', 'smith']


def by_reduction(A: Tensor) -> Tensor:
    """Young's definition: L on the complement of the ones."""
    L, size = laplacian(A).numpy(), A.size(-1)
    # Rows orthonormal to each other and to the ones.
    Q = scipy.linalg.null_space(np.ones((1, size))).T
    sigma = scipy.linalg.solve_continuous_lyapunov(
        Q @ L @ Q.T, np.eye(size - 1)
    )
    X = torch.from_numpy(2 * Q.T @ sigma @ Q)
    return X.diagonal().unsqueeze(1) + X.diagonal() - 2 * X


def flows(L: Tensor, longest: float) -> tuple[Tensor, Tensor]:
    """exp(-L t) at the points of a quadrature, and its weights.

    Gauss' rule on panels that double in length, up to `longest`.
    """
    points, weights = np.polynomial.legendre.leggauss(24)
    ends = [0.0, 2.0**-3]
    while ends[-1] < longest:
        ends.append(2 * ends[-1])
    time, weight = [], []
    for low, high in itertools.pairwise(ends):
        half = (high - low) / 2
        time.append(torch.from_numpy(low + half * (points + 1)))
        weight.append(torch.from_numpy(half * weights))
    steps = torch.cat(time)
    return torch.matrix_exp(-L * steps[:, None, None]), torch.cat(weight)


def differences(flow: Tensor) -> Tensor:
    return flow.unsqueeze(2) - flow.unsqueeze(1)  # [t, i, j, source]


def by_integral(A: Tensor, longest: float = 400.0) -> Tensor:
    flow, weight = flows(laplacian(A), longest)
    squares = differences(flow).square().sum(-1)
    return 2 * torch.einsum('t,tij->ij', weight, squares)


def close(found: Tensor, expected: Tensor) -> None:
    # Both oracles are right to some 1e-12 of the largest entry.
    torch.testing.assert_close(
        found, expected, rtol=1e-8, atol=1e-9 * expected.abs().max().item()
    )


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('size', [2, 3, 8, 33])
def test_is_young_s_definition_on_causal_graphs(method: Any, size: int) -> None:
    A = random_causal(size, size, density=0.7)
    close(lyapunov_resistance(A, method=method), by_reduction(A))


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('seed', [0, 1])
def test_is_the_integral_on_causal_graphs(method: Any, seed: int) -> None:
    A = random_causal(7, seed, density=0.7)
    close(lyapunov_resistance(A, method=method), by_integral(A))


@pytest.mark.parametrize(
    'A',
    [
        pytest.param(random_digraph(7, 0), id='one_root'),
        pytest.param(random_walk(7, 1), id='strongly_connected'),
        pytest.param(random_walk(7, 2) ** 6, id='heterogeneous'),
        pytest.param(
            torch.cat(
                [
                    torch.nn.functional.pad(random_walk(3, 3), (0, 4)),
                    random_causal(7, 4)[3:],
                ]
            ),
            id='prefix',
        ),
        pytest.param(random_causal(6, 5).flip(0, 1), id='last_is_root'),
    ],
)
def test_is_young_s_definition_on_any_digraph(A: Tensor) -> None:
    r = lyapunov_resistance(A)
    close(r, by_reduction(A))
    close(r, by_integral(A, 1e5))
    torch.testing.assert_close(r, r.mT)


@pytest.mark.parametrize('method', METHODS)
def test_directed_path(method: Any) -> None:
    i = torch.arange(8).double()
    path = torch.diag(torch.ones(7), -1)
    torch.testing.assert_close(
        lyapunov_resistance(path, method=method),
        2 * (i.unsqueeze(1) - i).abs(),
    )


@pytest.mark.parametrize('size', [2, 3, 6, 11])
def test_directed_cycle(size: int) -> None:
    i = torch.arange(size)
    cycle = torch.zeros(size, size).index_put(
        ((i + 1) % size, i), torch.ones(1)
    )
    gap = (i.unsqueeze(1) - i).abs()
    expected = (2 * gap * (size - gap)).double() / size
    torch.testing.assert_close(
        lyapunov_resistance(cycle), expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
    ('long', 'short'), [(1, 1), (2, 1), (3, 3), (5, 2), (6, 5), (9, 4)]
)
def test_two_branches_from_a_common_root(
    method: Any, long: int, short: int
) -> None:
    size = 1 + long + short
    A = torch.zeros(size, size)
    for i in range(1, size):
        A[i, 0 if i == long + 1 else i - 1] = 1
    total = sum(
        i * math.comb(long + short + 2, long + 2 * i + 1)
        for i in range(1, (short + 1) // 2 + 1)
    )
    expected = 2 * (long - short) + 2.0 ** (3 - long - short) * total
    r = lyapunov_resistance(A, method=method)
    assert r[long, -1].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_undirected_graphs_have_the_classical_resistance(seed: int) -> None:
    graph = nx.connected_watts_strogatz_graph(9, 4, 0.5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for i, j in graph.edges:
        draw = torch.rand((), generator=generator).item()
        graph.edges[i, j]['weight'] = 0.1 + draw
    A = torch.from_numpy(nx.to_numpy_array(graph))
    expected = nx.resistance_distance(
        graph, weight='weight', invert_weight=False
    )
    dense = torch.tensor(
        [[expected[i][j] for j in range(9)] for i in range(9)],
        dtype=torch.float64,
    )
    close(lyapunov_resistance(A), dense)


def test_normal_laplacians_have_that_of_their_symmetric_part() -> None:
    # Circulant matrices are normal.
    weight = torch.tensor([0.0, 0.5, 0.1, 0.3, 0.0, 0.2, 0.7]).double()
    A = torch.stack([weight.roll(i) for i in range(7)])
    assert not torch.equal(A, A.mT)
    expected = effective_resistance((A + A.mT) / 2, kind='undirected')
    close(lyapunov_resistance(A), expected)


def test_uniform_attention() -> None:
    r = lyapunov_resistance(static_key(torch.ones(3)))
    expected = [4, 31 / 7, 19 / 7]
    found = [r[1, 0].item(), r[2, 0].item(), r[2, 1].item()]
    assert found == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize('method', METHODS)
def test_pure_sink(method: Any) -> None:
    sink = torch.zeros(6, 6)
    sink[:, 0] = 1
    expected = 2 * (1 - torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(
        lyapunov_resistance(sink, method=method), expected
    )


def test_mostly_itself_and_the_rest_on_a_sink() -> None:
    eps = 0.125
    A = (1 - eps) * torch.eye(6, dtype=torch.float64)
    A[:, 0] = eps
    r = lyapunov_resistance(A)
    torch.testing.assert_close(r, 2 / eps * (1 - torch.eye(6).double()))


def test_the_resistance_itself_is_no_metric() -> None:
    A = torch.tensor([[1, 0, 0], [0.1, 0.9, 0], [0.5, 0.5, 0]]).double()
    A[1, 0], A[1, 1] = 1 / 10, 9 / 10  # not through float32
    r = lyapunov_resistance(A)
    assert r[1, 0].item() == pytest.approx(20, rel=1e-13)
    assert r[1, 2].item() == pytest.approx(62 / 11, rel=1e-13)
    assert r[2, 0].item() == pytest.approx(82 / 11, rel=1e-13)
    assert r[1, 0] > r[1, 2] + r[2, 0]


@SETTINGS
@given(size=st.integers(2, 9), seed=st.integers(0, 999), causal=st.booleans())
def test_its_root_is_a_euclidean_metric(
    size: int, seed: int, causal: bool
) -> None:
    A = random_causal(size, seed, 0.6) if causal else random_digraph(size, seed)
    r = lyapunov_resistance(A)
    root = r.sqrt()
    through = root.unsqueeze(2) + root.unsqueeze(0)
    # Rounding of some 1e-13 of the largest, by the square root of it.
    assert (through.amin(1) + 1e-6 * root.max() >= root).all()
    centre = torch.eye(size, dtype=torch.float64) - 1 / size
    gram = -centre @ r @ centre / 2
    assert torch.linalg.eigvalsh(gram).min() >= -1e-10 * r.max()
    assert (r + torch.eye(size) > 0).all()


@SETTINGS
@given(size=st.integers(2, 8), seed=st.integers(0, 999))
def test_coupling_bounds_of_the_resistance_to_the_root(
    size: int, seed: int
) -> None:
    A = random_causal(size, seed, density=0.7)
    r = lyapunov_resistance(A)[1:, 0]
    # E[min(T_0, T_0')] of two independent walks from i, in one linear system.
    L = laplacian(A)[1:, 1:]
    eye = torch.eye(size - 1, dtype=torch.float64)
    both = torch.kron(L, eye) + torch.kron(eye, L)
    ones = torch.ones((size - 1) ** 2, dtype=torch.float64)
    pairs = torch.linalg.solve(both, ones).reshape(size - 1, size - 1)
    first = pairs.diagonal()
    assert (2 * first <= r * (1 + 1e-10)).all()
    assert (r <= 4 * first * (1 + 1e-10)).all()
    assert (first <= absorption_time(A)[1:] * (1 + 1e-10)).all()


@pytest.mark.parametrize('seed', range(3))
def test_total_variation_bounds_the_resistance(seed: int) -> None:
    A = random_causal(7, seed, density=0.7)
    flow, weight = flows(laplacian(A), 400.0)
    variation = differences(flow).abs().sum(-1) / 2
    bound = 4 * torch.einsum('t,tij->ij', weight, variation.square())
    r = lyapunov_resistance(A)
    # The variation has kinks, on which Gauss' rule is right to three digits.
    assert (r <= bound * (1 + 1e-3)).all()
    assert (r > 0.5 * bound - 1e-9).all()


def test_is_a_series_over_numbers_of_hops() -> None:
    A = random_causal(6, 3, density=0.8)
    powers, depth = [torch.eye(6, dtype=torch.float64)], 300
    assert A.diagonal()[1:].max() < 0.9  # 0.9^600 is far below 1e-16
    for _ in range(depth):
        powers.append(powers[-1] @ A)
    walks = torch.stack(powers)  # [k, i, source]
    k = torch.arange(depth + 1).double()
    total = k.unsqueeze(1) + k
    choose = torch.lgamma(total + 1) - torch.lgamma(k + 1)
    choose = choose - torch.lgamma(k + 1).unsqueeze(1)
    weight = (choose - total * math.log(2)).exp()
    gaps = walks.unsqueeze(2) - walks.unsqueeze(1)
    expected = torch.einsum('kl,kijs,lijs->ij', weight, gaps, gaps)
    # lgamma of 600 has an absolute error of some 1e-12.
    torch.testing.assert_close(
        lyapunov_resistance(A), expected, rtol=1e-9, atol=1e-10
    )


@SETTINGS
@given(size=st.integers(2, 9), seed=st.integers(0, 999))
def test_prefixes_are_consistent(size: int, seed: int) -> None:
    A = random_causal(size + 3, seed, density=0.7)
    for method in ('recursive', 'smith'):
        torch.testing.assert_close(
            lyapunov_resistance(A, method=method)[:size, :size],  # type: ignore[arg-type]
            lyapunov_resistance(A[:size, :size]),
            rtol=1e-10,
            atol=1e-10,
        )


@pytest.mark.parametrize('size', [32, 33, 34, 64, 65, 66, 100])
@pytest.mark.parametrize('root', ['keep', 'leak'])
def test_methods_and_precisions_agree(size: int, root: Any) -> None:
    A = random_causal(size, size, density=0.5)
    expected = lyapunov_resistance(A, root=root, method='recursive')
    smith = lyapunov_resistance(A, root=root, method='smith')
    torch.testing.assert_close(smith, expected, rtol=1e-11, atol=1e-13)
    for method in METHODS:
        single = lyapunov_resistance(
            A,
            root=root,
            method=method,  # type: ignore[arg-type]
            dtype=torch.float32,
        )
        assert single.dtype == torch.float32
        # The difference of pairs may lose a digit of six.
        torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize('method', METHODS)
def test_leaking_roots_lose_what_reaches_them(method: Any) -> None:
    A = random_causal(7, 6)
    r = lyapunov_resistance(A, root='leak', method=method)
    # Noise at the tokens alone: 2 int (e_i - e_j)^T e^{-Lt} without source 0.
    flow, weight = flows(laplacian(A), 400.0)
    squares = differences(flow)[..., 1:].square().sum(-1)
    close(r, 2 * torch.einsum('t,tij->ij', weight, squares))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('causal', [True, False])
def test_batches(dtype: torch.dtype, causal: bool) -> None:
    make = random_causal if causal else random_digraph
    graphs = [make(6, seed) for seed in range(6)]
    batch = torch.stack(graphs).reshape(2, 3, 6, 6)
    for method in ('auto', 'smith'):
        r = lyapunov_resistance(batch, method=method, dtype=dtype)  # type: ignore[arg-type]
        assert r.shape == (2, 3, 6, 6)
        assert r.dtype == dtype
        for i, A in enumerate(graphs):
            torch.testing.assert_close(
                r[i // 3, i % 3].double(),
                lyapunov_resistance(A),
                rtol=1e-10 if dtype == torch.float64 else 1e-4,
                atol=1e-12,
            )


def test_a_batch_of_causal_and_other_graphs() -> None:
    graphs = torch.stack([random_causal(5, 0), random_digraph(5, 1)])
    r = lyapunov_resistance(graphs)
    for found, A in zip(r, graphs, strict=True):
        torch.testing.assert_close(found, lyapunov_resistance(A))


def test_edges() -> None:
    A = torch.stack([random_causal(6, 7), random_causal(6, 8)])
    edge_index, weight = edges_of(A[0])
    torch.testing.assert_close(
        lyapunov_resistance(edge_index, weight), lyapunov_resistance(A[0])
    )
    heads = A[:, edge_index[1], edge_index[0]].mT.contiguous()
    torch.testing.assert_close(
        lyapunov_resistance(edge_index, heads), lyapunov_resistance(A)
    )


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_packed_documents(dtype: torch.dtype) -> None:
    first, second = random_causal(4, 9), random_causal(3, 10)
    r = lyapunov_resistance(torch.block_diag(first, second), dtype=dtype)
    tight = {'rtol': 1e-10, 'atol': 1e-10}
    loose = {'rtol': 1e-6, 'atol': 1e-6}
    tolerance = tight if dtype == torch.float64 else loose
    for block, document in ((r[:4, :4], first), (r[4:, 4:], second)):
        torch.testing.assert_close(
            block.double(), lyapunov_resistance(document), **tolerance
        )
    assert r[:4, 4:].isinf().all()
    assert r[4:, :4].isinf().all()


def test_documents_that_are_not_causal_within() -> None:
    first, second = random_walk(4, 11), random_digraph(5, 12)
    r = lyapunov_resistance(torch.block_diag(first, second))
    close(r[:4, :4], by_reduction(first))
    close(r[4:, 4:], by_reduction(second))
    assert r[:4, 4:].isinf().all()


def test_two_roots_with_equal_and_with_other_odds() -> None:
    A = torch.zeros(6, 6, dtype=torch.float64)
    A[0, 0] = A[1, 1] = 1
    A[2, :2] = 0.5
    A[3, [2, 0, 1]] = torch.tensor([0.5, 0.25, 0.25]).double()
    A[4, [0, 1]] = torch.tensor([0.75, 0.25]).double()
    A[5, 0] = 1
    r = lyapunov_resistance(A)
    # 2 and 3 end at either root with probability 1/2, the others never agree.
    agree = torch.eye(6, dtype=torch.bool)
    agree[2, 3] = agree[3, 2] = True
    agree[0, 5] = agree[5, 0] = True
    assert torch.equal(r.isfinite(), agree)
    expected = by_integral(A)
    close(r[agree], expected[agree])
    # d = e^{-t} (e_5 - e_0): 2 int 2 e^{-2t}.
    assert r[5, 0].item() == pytest.approx(2)


@pytest.mark.parametrize('seed', range(4))
def test_equal_odds_up_to_rounding_stay_finite(seed: int) -> None:
    # Tokens from 2 on reach the roots 0 and 1 alike, over many routes.
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(40, 40, generator=generator).double().tril()
    A[:2] = torch.eye(40)[:2]
    A[:, 1] = A[:, 0]
    A[:2] = torch.eye(40)[:2].double()
    r = lyapunov_resistance(A)
    assert r[2:, 2:].isfinite().all()
    assert r[:2, 2:].isinf().all()


@pytest.mark.parametrize('scale', [1e-12, 1e-3, 1e12])
@pytest.mark.parametrize(
    'A',
    [
        pytest.param(random_causal(7, 13), id='causal'),
        pytest.param(random_walk(7, 14), id='strong'),
        pytest.param(random_digraph(7, 15), id='root'),
        pytest.param(
            torch.block_diag(random_causal(3, 16), random_causal(4, 17)),
            id='packed',
        ),
    ],
)
def test_weights_have_a_scale(A: Tensor, scale: float) -> None:
    r = lyapunov_resistance(A)
    torch.testing.assert_close(
        scale * lyapunov_resistance(scale * A), r, rtol=1e-9, atol=1e-9
    )


def test_rows_of_very_different_scale() -> None:
    # Leave rates over 12 orders of magnitude; a star by hand.
    rate = 10.0 ** -torch.arange(0, 13, 2).double()
    A = torch.zeros(8, 8, dtype=torch.float64)
    A[1:, 0] = rate
    # d = (e^{-a t}, -e^{-b t}, e^{-b t} - e^{-a t}) on tokens i, j and root.
    expected = 2 / rate.unsqueeze(1) + 2 / rate
    expected = expected - 4 / (rate.unsqueeze(1) + rate)
    expected.fill_diagonal_(0)
    for method in METHODS:
        r = lyapunov_resistance(A, method=method)  # type: ignore[arg-type]
        # Smith's step is 1 - 2 rate at a slow token, which rounds.
        rtol = 1e-3 if method == 'smith' else 1e-12
        torch.testing.assert_close(r[1:, 0], 2 / rate, rtol=rtol, atol=0)
        torch.testing.assert_close(r[1:, 1:], expected, rtol=rtol, atol=0)


def test_slow_exchange_between_two_halves() -> None:
    # A strongly connected graph, and nearly two: Young's definition.
    A = torch.block_diag(random_walk(3, 18), random_walk(4, 19))
    A[0, 3], A[4, 1] = 1e-6, 3e-6
    r, expected = lyapunov_resistance(A), by_reduction(A)
    # A conditioning of 1e6 costs the oracle and us six digits.
    torch.testing.assert_close(r, expected, rtol=1e-7, atol=0)
    assert r[0, 4] > 1e4


def test_no_token_moves() -> None:
    r = lyapunov_resistance(torch.eye(4))
    assert not r.diagonal().any()
    assert r[~torch.eye(4, dtype=torch.bool)].isinf().all()


@pytest.mark.parametrize('method', METHODS)
def test_one_and_two_tokens(method: Any) -> None:
    for A in (torch.ones(1, 1), torch.zeros(1, 1)):
        assert lyapunov_resistance(A, method=method).tolist() == [[0]]
    pair = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    # r = 1 / l times 2 int 2 e^{-2t}.
    r = lyapunov_resistance(pair, method=method)
    assert r.tolist() == [[0, 8], [8, 0]]


def test_totals_and_conductances() -> None:
    A = random_causal(6, 20)
    r = lyapunov_resistance(A)
    total = total_resistance(A, kind='lyapunov')
    assert total.item() == pytest.approx(r.sum().item() / 2, rel=1e-13)
    torch.testing.assert_close(effective_resistance(A, kind='lyapunov'), r)
    packed = torch.block_diag(A, A)
    C = effective_resistance(packed, kind='lyapunov', conductance=True)
    assert C.isfinite().all()
    assert not C[:6, 6:].any()
    assert not C.diagonal().any()
    assert total_resistance(packed, kind='lyapunov').isinf()


CASES = [
    pytest.param(torch.ones(4, 4).tril(), {'method': 'recursive'}, id='rows'),
    pytest.param(torch.ones(4, 4).tril(), {'method': 'smith'}, id='smith'),
    pytest.param(torch.ones(4, 4).tril(), {'root': 'leak'}, id='leak'),
    pytest.param(torch.ones(4, 4), {}, id='strong'),
    pytest.param(
        torch.cat([torch.eye(4)[:1], torch.ones(3, 4)]), {}, id='digraph'
    ),
    pytest.param(
        torch.block_diag(torch.ones(2, 2).tril(), torch.ones(3, 3)),
        {},
        id='packed',
    ),
]


@pytest.mark.parametrize(('mask', 'options'), CASES)
def test_gradients_of_both_orders(
    mask: Tensor, options: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(21)
    logits = torch.randn(mask.shape, generator=generator, dtype=torch.float64)
    finite = lyapunov_resistance(mask, **options).isfinite()

    def resistance(logits: Tensor) -> Tensor:
        A = logits.masked_fill(mask == 0, -math.inf).softmax(-1)
        return lyapunov_resistance(A, **options)[finite]

    assert torch.autograd.gradcheck(resistance, logits.requires_grad_())
    assert torch.autograd.gradgradcheck(resistance, logits)


@pytest.mark.parametrize('causal', [True, False])
def test_gradients_with_infinite_pairs_are_numbers(causal: bool) -> None:
    A = torch.block_diag(random_causal(4, 22), random_causal(3, 23))
    A = A if causal else A.flip(0, 1)
    A.requires_grad_()
    for conductance in (True, False):
        pairs = effective_resistance(
            A, kind='lyapunov', conductance=conductance
        )
        (grad,) = torch.autograd.grad(pairs[pairs.isfinite()].sum(), A)
        assert grad.isfinite().all()


@pytest.mark.parametrize(
    ('A', 'options', 'match'),
    [
        (torch.eye(3), {'root': 'keeps'}, "'keep' or 'leak'"),
        (torch.eye(3), {'method': 'rows'}, "'recursive' or 'smith'"),
        (torch.eye(3), {'method': 'recursive'}, "method='smith'"),
        (torch.ones(3, 3), {'method': 'recursive'}, "method='smith'"),
        (torch.ones(3, 3), {'root': 'leak'}, "root='keep'"),
        (-torch.ones(3, 3).tril(), {}, 'non-negative'),
        (torch.ones(3, 3), {'dtype': torch.float16}, 'float64'),
    ],
)
def test_errors(A: Tensor, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        lyapunov_resistance(A, **options)
