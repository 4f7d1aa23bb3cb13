import math
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal, random_digraph
from torch import Tensor

from gnnbridge.spectral.laplacian import laplacian, leave_rate
from gnnbridge.spectral.resistance import (
    effective_resistance,
    total_resistance,
)

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)
EYE = torch.eye(16, dtype=torch.float64)


def random_network(size: int, seed: int) -> tuple[Tensor, Any]:
    """Random connected undirected weights, and the same in networkx."""
    graph = nx.connected_watts_strogatz_graph(size, 4, 0.5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    A = torch.zeros(size, size, dtype=torch.float64)
    for i, j in graph.edges:
        weight = 0.1 + torch.rand((), generator=generator).item()
        graph.edges[i, j]['weight'] = weight
        A[i, j] = A[j, i] = weight
    return A, graph


def static_key(weight: Tensor) -> Tensor:
    A = weight.double().expand(len(weight), -1).tril()
    return A / A.sum(1, keepdim=True)


def escape_by_definition(A: Tensor, killed: float = 0.0) -> Tensor:
    """d_u P_u[T_v < T_u^+] from one Dirichlet problem for each pair.

    With f(v) = 1, f(u) = 0, f = 0 at roots, and f harmonic elsewhere, it is
    the flow sum_k A_uk f(k).
    """
    size = A.size(0)
    degree = A.sum(1)
    follow = 1 - killed
    out = torch.zeros_like(A)
    for u in range(size):
        for v in range(size):
            if u == v:
                continue
            system = torch.diag(degree) - follow * A
            value = torch.zeros(size, dtype=A.dtype)
            fixed = [u, v]
            if not killed:
                off = A - torch.diag(A.diagonal())
                fixed += (off.sum(1) == 0).nonzero().flatten().tolist()
            for k in fixed:
                system[k] = EYE[k, :size]
            value[v] = 1
            f = torch.linalg.solve(system, value)
            flow = f.clone()
            flow[u] = 0
            out[u, v] = follow * A[u] @ flow
            if not killed and A[u].sum() == A[u, u]:
                out[u, v] = 0
    return out


def off_diagonal(pairs: Tensor) -> Tensor:
    return pairs[~torch.eye(len(pairs), dtype=torch.bool)]


@pytest.mark.parametrize(
    'w',
    [
        pytest.param(torch.ones(9), id='uniform'),
        pytest.param(torch.tensor([5.0, 1, 1, 1, 1, 1]), id='sink'),
        pytest.param(0.7 ** -torch.arange(7.0), id='alibi'),
    ],
)
def test_static_keys_in_closed_form(w: Tensor) -> None:
    size, w = len(w), w.double()
    W = w.cumsum(0)
    A = static_key(w)
    causal = effective_resistance(A)
    rho = w / W[-1]
    metric = effective_resistance(A, kind='restart', restart=rho)
    for i in range(1, size):
        assert causal[i, 0].item() == pytest.approx(W[i] / W[i - 1])
        for j in range(1, i):
            expected = W[i] / W[i - 1] * W[j] / w[j]
            assert causal[i, j].item() == pytest.approx(expected.item())
        for j in range(i):
            expected = W[-1] / W[-1] * (W[i] / w[i] + W[j] / w[j] - 1)
            assert metric[i, j].item() == pytest.approx(expected.item())


def test_uniform_attention_in_closed_form() -> None:
    n = 11
    A = static_key(torch.ones(n))
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing='ij')
    expected = ((i + 1) * (j + 1) / i).tril(-1)
    expected[:, 0] = (i[:, 0] + 1) / i[:, 0]
    R = effective_resistance(A).tril(-1)
    # The expected values passed through float32.
    torch.testing.assert_close(
        R[1:], expected[1:].double().tril(0), rtol=1e-6, atol=0
    )
    metric = effective_resistance(A, kind='restart')
    torch.testing.assert_close(metric, ((i + j + 1) * (i != j)).double())
    total = total_resistance(A, kind='restart')
    assert total.item() == pytest.approx(n * n * (n - 1) / 2)


def test_a_sink_adds_to_every_pair() -> None:
    n, strength = 8, 6.0
    plain, sink = torch.ones(n), torch.ones(n)
    sink[0] = strength
    R = [
        effective_resistance(
            static_key(w), kind='restart', restart=w / w.sum()
        )[1:, 1:]
        for w in (plain, sink)
    ]
    added = off_diagonal(R[1] - R[0])
    # r = 2 s + i + j - 1, against i + j + 1
    expected = torch.full_like(added, 2 * strength - 2)
    torch.testing.assert_close(added, expected)


def test_path_and_pure_sink() -> None:
    path = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    R = effective_resistance(path)
    ones = torch.ones(5, 5, dtype=torch.float64)
    assert torch.equal(R.tril(-1), ones.tril(-1))
    assert R.triu(1)[R.triu(1) != 0].isinf().all()
    sink = torch.zeros(5, 5)
    sink[:, 0] = 1
    R = effective_resistance(sink)
    assert R[1:, 0].tolist() == [1, 1, 1, 1]
    assert off_diagonal(R[1:, 1:]).isinf().all()
    assert not R.diagonal().any()


@pytest.mark.parametrize('seed', [0, 1])
def test_causal_is_the_escape_definition(seed: int) -> None:
    A = random_causal(8, seed, density=0.5)
    C = effective_resistance(A, conductance=True)
    torch.testing.assert_close(
        off_diagonal(C),
        off_diagonal(escape_by_definition(A)),
        rtol=1e-10,
        atol=1e-12,
    )
    torch.testing.assert_close(C.diagonal(), leave_rate(A))
    torch.testing.assert_close(
        effective_resistance(A, kind='escape', conductance=True), C
    )


@pytest.mark.parametrize('hops', [None, 2.0])
def test_escape_is_its_definition_on_a_digraph(hops: float | None) -> None:
    A = random_digraph(7, 2)
    killed = 0.0 if hops is None else 1 / (1 + hops)
    C = effective_resistance(A, kind='escape', hops=hops, conductance=True)
    torch.testing.assert_close(
        off_diagonal(C),
        off_diagonal(escape_by_definition(A, killed)),
        rtol=1e-10,
        atol=1e-12,
    )


def test_escape_is_the_kron_reduction() -> None:
    A = random_causal(8, 3)
    L = laplacian(A)
    C = effective_resistance(A, kind='escape', conductance=True)
    for i, j in [(7, 3), (5, 1), (4, 2)]:
        keep = [0, j, i]
        rest = [k for k in range(8) if k not in keep]
        inner = torch.linalg.solve(L[rest][:, rest], L[rest][:, keep])
        reduced = L[keep][:, keep] - L[keep][:, rest] @ inner
        torch.testing.assert_close(C[i, j], -reduced[2, 1])


def test_escape_tends_to_the_classical_resistance() -> None:
    A, graph = random_network(9, 0)
    R = effective_resistance(A, kind='escape', hops=1e8)
    expected = nx.resistance_distance(
        graph, weight='weight', invert_weight=False
    )
    for i in range(9):
        for j in range(9):
            # The killing is a leak of relative weight 1e-8.
            assert R[i, j].item() == pytest.approx(expected[i][j], rel=1e-5)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_undirected_equals_networkx(seed: int) -> None:
    A, graph = random_network(11, seed)
    expected = nx.resistance_distance(
        graph, weight='weight', invert_weight=False
    )
    R = effective_resistance(A, kind='undirected')
    dense = torch.tensor(
        [[expected[i][j] for j in range(11)] for i in range(11)],
        dtype=torch.float64,
    )
    torch.testing.assert_close(R, dense, rtol=1e-9, atol=1e-12)
    kirchhoff = nx.effective_graph_resistance(
        graph, weight='weight', invert_weight=False
    )
    total = total_resistance(A, kind='undirected')
    assert total.item() == pytest.approx(kirchhoff, rel=1e-9)
    C = effective_resistance(A, kind='undirected', conductance=True)
    torch.testing.assert_close(off_diagonal(C * R), torch.ones(110).double())
    assert not C.diagonal().any()


def test_undirected_components_are_infinitely_apart() -> None:
    pair, path = torch.ones(2, 2), torch.ones(3, 3)
    path[0, 2] = path[2, 0] = 0
    R = effective_resistance(torch.block_diag(pair, path), kind='undirected')
    assert R[:2, 2:].isinf().all()
    assert R[2:, :2].isinf().all()
    torch.testing.assert_close(
        R[2:, 2:], torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]]).double()
    )
    batch = torch.stack([torch.block_diag(pair, path), torch.ones(5, 5)])
    R = effective_resistance(batch, kind='undirected')
    # Complete graph: 2 / n.
    torch.testing.assert_close(R[1], 0.4 * (1 - EYE[:5, :5]))


@pytest.mark.parametrize('kind', ['causal', 'escape', 'restart'])
def test_hops_add_a_cemetery(kind: Any) -> None:
    A, hops = random_causal(6, 14), 3.0
    follow = hops / (1 + hops)
    P = torch.zeros(7, 7, dtype=torch.float64)
    P[0, 0] = 1
    P[1:, 0] = 1 - follow
    P[1:, 1:] = follow * A
    rho = torch.full((6,), 1 / 6, dtype=torch.float64)
    options = {'restart': torch.cat([rho.new_zeros(1), rho])}
    expected = effective_resistance(
        P, kind=kind, **(options if kind == 'restart' else {})
    )[1:, 1:]
    torch.testing.assert_close(
        effective_resistance(A, kind=kind, hops=hops), expected
    )


def test_total_of_a_causal_graph() -> None:
    n = 7
    A = static_key(torch.ones(n))
    expected = sum((i + 1) / i for i in range(1, n)) + sum(
        (i + 1) * (j + 1) / i for i in range(n) for j in range(1, i)
    )
    assert total_resistance(A).item() == pytest.approx(expected)
    A = torch.stack([A, EYE[:n, :n]])
    assert total_resistance(A).tolist() == pytest.approx([expected, math.inf])


def test_float32_edges_give_float64() -> None:
    A = random_causal(6, 15).float()
    target, source = A.nonzero(as_tuple=True)
    edge_index = torch.stack([source, target])
    weight = A[target, source]
    for kind in ('causal', 'escape', 'restart'):
        from_edges = effective_resistance(edge_index, weight, kind=kind)
        assert from_edges.dtype == torch.float64
        torch.testing.assert_close(
            from_edges, effective_resistance(A, kind=kind)
        )


@pytest.mark.parametrize('kind', ['causal', 'escape', 'restart'])
@pytest.mark.parametrize('hops', [None, 2.0])
def test_gradients(kind: Any, hops: float | None) -> None:
    generator = torch.Generator().manual_seed(16)
    logits = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    mask = torch.ones(5, 5).triu(1).bool()

    def resistance(logits: Tensor) -> Tensor:
        A = logits.masked_fill(mask, -math.inf).softmax(-1)
        R = effective_resistance(A, kind=kind, hops=hops)
        return R[R.isfinite()]

    assert torch.autograd.gradcheck(resistance, logits.requires_grad_())


def test_gradient_of_the_classical_resistance() -> None:
    half, _ = random_network(6, 3)
    weight = half.triu().sqrt().requires_grad_()

    def resistance(weight: Tensor) -> Tensor:
        A = weight.triu(1).square()
        return effective_resistance(A + A.mT, kind='undirected')

    assert torch.autograd.gradcheck(resistance, weight)


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'kind': 'undirected'}, "kind='escape'"),
        ({'kind': 'undirected', 'hops': 2.0}, 'hops=None'),
        ({'restart': 'last'}, "kind='restart'"),
        ({'kind': 'restart', 'restart': 'first'}, "'last'"),
        ({'kind': 'restart', 'restart': torch.ones(4)}, 'sum to one'),
        ({'kind': 'restart', 'restart': torch.ones(3) / 3}, '4 non-neg'),
        ({'hops': -1.0}, 'hops'),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        effective_resistance(random_causal(4, 0), **options)


def test_unknown_kind_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="'causal', 'restart', 'lyapunov'"):
        effective_resistance(random_causal(4, 0), kind='commute')  # type: ignore[arg-type]


def test_causal_names_the_edge_that_is_not() -> None:
    A = random_causal(5, 0)
    A[1, 3] = 0.1
    with pytest.raises(ValueError, match='later token 3 to token 1'):
        effective_resistance(A)


@SETTINGS
@given(
    size=st.integers(2, 10),
    seed=st.integers(0, 999),
    hops=st.one_of(st.none(), st.floats(0.1, 50)),
)
def test_direct_edge_and_leave_rate_bound_the_causal_kind(
    size: int, seed: int, hops: float | None
) -> None:
    A = random_causal(size, seed, density=0.6)
    C = effective_resistance(A, hops=hops, conductance=True)
    follow = 1.0 if hops is None else hops / (1 + hops)
    below = torch.ones(size, size).tril(-1).bool()
    rate = follow * leave_rate(A) + (1 - follow)
    # Equalities (a single route) hold up to rounding.
    assert (follow * A - 1e-14 <= C)[below].all()
    assert (rate.unsqueeze(1) + 1e-14 >= C)[below].all()
    R = effective_resistance(A, hops=hops)
    torch.testing.assert_close(
        (C * R)[below & (C > 0)], (C / C)[below & (C > 0)]
    )
    assert torch.equal(R.isinf(), (C == 0) & (R > 0))


@SETTINGS
@given(size=st.integers(2, 9), seed=st.integers(0, 999))
def test_prefixes_of_the_causal_kind_are_consistent(
    size: int, seed: int
) -> None:
    A = random_causal(size + 2, seed, density=0.7)
    torch.testing.assert_close(
        effective_resistance(A)[:size, :size],
        effective_resistance(A[:size, :size]),
    )
