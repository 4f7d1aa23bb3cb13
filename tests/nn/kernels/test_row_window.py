import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.nn import AttentionConv, plan_attention
from gnnbridge.nn.formats import Windows
from gnnbridge.nn.kernels import row_window, row_window_cpu
from gnnbridge.nn.naive import naive_attention

INF = float('inf')
# Sums of some hundred terms of size one to ten, in another order.
CLOSE = {'rtol': 1e-11, 'atol': 1e-12}
PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(dtype)


def ranges_of(queries, keys, ranges, seed=0):
    """Increasing ranges that do not touch, the third row without any."""
    generator = torch.Generator().manual_seed(seed)
    shape = queries, ranges, 2
    cuts = torch.randint(keys + 1, shape, generator=generator)
    cuts = cuts.flatten(1).sort(dim=1).values
    cuts[2:3] = 0
    return cuts.view(shape).unbind(-1)


def edges_of(start, stop, keys):
    key = torch.arange(keys)
    mask = (start[..., None] <= key) & (key < stop[..., None])
    query, key = mask.any(dim=1).nonzero().t()
    return torch.stack([key, query])


def inputs(queries, keys, widths=(4, 2, 5, 3), dtype=torch.float64):
    heads, kv_heads, width, value_width = widths
    return [
        draw(queries, heads, width, seed=1, dtype=dtype),
        draw(keys, kv_heads, width, seed=2, dtype=dtype),
        draw(keys, kv_heads, value_width, seed=3, dtype=dtype),
    ]


def gradients(results, leaves):
    total = sum(
        (x * draw(*x.shape, seed=n)).sum() for n, x in enumerate(results, 7)
    )
    return torch.autograd.grad(total, leaves)


def check(ours, theirs, leaves):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    pairs = gradients(ours, leaves), gradients(theirs, leaves)
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def naive(tensors, edge_index, **options):
    key, query = edge_index
    out, attention = naive_attention(*tensors, edge_index, **options)
    return out, attention[:, query, key].t()


@pytest.mark.parametrize('rows', [1, 4, 64])
@pytest.mark.parametrize('names', ['', 'bias', 'cap sink', 'bias cap sink'])
@pytest.mark.parametrize('size', [(1, 5, 1), (9, 13, 2), (11, 40, 4)])
def test_batched_blocks_of_any_height(size, names, rows):
    queries, keys, ranges = size
    start, stop = ranges_of(queries, keys, ranges)
    edge_index = edges_of(start, stop, keys)
    plan = plan_attention(edge_index, (keys, queries))
    # Ranges of no key are at the end of a row.
    found = plan.found_windows
    windows = Windows.of(found.start, found.stop, rows=rows)
    tensors, options = inputs(queries, keys), {'scale': 0.7}
    if 'bias' in names:
        options['edge_bias'] = draw(plan.num_edges, 4, seed=4)
        options['edge_bias'][::3, 1] = -INF
    if 'sink' in names:
        options['s_aux'] = draw(queries, 4, seed=5)
    if 'cap' in names:
        options['softcap'] = 0.8
    leaves = tensors + [
        options[x] for x in ('edge_bias', 's_aux') if x in options
    ]
    for x in leaves:
        x.requires_grad_()
    for differentiable in (False, True):
        for weights in (False, True):
            ours = row_window.attention(
                *tensors, windows, plan.rows, return_weights=weights,
                differentiable=differentiable, **options,
            )  # fmt: skip
            assert (ours[1] is not None) == weights
            theirs = naive(tensors, edge_index, **options)
            check(ours[: 1 + weights], theirs[: 1 + weights], leaves)


def test_batched_blocks_do_not_need_edges_for_outputs():
    start, stop = ranges_of(9, 13, 2)
    tensors, windows = inputs(9, 13), Windows.of(start, stop, rows=4)
    out, weights = row_window.attention(*tensors, windows, None, scale=0.7)
    expected, _ = naive(tensors, edges_of(start, stop, 13), scale=0.7)
    torch.testing.assert_close(out, expected, **CLOSE)
    assert weights is None


@pytest.mark.parametrize('rows', [4, 8, 64])
@pytest.mark.parametrize('ranges', [1, 2, 4])
@pytest.mark.parametrize('widths', [(1, 1, 1, 1), (4, 2, 5, 3), (3, 1, 32, 17)])
def test_fused_blocks_of_any_height(widths, ranges, rows):
    """Tiles end where 64 keys are full, in the midst of ranges."""
    queries, keys = 70, 150
    start, stop = ranges_of(queries, keys, ranges)
    edge_index = edges_of(start, stop, keys)
    windows = Windows.of(start, stop, rows=rows)
    tensors = inputs(queries, keys, widths)
    for options in ({}, {'softcap': 0.8, 's_aux': draw(queries, widths[0])}):
        leaves = tensors + [x for x in options.values() if x is not None][1:]
        for x in leaves:
            x.requires_grad_()
        ours = row_window_cpu.attention(*tensors, windows, scale=0.7, **options)
        theirs = naive(tensors, edge_index, scale=0.7, **options)
        check([ours], theirs[:1], leaves)


@PROPERTY
@given(
    st.integers(1, 9), st.integers(0, 5), st.integers(1, 40),
    st.integers(1, 3), st.integers(0, 99),
)  # fmt: skip
def test_blocks_are_shared_out_evenly(parts, empty, blocks, together, seed):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(50, (blocks, 2), generator=generator)
    stop = start + torch.randint(9, (blocks, 2), generator=generator)
    stop[:empty] = start[:empty]
    shares = row_window_cpu._shares(start, stop, parts, together)
    # Each block once, one share after the other.
    assert [n for low, high in shares for n in range(low, high)] == list(
        range(blocks)
    )
    assert all(low < high for low, high in shares)
    assert len(shares) <= parts
    assert all(low % together == 0 for low, _ in shares)
    # None has more than its part, but for its last blocks.
    work = (stop - start).sum(dim=1)
    for low, high in shares:
        most = float(work.sum()) / parts + together * float(work.max())
        assert float(work[low:high].sum()) <= most + 1 or high == blocks


def test_no_blocks_are_no_shares():
    none = torch.zeros(0, 1, dtype=torch.int32)
    assert row_window_cpu._shares(none, none, 3) == []


@pytest.mark.parametrize('widths', [(4, 4, 5, 3), (4, 2, 16, 8)])
def test_gradients_are_those_of_finite_differences(widths):
    start, stop = ranges_of(6, 9, 2)
    windows = Windows.of(start, stop)

    def function(query, key, value, sink):
        return row_window_cpu.attention(
            query, key, value, windows, scale=0.7, softcap=1.5, s_aux=sink
        )

    leaves = [*inputs(6, 9, widths), draw(6, 4, seed=5)]
    leaves = [x.requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_scores_may_be_large(dtype):
    """The softmax of scores of size thousands is one, nearly."""
    start, stop = ranges_of(70, 150, 2)
    tensors = inputs(70, 150, dtype=dtype)
    tensors[0] = (1000 * tensors[0]).requires_grad_()
    windows = Windows.of(start, stop)
    for sign in (1.0, -1.0):
        out = row_window_cpu.attention(*tensors, windows, scale=sign)
        truth = [x.detach().double() for x in tensors]
        edge_index = edges_of(start, stop, 150)
        expected, _ = naive_attention(*truth, edge_index, scale=sign)
        # Scores of size ten thousand are rounded to a thousandth of one in
        # float32, and so are the weights of equals.
        error = 4e4 * torch.finfo(dtype).eps
        torch.testing.assert_close(
            out.double(), expected, rtol=error, atol=error
        )
        (grad,) = torch.autograd.grad(out.sum(), tensors[0])
        assert grad.isfinite().all()


@pytest.mark.parametrize(
    ('width', 'dtype'), [(5, torch.float64), (16, torch.bfloat16)]
)
def test_torch_knows_the_operation(width, dtype):
    windows = Windows.of(*ranges_of(6, 9, 2))
    tensors = inputs(6, 9, (4, 2, width, width), dtype)
    graph = (
        windows.start, windows.stop, windows.cover_start,
        windows.cover_stop, windows.rows,
    )  # fmt: skip
    sink = draw(6, 4, seed=5).requires_grad_() if width == 5 else None
    tensors = [x.requires_grad_() for x in tensors]
    torch.library.opcheck(
        torch.ops.gnnbridge.row_window.default,
        (*tensors, *graph, sink, 0.7, 0.0),
        test_utils=[
            'test_schema',
            'test_autograd_registration',
            'test_faketensor',
            'test_aot_dispatch_dynamic',
        ],
    )


@pytest.mark.parametrize('given', ['edges', 'sink', 'bias', 'causal'])
def test_it_compiles_as_one_graph(given):
    start, stop = ranges_of(6, 9, 2)
    edge_index = edges_of(start, stop, 9)
    if given == 'causal':
        plan = plan_attention('causal', (9, 6), backend='row_window')
    else:
        plan = plan_attention(edge_index, (9, 6), backend='row_window')
    options = {
        'sink': {'s_aux': draw(4, seed=5), 'softcap': 0.8},
        'bias': {'edge_bias': draw(plan.num_edges, 4, seed=5)},
    }.get(given, {})
    tensors = [x.requires_grad_() for x in inputs(6, 9, (4, 4, 8, 8))]
    conv = AttentionConv()
    torch.compiler.reset()
    compiled = torch.compile(conv, backend='aot_eager', fullgraph=True)
    ours = [compiled(*tensors, plan, **options)]
    check(ours, [conv(*tensors, plan, **options)], tensors)


@pytest.mark.parametrize('of', range(4))
def test_a_second_derivative_is_refused(of):
    plan = plan_attention('causal', (6, 6), backend='row_window')
    leaves = [*inputs(6, 6), draw(4, seed=5)]
    leaves[of].requires_grad_()
    *tensors, sink = leaves
    out = AttentionConv()(*tensors, plan, s_aux=sink)
    (grad,) = torch.autograd.grad(
        out.square().sum(), leaves[of], create_graph=True
    )
    with pytest.raises(NotImplementedError, match=r"'row_window' \(got a sec"):
        grad.sum().backward()
