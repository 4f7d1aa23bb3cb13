"""Odd and wrong input to every public function."""

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from matrices import edges_of, random_causal, random_walk
from torch import Tensor

import gnnbridge.spectral as spectral
from gnnbridge.spectral.cache import ResistanceCache
from gnnbridge.spectral.gradient import resistance_gradient
from gnnbridge.spectral.green import absorption_time, hitting_probability
from gnnbridge.spectral.laplacian import laplacian, leave_rate
from gnnbridge.spectral.layered import envelope_hitting, layered_influence
from gnnbridge.spectral.lyapunov import lyapunov_resistance
from gnnbridge.spectral.resistance import (
    effective_resistance,
    total_resistance,
)
from gnnbridge.spectral.restart import commute_time
from gnnbridge.spectral.rollout import attention_rollout, rms_rollout
from gnnbridge.spectral.sketch import resistance_sketch
from gnnbridge.spectral.spectrum import (
    fiedler_vector,
    magnetic_laplacian,
    singular_values,
    spectral_gap,
)

Call: TypeAlias = Callable[..., Any]


def _of_kind(kind: str) -> Call:
    def resistance(*given: Any, **options: Any) -> Tensor:
        return effective_resistance(*given, kind=kind, **options)  # type: ignore[arg-type]

    return resistance


def _of_operator(operator: str) -> Call:
    def gap(*given: Any, **options: Any) -> Tensor:
        return spectral_gap(*given, operator=operator, **options)  # type: ignore[arg-type]

    return gap


def _two_layers(function: Call, *, heads: bool = False) -> Call:
    def layered(A: Tensor, **options: Any) -> Any:
        A = A.unsqueeze(-3) if heads else A
        return function([A, A], **options)

    return layered


def _cached(A: Tensor, **options: Any) -> Tensor:
    cache = ResistanceCache(**options)
    for i in range(A.size(-1)):
        cache.append(A[..., i, : i + 1])
    return cache.effective_resistance()


# Functions of a graph, by edges or by a matrix.
OF_GRAPH: dict[str, Call] = {
    'laplacian': laplacian,
    'leave_rate': leave_rate,
    'absorption_time': absorption_time,
    'hitting_probability': hitting_probability,
    'causal': effective_resistance,
    'escape': _of_kind('escape'),
    'restart': _of_kind('restart'),
    'lyapunov': _of_kind('lyapunov'),
    'total_resistance': total_resistance,
    'commute_time': commute_time,
    'lyapunov_resistance': lyapunov_resistance,
    'resistance_gradient': resistance_gradient,
    'resistance_sketch': resistance_sketch,
    'gap_symmetric': _of_operator('symmetric'),
    'gap_restart': _of_operator('restart'),
    'gap_singular': _of_operator('singular'),
    'gap_walk': _of_operator('walk'),
    'singular_values': singular_values,
    'fiedler_vector': fiedler_vector,
    'magnetic_laplacian': magnetic_laplacian,
}
# Functions of a stack of matrices, here of the same one twice.
OF_LAYERS: dict[str, Call] = {
    'attention_rollout': _two_layers(attention_rollout),
    'layered_influence': _two_layers(layered_influence),
    'envelope_hitting': _two_layers(envelope_hitting),
    'rms_rollout': _two_layers(rms_rollout, heads=True),
}
CACHE: dict[str, Call] = {'cache': _cached}
ALL = {**OF_GRAPH, **OF_LAYERS, **CACHE}
IN_FLOAT64 = ['laplacian', 'leave_rate']
# These have no result for one token, or none for graphs without one root.
NOT_ALONE = ['fiedler_vector']
ONE_ROOT = ['resistance_sketch']


def values(found: Any) -> Tensor:
    """All results as one vector."""
    parts = found if isinstance(found, tuple) else (found,)
    flat = [torch.view_as_real(p) if p.is_complex() else p for p in parts]
    return torch.cat([part.flatten() for part in flat])


def test_nothing_public_is_left_out() -> None:
    tested = {
        *(function.__name__ for function in OF_GRAPH.values()),
        'attention_rollout',
        'layered_influence',
        'envelope_hitting',
        'rms_rollout',
        'effective_resistance',
        'spectral_gap',
        'ResistanceCache',
    }
    assert set(spectral.__all__) <= tested


@pytest.mark.parametrize('name', ALL)
def test_arguments_stay_as_they_are(name: str) -> None:
    for A in (random_causal(6, 0), random_causal(6, 0).float()):
        before = A.clone()
        assert not values(ALL[name](A)).isnan().any()
        assert torch.equal(A, before)
    if name not in OF_GRAPH:
        return
    for weight_dtype in (torch.float64, torch.float32):
        edge_index, weight = edges_of(random_causal(6, 0))
        weight = weight.to(weight_dtype)
        copies = edge_index.clone(), weight.clone()
        assert not values(ALL[name](edge_index, weight)).isnan().any()
        assert torch.equal(edge_index, copies[0])
        assert torch.equal(weight, copies[1])


@pytest.mark.parametrize(
    ('function', 'options'),
    [
        (hitting_probability, {'rows': torch.tensor([-1, 2])}),
        (effective_resistance, {'cols': torch.tensor([-1, 2])}),
        (effective_resistance, {'renormalize': True}),
        (effective_resistance, {'kind': 'undirected'}),
        (
            effective_resistance,
            {'kind': 'restart', 'restart': torch.full((6,), 1 / 6)},
        ),
        (resistance_gradient, {'pairs': torch.ones(6, 6)}),
        (lyapunov_resistance, {'method': 'smith'}),
        (lyapunov_resistance, {'root': 'leak'}),
    ],
)
def test_options_stay_as_they_are(
    function: Call, options: dict[str, Any]
) -> None:
    A = random_causal(6, 1)
    A = A + A.mT if options.get('kind') == 'undirected' else A
    given = {
        key: value.clone() if isinstance(value, Tensor) else value
        for key, value in options.items()
    }
    before = A.clone()
    assert function(A, **options).shape[-1] in (2, 6)
    assert torch.equal(A, before)
    for key, value in given.items():
        if isinstance(value, Tensor):
            assert torch.equal(options[key], value)


def test_layers_and_mixing_stay_as_they_are() -> None:
    A = torch.stack([random_causal(5, 2), random_causal(5, 3)])
    mixing = torch.rand(2, 5, generator=torch.Generator().manual_seed(4))
    copies = A.clone(), mixing.clone()
    for renormalize in (True, False):
        T, V = layered_influence(A, mixing, renormalize=renormalize)
        assert (T <= V + 1e-14).all()
    beta, gain = mixing.unsqueeze(1), mixing + 1
    for method in ('rademacher', 'exact'):
        assert (
            rms_rollout(
                A.unsqueeze(1),
                beta,
                token_gains=gain,
                method=method,  # type: ignore[arg-type]
            )
            .isfinite()
            .all()
        )
    assert torch.equal(A, copies[0])
    assert torch.equal(mixing, copies[1])
    assert torch.equal(gain, copies[1] + 1)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize(
    ('entry', 'match'),
    [(-0.1, 'non-negative'), (math.nan, 'finite'), (math.inf, 'finite')],
)
def test_entries_that_are_no_weights(
    name: str, entry: float, match: str
) -> None:
    A = random_causal(5, 5)
    A[3, 1] = entry
    with pytest.raises(ValueError, match=match):
        ALL[name](A)
    if name in OF_GRAPH:
        edge_index, weight = edges_of(A)
        with pytest.raises(ValueError, match=match):
            ALL[name](edge_index, weight)


@pytest.mark.parametrize('name', [*OF_GRAPH, *OF_LAYERS])
@pytest.mark.parametrize(
    'A',
    [
        torch.ones(2, 3),
        torch.ones(3),
        torch.ones(0, 0),
        torch.ones(4, 3, 2),
        torch.tensor(1.0),
    ],
)
def test_matrices_that_are_not_square(name: str, A: Tensor) -> None:
    if A.dim() < 2 and name == 'rms_rollout':
        A = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"square 'A'.*got \["):
        ALL[name](A)


@pytest.mark.parametrize('name', [*OF_GRAPH, *OF_LAYERS])
@pytest.mark.parametrize(
    'A',
    [
        torch.ones(3, 3, dtype=torch.bool),
        torch.ones(3, 3, dtype=torch.complex64),
        [[1.0]],
        None,
    ],
)
def test_what_is_no_matrix_of_numbers(name: str, A: Any) -> None:
    if not isinstance(A, Tensor) and name in OF_LAYERS:
        with pytest.raises((TypeError, AttributeError)):
            ALL[name](A)
        return
    with pytest.raises(TypeError, match='got'):
        ALL[name](A)


@pytest.mark.parametrize('name', OF_GRAPH)
def test_a_matrix_of_integers_is_taken_for_edges(name: str) -> None:
    with pytest.raises(ValueError, match=r"'edge_index'.*shape \[2, E\]"):
        ALL[name](torch.ones(3, 3, dtype=torch.int64).tril())


@pytest.mark.parametrize('name', OF_GRAPH)
def test_wrong_edges(name: str) -> None:
    call = ALL[name]
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
    with pytest.raises(ValueError, match='at least one edge'):
        call(edge_index[:, :0])
    with pytest.raises(ValueError, match='at least one edge'):
        call(edge_index[:, :0], num_nodes=3)
    with pytest.raises(ValueError, match='nodes 0 to 1'):
        call(edge_index, num_nodes=2)
    with pytest.raises(ValueError, match='-1'):
        call(edge_index - 1)
    with pytest.raises(ValueError, match='edges'):
        call(edge_index, torch.ones(2))
    with pytest.raises(TypeError, match='floating'):
        call(edge_index, torch.ones(3, dtype=torch.int64))
    with pytest.raises(TypeError, match='int64'):
        call(edge_index.int())
    with pytest.raises(ValueError, match="'edge_weight'"):
        call(torch.ones(3, 3).tril(), torch.ones(3))


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', [torch.float16, torch.int64, torch.complex64])
def test_precisions_to_compute_in(name: str, dtype: torch.dtype) -> None:
    if name in IN_FLOAT64:
        assert 'dtype' not in inspect.signature(ALL[name]).parameters
        return
    with pytest.raises(ValueError, match=r"'dtype' to be torch.float32 or"):
        ALL[name](random_causal(4, 6), dtype=dtype)


# What layered_influence makes of it is in test_layered.py: rows of a coarse
# dtype may be further from a sum of one.
@pytest.mark.parametrize('name', [n for n in ALL if n != 'layered_influence'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_attention_of_half_precision_is_upcast(
    name: str, dtype: torch.dtype
) -> None:
    A = random_causal(6, 7).to(dtype)
    found = values(ALL[name](A))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, values(ALL[name](A.double())))
    if name in OF_GRAPH:
        edge_index, weight = edges_of(A)
        from_edges = values(ALL[name](edge_index, weight))
        torch.testing.assert_close(from_edges, found, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('size', [1, 2])
def test_few_tokens(name: str, size: int) -> None:
    A = torch.tensor([[1.0, 0.0], [0.25, 0.75]])[:size, :size]
    if size == 1 and name in NOT_ALONE:
        with pytest.raises(ValueError, match='at least two'):
            ALL[name](A)
        return
    if size == 1 and name in ONE_ROOT:
        # Its failure takes long: see test_sketch.py.
        assert values(ALL['lyapunov_resistance'](A)).tolist() == [0]
        return
    found = values(ALL[name](A))
    assert found.numel() > 0
    assert not found.isnan().any()


def test_one_and_two_tokens_by_hand() -> None:
    one, two = torch.ones(1, 1), torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    assert laplacian(one).tolist() == [[0]]
    assert absorption_time(one).tolist() == [0]
    assert hitting_probability(one).tolist() == [[1]]
    for kind in ('causal', 'escape', 'restart', 'lyapunov', 'undirected'):
        R = effective_resistance(one, kind=kind)  # type: ignore[arg-type]
        assert R.tolist() == [[0]], kind
        total = total_resistance(one, kind=kind)  # type: ignore[arg-type]
        assert total.item() == 0
    assert resistance_gradient(one).tolist() == [[0]]
    assert commute_time(one).tolist() == [[0]]
    assert absorption_time(two).tolist() == [0, 4]
    assert effective_resistance(two).tolist() == [[0, math.inf], [4, 0]]
    # A restart at 1 with probability 1/2: b_1 = 1/2, and tau_1 / 2 = 2.
    R = effective_resistance(two, kind='restart')
    assert R.tolist() == [[0, 2], [2, 0]]
    assert commute_time(two).tolist() == [[0, 6], [6, 0]]
    assert resistance_gradient(two)[1, 0].item() == -16


@pytest.mark.parametrize('name', ALL)
def test_only_self_loops(name: str) -> None:
    eye = torch.eye(4)
    if name == 'gap_restart':
        # Each root restarts in all of them: one step mixes.
        assert ALL[name](eye).item() == pytest.approx(1)
    elif name in ONE_ROOT:
        with pytest.raises(ValueError, match='token 1 without edges'):
            ALL[name](eye)
    else:
        assert not values(ALL[name](eye)).isnan().any()


@pytest.mark.parametrize('name', OF_GRAPH)
def test_no_weights_at_all(name: str) -> None:
    zeros = torch.zeros(4, 4)
    if name in ONE_ROOT:
        with pytest.raises(ValueError, match='token 1 without edges'):
            ALL[name](zeros)
        return
    assert not values(ALL[name](zeros)).isnan().any()


@pytest.mark.parametrize('hops', [None, 3.0])
@pytest.mark.parametrize('A', [torch.eye(4), torch.zeros(4, 4)])
def test_tokens_that_never_move_are_out_of_reach(
    A: Tensor, hops: float | None
) -> None:
    eye = torch.eye(4, dtype=torch.bool)
    assert torch.equal(hitting_probability(A, hops=hops), eye.double())
    for kind in ('causal', 'escape'):
        R = effective_resistance(A, kind=kind, hops=hops)  # type: ignore[arg-type]
        assert torch.equal(R.isinf(), ~eye)
        C = effective_resistance(A, kind=kind, hops=hops, conductance=True)  # type: ignore[arg-type]
        assert not C[~eye].any()
    # Each restarts from all of them.
    R = effective_resistance(A, kind='restart', hops=hops)
    torch.testing.assert_close(R, 8.0 * (~eye).double())


def test_no_globally_reachable_token() -> None:
    # 2 reaches the roots 0 and 1, of which none reaches the other.
    A = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.25, 0.5, 0.25]])
    R = effective_resistance(A)
    assert R.tolist() == [
        [0, math.inf, math.inf],
        [math.inf, 0, math.inf],
        [4, 2, 0],
    ]
    assert total_resistance(A).isinf()
    for kind in ('causal', 'escape', 'restart', 'lyapunov'):
        pairs = effective_resistance(A, kind=kind)  # type: ignore[arg-type]
        C = effective_resistance(A, kind=kind, conductance=True)  # type: ignore[arg-type]
        assert not pairs.isnan().any()
        assert C.isfinite().all()
        off = ~torch.eye(3, dtype=torch.bool)
        assert torch.equal(pairs[off].isinf(), C[off] == 0)
    with pytest.raises(ValueError, match='one root'):
        resistance_sketch(A)


@pytest.mark.parametrize('kind', ['causal', 'escape', 'restart', 'lyapunov'])
@pytest.mark.parametrize('requires_grad', [True, False])
def test_unreachable_pairs_are_infinite_and_no_nan(
    kind: Any, requires_grad: bool
) -> None:
    A = torch.zeros(5, 5, dtype=torch.float64)
    A[:, 0] = 1
    A = torch.block_diag(A, random_causal(3, 8)).requires_grad_(requires_grad)
    for dtype in (torch.float64, torch.float32):
        R = effective_resistance(A, kind=kind, dtype=dtype)
        C = effective_resistance(A, kind=kind, conductance=True, dtype=dtype)
        assert not R.isnan().any()
        assert C.isfinite().all()
        assert (C >= 0).all()
        off = ~torch.eye(8, dtype=torch.bool)
        assert torch.equal(R[off].isinf(), C[off] == 0)
        if requires_grad:
            (grad,) = torch.autograd.grad(C.sum(), A, retain_graph=True)
            assert grad.isfinite().all()
            (grad,) = torch.autograd.grad(R[R.isfinite()].sum(), A)
            assert grad.isfinite().all()


@pytest.mark.parametrize('dense', [True, False])
def test_rows_are_divided_only_when_asked(dense: bool) -> None:
    A = random_causal(6, 9)
    scale = torch.arange(1, 7).double().unsqueeze(1)
    given = (scale * A,) if dense else edges_of(scale * A)
    # The walk and its time do not see the scale of a row, resistance does.
    torch.testing.assert_close(
        hitting_probability(*given), hitting_probability(A)
    )
    torch.testing.assert_close(absorption_time(*given), absorption_time(A))
    torch.testing.assert_close(
        leave_rate(*given), leave_rate(A) * scale.squeeze(1)
    )
    torch.testing.assert_close(
        effective_resistance(*given), effective_resistance(A) / scale
    )
    torch.testing.assert_close(
        effective_resistance(*given, kind='restart'),
        effective_resistance(A, kind='restart'),
    )
    for kind in ('causal', 'escape', 'lyapunov', 'restart'):
        for options in ({}, {'rows': [2, -1]}):
            torch.testing.assert_close(
                effective_resistance(
                    *given,
                    kind=kind,  # type: ignore[arg-type]
                    renormalize=True,
                    **options,  # type: ignore[arg-type]
                ),
                effective_resistance(A, kind=kind, **options),  # type: ignore[arg-type]
            )
        if kind != 'restart':
            plain = effective_resistance(*given, kind=kind)  # type: ignore[arg-type]
            assert not plain.allclose(effective_resistance(A, kind=kind))  # type: ignore[arg-type]


def test_layers_with_other_row_sums() -> None:
    A = 2 * random_causal(5, 10)
    with pytest.raises(ValueError, match='renormalize=True'):
        layered_influence([A, A])
    T, _ = layered_influence([A, A], renormalize=True)
    torch.testing.assert_close(T.sum(1), torch.ones(5).double())
    # A rollout takes weights as they are.
    torch.testing.assert_close(
        attention_rollout([A, A], 1.0), 4 * attention_rollout([A / 2] * 2, 1.0)
    )


def test_a_row_of_zeros_is_no_row_that_sums_to_one() -> None:
    A = random_causal(5, 11)
    A[2] = 0
    with pytest.raises(ValueError, match='0 for receiver 2 of layer 0'):
        layered_influence([A, A])
    T, V = layered_influence([A, A], renormalize=True)
    assert not T.isnan().any()
    assert not V.isnan().any()
    # The token is a root to the walk.
    assert hitting_probability(A)[2].tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    'name', [n for n in ALL if n not in ('resistance_sketch', 'rms_rollout')]
)
def test_matrices_of_a_batch_do_not_mix(name: str) -> None:
    # Also from the size on at which they are taken one by one.
    for size in (6, 130):
        graphs = [random_causal(size, seed) for seed in range(3)]
        found = ALL[name](torch.stack(graphs).unsqueeze(0))
        parts = found if isinstance(found, tuple) else (found,)
        for i, A in enumerate(graphs):
            one = ALL[name](A)
            expected = one if isinstance(one, tuple) else (one,)
            for part, value in zip(parts, expected, strict=True):
                assert part.shape == (1, 3, *value.shape)
                torch.testing.assert_close(
                    part[0, i], value, rtol=1e-6, atol=1e-9
                )


@pytest.mark.parametrize('name', ['hitting_probability', 'escape', 'lyapunov'])
@pytest.mark.parametrize('size', [6, 130])
def test_batches_of_causal_and_other_graphs(name: str, size: int) -> None:
    graphs = [random_causal(size, 12), random_walk(size, 13), torch.eye(size)]
    graphs = [graph.double() for graph in graphs]
    found = ALL[name](torch.stack(graphs))
    for part, A in zip(found, graphs, strict=True):
        torch.testing.assert_close(part, ALL[name](A), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize('name', ['hitting_probability', 'causal', 'escape'])
@pytest.mark.parametrize('size', [6, 130])
def test_batches_of_no_graph(name: str, size: int) -> None:
    # Refused as a matrix without entries is, whatever the size.
    with pytest.raises(ValueError, match=r'got \[0'):
        ALL[name](torch.ones(0, size, size))


def test_random_walks_are_refused_where_causality_is_needed() -> None:
    A = random_walk(4, 14)
    for name in ('causal', 'resistance_gradient', 'resistance_sketch'):
        with pytest.raises(ValueError, match='causal graph'):
            ALL[name](A)
        with pytest.raises(ValueError, match='causal graph'):
            ALL[name](*edges_of(A))
    for name in ('layered_influence', 'envelope_hitting'):
        with pytest.raises(ValueError, match='causal attention'):
            ALL[name](A)
