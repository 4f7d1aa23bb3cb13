import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from matrices import edges_of, random_causal, random_digraph, window
from torch import Tensor

from gnnbridge.spectral.arguments import Tokens
from gnnbridge.spectral.green import absorption_time, hitting_probability
from gnnbridge.spectral.resistance import effective_resistance
from gnnbridge.spectral.sparse import TriangularSystem, sparse_walk

SIZE = 14


def shuffled(A: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The edges in no order, each split into two that add up."""
    edge_index, weight = edges_of(A)
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(len(weight), generator=generator, dtype=torch.float64)
    order = torch.randperm(2 * len(weight), generator=generator)
    doubled = torch.cat([edge_index, edge_index], dim=1)
    return doubled[:, order], torch.cat([share, 1 - share])[order] * torch.cat(
        [weight, weight]
    )[order]


def graph(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix and edges that add up to it."""
    A = random_causal(SIZE, 0, density=0.4)
    if name == 'no_self_loops':
        A = A.tril(-1)
    elif name == 'two_roots':
        A = torch.block_diag(A[:6, :6], A[:8, :8])
    edge_index, weight = edges_of(A)
    loops = edge_index[0] == edge_index[1]
    if name == 'any':
        edge_index, weight = shuffled(A, 1)
    elif name == 'split':  # sorted by receiver, self-loops first, duplicates
        other, half = edge_index[:, ~loops], weight[~loops] / 2
        edge_index = torch.cat([edge_index[:, loops], other, other], dim=1)
        weight = torch.cat([weight[loops], half, half])
        order = edge_index[1].argsort(stable=True)
        edge_index, weight = edge_index[:, order], weight[order]
    elif name == 'only_loops_sorted':
        order = torch.cat(
            [(~loops).nonzero().flatten().flip(0), loops.nonzero().flatten()]
        )
        edge_index, weight = edge_index[:, order], weight[order]
    return A, edge_index, weight


GRAPHS = [
    'any',
    'sorted',
    'split',
    'only_loops_sorted',
    'no_self_loops',
    'two_roots',
]
CHOICES: dict[str, Tokens | None] = {
    'all': None,
    'one': 5,
    'last': -1,
    'root': 0,
    'list': [3, 0, -2, 3],
    'tuple': (7,),
    'tensor': torch.tensor([12, 4]),
    'int32': torch.tensor([12, -4], dtype=torch.int32),
    'scalar': torch.tensor(6),
    'none': [],
}


def index_of(tokens: Tokens | None) -> Any:
    if tokens is None:
        return slice(None)
    found = torch.as_tensor(tokens)
    return found.long() % SIZE if found.numel() else found.long()


@pytest.mark.parametrize('name', GRAPHS)
@pytest.mark.parametrize('hops', [None, 3.0])
@pytest.mark.parametrize('rows', CHOICES)
def test_chosen_pairs_equal_the_dense_ones(
    name: str, hops: float | None, rows: str
) -> None:
    A, edge_index, weight = graph(name)
    full = hitting_probability(A, hops=hops)
    flow = effective_resistance(A, hops=hops, conductance=True)
    resistance = effective_resistance(A, hops=hops)
    at = index_of(CHOICES[rows])
    for cols in CHOICES.values():
        to = index_of(cols)
        for given in ((A,), (edge_index, weight)):
            chosen: dict[str, Any] = {
                'rows': CHOICES[rows],
                'cols': cols,
                'hops': hops,
            }
            h = hitting_probability(*given, **chosen)
            assert h.shape == full[at][..., to].shape
            torch.testing.assert_close(h, full[at][..., to])
            R = effective_resistance(*given, **chosen)
            torch.testing.assert_close(R, resistance[at][..., to])
            C = effective_resistance(*given, conductance=True, **chosen)
            torch.testing.assert_close(C, flow[at][..., to])


@pytest.mark.parametrize('kind', ['restart', 'lyapunov', 'escape'])
@pytest.mark.parametrize('rows', [None, 2, [3, -1], []])
@pytest.mark.parametrize('cols', [None, -3, [0, 5]])
def test_other_kinds_choose_from_all_pairs(
    kind: Any, rows: Tokens | None, cols: Tokens | None
) -> None:
    A, edge_index, weight = graph('sorted')
    R = effective_resistance(A, kind=kind)[index_of(rows)][..., index_of(cols)]
    found = effective_resistance(
        edge_index, weight, kind=kind, rows=rows, cols=cols
    )
    torch.testing.assert_close(found, R)


@pytest.mark.parametrize('name', GRAPHS)
def test_absorption_time_of_edges(name: str) -> None:
    A, edge_index, weight = graph(name)
    torch.testing.assert_close(
        absorption_time(edge_index, weight), absorption_time(A)
    )


def test_renormalize_divides_rows() -> None:
    A, edge_index, weight = graph('any')
    weight = weight * (1.0 + edge_index[1])  # rows that sum to 1, 2, 3, ...
    expected = effective_resistance(A)
    for chosen in ({'rows': [3, 9]}, {'cols': 2}, {'rows': -1, 'cols': [1]}):
        found = effective_resistance(
            edge_index, weight, renormalize=True, **chosen
        )
        at, to = (index_of(chosen.get(key)) for key in ('rows', 'cols'))
        torch.testing.assert_close(found, expected[at][..., to])


@pytest.mark.parametrize('dense', [True, False])
def test_negative_positions_count_from_the_end(dense: bool) -> None:
    A, edge_index, weight = graph('sorted')
    given = (A,) if dense else (edge_index, weight)
    for found in (
        effective_resistance(*given, rows=-1, cols=SIZE - 1),
        effective_resistance(*given, rows=[-1], cols=-1),
        effective_resistance(*given, rows=SIZE - 1, cols=[-1]),
    ):
        # The same token by two names: its diagonal entry.
        assert found.numel() == 1
        assert found.item() == 0


@pytest.mark.parametrize(
    'chosen',
    [
        {'rows': [-1, 2]},
        {'rows': 3},
        {'cols': 0},
        {'cols': [4, -2]},
        {'rows': 9, 'cols': [4, -2]},
    ],
)
@pytest.mark.parametrize('hops', [None, 3.0])
def test_weights_of_several_heads(
    chosen: dict[str, Any], hops: float | None
) -> None:
    A = torch.stack([random_causal(SIZE, 2), random_causal(SIZE, 3)])
    edge_index, _ = edges_of(A[0])
    weight = A[:, edge_index[1], edge_index[0]].mT.contiguous()
    at, to = (index_of(chosen.get(key)) for key in ('rows', 'cols'))
    h = hitting_probability(edge_index, weight, hops=hops, **chosen)
    expected = hitting_probability(A, hops=hops)[:, at][..., to]
    torch.testing.assert_close(h, expected)
    R = effective_resistance(edge_index, weight, hops=hops, **chosen)
    expected = effective_resistance(A, hops=hops)[:, at][..., to]
    torch.testing.assert_close(R, expected)
    torch.testing.assert_close(
        absorption_time(edge_index, weight), absorption_time(A)
    )


@pytest.mark.parametrize('size', [9, 130])
@pytest.mark.parametrize('causal', [True, False])
def test_rows_and_columns_of_batches(size: int, causal: bool) -> None:
    make = random_causal if causal else random_digraph
    A = torch.stack([make(size, seed) for seed in range(4)])
    A = A.reshape(2, 2, size, size)
    h = hitting_probability(A)
    C = effective_resistance(A, kind='escape', conductance=True)
    for rows, cols in ((-1, None), ([2, 5], 0), (None, [4]), (3, [1, -2])):
        at, to = (
            slice(None) if tokens is None else tokens for tokens in (rows, cols)
        )
        found = hitting_probability(A, rows=rows, cols=cols)
        torch.testing.assert_close(found, h[:, :, at][..., to])
        found = effective_resistance(
            A, kind='escape', conductance=True, rows=rows, cols=cols
        )
        torch.testing.assert_close(found, C[:, :, at][..., to])


@pytest.mark.parametrize('hops', [None, 3.0])
def test_rows_of_a_graph_that_is_not_causal(hops: float | None) -> None:
    A = random_digraph(9, 4)
    edge_index, weight = edges_of(A)
    h = hitting_probability(A, hops=hops)
    found = hitting_probability(
        edge_index, weight, hops=hops, rows=[2, -1], cols=4
    )
    torch.testing.assert_close(found, h[[2, -1], 4])


def test_float32() -> None:
    A, edge_index, weight = graph('any')
    for chosen in ({'rows': [5, -1]}, {'cols': [1, 4]}):
        found = effective_resistance(
            edge_index, weight.float(), dtype=torch.float32, **chosen
        )
        expected = effective_resistance(A, **chosen)
        assert found.dtype == torch.float32
        # All terms have one sign: a few roundings of 2^-24.
        torch.testing.assert_close(
            found.double(), expected, rtol=1e-5, atol=0, check_dtype=True
        )


@pytest.mark.parametrize('hops', [None, 3.0])
@pytest.mark.parametrize(
    'chosen',
    [
        {'rows': 7},
        {'rows': [3, -1]},
        {'cols': 2},
        {'cols': [0, 4]},
        {'rows': [9, 10], 'cols': [1, 2, 8]},
    ],
)
def test_gradients_equal_those_of_the_dense_form(
    hops: float | None, chosen: dict[str, Any]
) -> None:
    _, edge_index, weight = graph('any')
    at, to = (index_of(chosen.get(key)) for key in ('rows', 'cols'))

    def dense(weight: Tensor) -> Tensor:
        A = torch.zeros(SIZE, SIZE, dtype=torch.float64)
        A = A.index_put((edge_index[1], edge_index[0]), weight, accumulate=True)
        return effective_resistance(A, hops=hops, conductance=True)[at][..., to]

    def sparse(weight: Tensor) -> Tensor:
        return effective_resistance(
            edge_index, weight, hops=hops, conductance=True, **chosen
        )

    mix = torch.rand(
        sparse(weight).shape, generator=torch.Generator().manual_seed(5)
    ).double()
    given = weight.clone().requires_grad_()
    grads = [
        torch.autograd.grad((form(given) * mix).sum(), given)[0]
        for form in (sparse, dense)
    ]
    torch.testing.assert_close(*grads)
    R = effective_resistance(edge_index, given, hops=hops, **chosen)
    (grad,) = torch.autograd.grad(R[R.isfinite()].sum(), given)
    assert grad.isfinite().all()


@pytest.mark.parametrize('chosen', [{'rows': [3, -1]}, {'cols': [0, 2]}])
def test_gradients_of_both_orders(chosen: dict[str, Any]) -> None:
    edge_index, weight = edges_of(random_causal(5, 6, density=0.6))

    def h(weight: Tensor) -> Tensor:
        return hitting_probability(edge_index, weight, **chosen)

    weight = weight.requires_grad_()
    assert torch.autograd.gradcheck(h, weight)
    assert torch.autograd.gradgradcheck(h, weight)


def test_gradient_of_the_absorption_time_of_edges() -> None:
    edge_index, weight = edges_of(random_causal(6, 7, density=0.6))

    def time(weight: Tensor) -> Tensor:
        return absorption_time(edge_index, weight)

    assert torch.autograd.gradcheck(time, weight.requires_grad_())


def windows(size: int, width: int) -> tuple[Tensor, Tensor]:
    """Uniform attention over a window, as edges: `window` without a matrix."""
    target = torch.arange(size).repeat_interleave(width)
    source = target - torch.arange(width).flip(0).repeat(size)
    kept = source >= 0
    target, source = target[kept], source[kept]
    return torch.stack([source, target]), 1.0 / target.bincount()[target]


def test_more_tokens_than_a_matrix_could_hold() -> None:
    # A matrix of 200000^2 float64 takes 320 GB.
    size, width = 200_000, 4
    edge_index, weight = windows(size, width)
    few, _ = windows(50, width)
    assert torch.equal(few, edges_of(window(50, width))[0])
    given = weight.double().requires_grad_()
    h = hitting_probability(edge_index, given, rows=[-1, 30])
    assert h.shape == (2, size)
    # Renewal theory: jumps of 1, 2, 3 visit a far token with probability 1/2.
    assert h[0, 1000].item() == pytest.approx(2 / width, rel=1e-12)
    near = hitting_probability(window(50, width))[30]
    torch.testing.assert_close(h[1, :50], near, rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(h[0, 1000], given)
    assert grad.shape == weight.shape
    assert grad.isfinite().all()
    R = effective_resistance(edge_index, weight, rows=-1, cols=[0, 1000, -1])
    # w^2 / (2 (w - 1)) for a source far away; one over the leave rate, 4 / 3,
    # for the root; the weights are float32.
    assert R.tolist() == pytest.approx([4 / 3, 16 / 6, 0], rel=1e-6)
    time = absorption_time(edge_index, weight)
    # Steps of 3/2 tokens on average: some n / 1.5 of them, up to the ends.
    assert time[-1].item() == pytest.approx(size / 1.5, rel=1e-4)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    'hitting': hitting_probability,
    'resistance': effective_resistance,
}


@pytest.mark.parametrize('name', FUNCTIONS)
@pytest.mark.parametrize('which', ['rows', 'cols'])
@pytest.mark.parametrize('dense', [True, False])
@pytest.mark.parametrize(
    ('tokens', 'error', 'match'),
    [
        (SIZE, ValueError, 'between -14 and 13 .*got 14'),
        ([0, 99], ValueError, 'between -14 and 13 .*got 99'),
        (-15, ValueError, 'got -15'),
        (torch.tensor([[1]]), TypeError, 'sequence of positions'),
        (1.5, TypeError, 'got torch.float32'),
        ([True], TypeError, 'got torch.bool'),
    ],
)
def test_positions_that_are_none(
    name: str, which: str, dense: bool, tokens: Any, error: Any, match: str
) -> None:
    A, edge_index, weight = graph('any')
    given = (A,) if dense else (edge_index, weight)
    with pytest.raises(error, match=match) as caught:
        FUNCTIONS[name](*given, **{which: tokens})
    assert f"'{which}'" in str(caught.value)


@pytest.mark.parametrize('name', FUNCTIONS)
@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (lambda w: -w, 'non-negative'),
        (lambda w: w * math.nan, 'finite'),
        (lambda w: w / 0, 'finite'),
        (lambda w: w[1:], 'edges'),
    ],
)
def test_weights_are_checked_on_the_sparse_path_too(
    name: str, change: Callable[[Tensor], Tensor], match: str
) -> None:
    _, edge_index, weight = graph('any')
    with pytest.raises(ValueError, match=match):
        FUNCTIONS[name](edge_index, change(weight), rows=2)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_edges_are_checked_on_the_sparse_path_too(name: str) -> None:
    _, edge_index, weight = graph('any')
    with pytest.raises(ValueError, match='nodes 0 to 9'):
        FUNCTIONS[name](edge_index, weight, 10, rows=2)
    with pytest.raises(ValueError, match='at least one edge'):
        FUNCTIONS[name](edge_index[:, :0], rows=0)
    with pytest.raises(TypeError, match='int64'):
        FUNCTIONS[name](edge_index.int(), weight, rows=2)


def test_tokens_without_edges() -> None:
    edge_index = torch.tensor([[0], [1]])
    h = hitting_probability(edge_index, num_nodes=4, rows=[1, 3])
    assert h.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]
    R = effective_resistance(edge_index, num_nodes=4, rows=3)
    assert R.tolist() == [math.inf, math.inf, math.inf, 0]


def test_only_self_loops() -> None:
    edge_index = torch.arange(3).repeat(2, 1)
    h = hitting_probability(edge_index, rows=[0, 2])
    assert h.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert absorption_time(edge_index).tolist() == [0, 0, 0]


def test_a_graph_that_is_not_causal_has_no_sparse_walk() -> None:
    edge_index = torch.tensor([[0, 2], [1, 1]])
    assert sparse_walk(edge_index, None, None, None, torch.float64) is None
    weight = torch.ones(2, 3)
    causal = torch.tensor([[0, 1], [1, 2]])
    assert sparse_walk(causal, weight, None, None, torch.float64) is None


@pytest.mark.parametrize(
    'order',
    [
        pytest.param([0, 1, 2, 3, 4, 5, 6, 7, 8], id='sorted'),
        pytest.param([1, 0, 2, 8, 5, 4, 3, 7, 6], id='any'),
        pytest.param([0, 2, 1, 6, 5, 4, 3, 8, 7], id='loops_first'),
        pytest.param([7, 1, 3, 4, 5, 0, 2, 6, 8], id='loops_sorted'),
        pytest.param([1, 3, 4, 5, 7], id='no_loops'),
        pytest.param([1, 2, 3, 4, 5, 7], id='one_loop'),
        pytest.param([0, 0, 1, 2, 3, 4, 5, 6, 6, 7, 8], id='loops_twice'),
    ],
)
@pytest.mark.parametrize('transpose', [True, False])
def test_triangular_system(order: list[int], transpose: bool) -> None:
    # Self-loops 0, 2, 6, 8 do not count; edges 4 and 5 add up.
    edge_index = torch.tensor(
        [[0, 0, 1, 0, 1, 1, 2, 2, 3], [0, 1, 1, 2, 2, 2, 2, 3, 3]]
    )
    jump = torch.tensor([7, 0.5, 7, 0.25, 0.125, 0.25, 7, 2.0, 7]).double()
    P = torch.zeros(4, 4, dtype=torch.float64)
    P = P.index_put((edge_index[1], edge_index[0]), jump, accumulate=True)
    P = P.tril(-1)
    source, target = edge_index[:, order]
    system = TriangularSystem(source, target, jump[order], 4)
    right = torch.rand(4, 3, generator=torch.Generator().manual_seed(8))
    matrix = torch.eye(4, dtype=torch.float64) - P
    matrix = matrix.mT if transpose else matrix
    found = system.solve(right.double(), transpose=transpose)
    torch.testing.assert_close(matrix @ found, right.double())
