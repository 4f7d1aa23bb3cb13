import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.utils import softmax

from gnnbridge.nn.edge_softmax import edge_softmax

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
INF = float('inf')


def random_scores(num_edges=23, num_queries=7, heads=3, seed=0):
    """Scores and an unsorted index in which the last query has no edge."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(
        num_edges, heads, dtype=torch.float64, generator=generator
    )
    index = torch.randint(num_queries - 1, (num_edges,), generator=generator)
    return 3 * score, index


def row_sums(alpha, index, num_queries):
    return torch.stack(
        [alpha[index == i].sum(dim=0) for i in range(num_queries)]
    )


def test_equals_pyg_softmax():
    score, index = random_scores()
    expected = softmax(score, index, num_nodes=7)
    out = edge_softmax(score, index, 7)
    # PyG adds 1e-16 to the denominator, which is at least one.
    torch.testing.assert_close(out, expected, rtol=1e-14, atol=1e-15)


def test_equals_scatter_softmax_of_torch_scatter():
    torch_scatter = pytest.importorskip(
        'torch_scatter',
        reason='torch-scatter is not built: `make scatter` builds it from '
        'source',
    )
    score, index = random_scores()
    expected = torch_scatter.composite.scatter_softmax(
        score, index, dim=0, dim_size=7
    )
    out = edge_softmax(score, index, 7)
    # Two float64 sums in another order.
    torch.testing.assert_close(out, expected, rtol=1e-14, atol=1e-15)


def test_one_row_with_a_sink_by_hand():
    score = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64)
    sink = torch.tensor([1.5], dtype=torch.float64)
    logits = [0.5, -1.0, 2.0, 1.5]
    total = sum(math.exp(s) for s in logits)
    expected = [math.exp(s) / total for s in logits[:3]]
    index = torch.zeros(3, dtype=torch.long)
    out = edge_softmax(score, index, 1, s_aux=sink)
    assert out.flatten().tolist() == pytest.approx(expected, rel=1e-15)


def test_sink_per_query_is_one_softmax_per_row():
    score, index = random_scores()
    sink = torch.randn(7, 3, dtype=torch.float64)
    out = edge_softmax(score, index, 7, s_aux=sink)
    for i in range(7):
        row = torch.cat([score[index == i], sink[i : i + 1]])
        expected = torch.softmax(row, dim=0)[:-1]
        torch.testing.assert_close(out[index == i], expected)
    per_head = edge_softmax(score, index, 7, s_aux=sink[0])
    repeated = edge_softmax(score, index, 7, s_aux=sink[:1].expand(7, 3))
    assert torch.equal(per_head, repeated)


def test_sink_of_minus_infinity_is_no_sink():
    score, index = random_scores()
    sink = torch.full((3,), -INF, dtype=torch.float64)
    out = edge_softmax(score, index, 7, s_aux=sink)
    assert torch.equal(out, edge_softmax(score, index, 7))


@PROPERTY
@given(
    st.integers(0, 30), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99)
)
def test_rows_sum_to_one_or_less_with_a_sink(num_edges, queries, heads, seed):
    score, index = random_scores(num_edges, queries + 1, heads, seed)
    has_edge = (index.bincount(minlength=queries + 1) > 0).double()
    alpha = edge_softmax(score, index, queries + 1)
    expected = has_edge.unsqueeze(-1).expand(-1, heads)
    # Rounding of at most 30 float64 terms.
    torch.testing.assert_close(
        row_sums(alpha, index, queries + 1), expected, rtol=1e-14, atol=1e-14
    )
    alpha = edge_softmax(score, index, queries + 1, s_aux=torch.zeros(heads))
    sums = row_sums(alpha, index, queries + 1)
    assert (sums < 1).all()
    assert ((sums > 0) == (has_edge > 0).unsqueeze(-1)).all()


@PROPERTY
@given(st.floats(-1e6, 1e6), st.integers(0, 99))
def test_adding_a_constant_to_a_row_changes_nothing(constant, seed):
    score, index = random_scores(seed=seed)
    shifted = edge_softmax(score + constant, index, 7)
    # A score near 1e6 is rounded to 1e-10, and its exponential with it.
    torch.testing.assert_close(
        shifted, edge_softmax(score, index, 7), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize('sink', [None, -50.0])
def test_rows_without_mass_are_zero_with_zero_gradient(sink):
    score, index = random_scores()
    score[index == 2] = -INF
    score[index == 3, 1] = -INF
    score.requires_grad_()
    s_aux = None if sink is None else torch.full((3,), sink).double()
    alpha = edge_softmax(score, index, 7, s_aux=s_aux)
    assert (alpha[index == 2] == 0).all()
    assert (alpha[index == 3, 1] == 0).all()
    assert (alpha[index == 3, 0] > 0).all()
    (grad,) = torch.autograd.grad(alpha.square().sum(), score)
    assert grad.isfinite().all()
    assert (grad[index == 2] == 0).all()
    assert grad[index == 4].any()


def test_huge_scores_and_sinks_do_not_overflow():
    # exp(1e4) is beyond float64; the ratio of the two edges is not.
    score = torch.tensor([[1e4], [1e4 + 1.0]], dtype=torch.float64)
    index = torch.zeros(2, dtype=torch.long)
    alpha = edge_softmax(score, index, 1).flatten()
    assert alpha[1] / alpha[0] == pytest.approx(math.e, rel=1e-12)
    sink = torch.tensor([2e4], requires_grad=True)
    # Query 1 has no edge: its sink stands alone.
    drowned = edge_softmax(score.requires_grad_(), index, 2, s_aux=sink)
    assert (drowned == 0).all()
    for grad in torch.autograd.grad(drowned.sum(), [score, sink]):
        assert (grad == 0).all()
    alone = edge_softmax(score, index, 1, s_aux=torch.tensor([-2e4]))
    torch.testing.assert_close(alone.flatten(), alpha)


@pytest.mark.parametrize(
    ('dtype', 'expected'),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_upcast(dtype, expected):
    score, index = random_scores()
    score = score.to(dtype)
    alpha = edge_softmax(score, index, 7)
    assert alpha.dtype == expected
    truth = softmax(score.double(), index, num_nodes=7)
    # A few roundings of float32, whatever the input.
    torch.testing.assert_close(alpha.double(), truth, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('sink', [None, (3,), (7, 3)])
def test_gradients(sink):
    score, index = random_scores()
    inputs = [score.requires_grad_()]
    if sink is not None:
        inputs.append(torch.randn(sink, dtype=torch.float64).requires_grad_())

    def function(score, s_aux=None):
        return edge_softmax(score, index, 7, s_aux=s_aux)

    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)


def test_shapes_that_do_not_fit_are_refused():
    score, index = random_scores()
    with pytest.raises(
        ValueError, match=r"'score' \[E, H\].*got shapes \[23\]"
    ):
        edge_softmax(score[:, 0], index, 7)
    with pytest.raises(ValueError, match=r'\[23, 3\] and \[22\]'):
        edge_softmax(score, index[1:], 7)
    for shape in [(2,), (6, 3), (1, 3), (1, 7, 3)]:
        with pytest.raises(ValueError, match=r"'s_aux' of shape \[3\] or \[7"):
            edge_softmax(score, index, 7, s_aux=torch.zeros(shape))
