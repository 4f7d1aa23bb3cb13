"""Every backend of the CPU against the naive twin."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.nn import AttentionConv, plan_attention
from gnnbridge.nn.naive import naive_attention

BACKENDS = ['dense', 'row_window', 'csr_cpu', 'scatter']
INF = float('inf')
# Sums of some hundred terms of size one to ten, in another order.
CLOSE = {'rtol': 1e-11, 'atol': 1e-12}
# Queries, keys and ranges of keys in a row; heads, key heads and widths.
# Blocks are of 64 queries, tiles of 64 keys, vectors of 4 to 16 numbers.
SHAPES = [
    ((1, 1, 1), (2, 1, 1, 3)),
    ((1, 9, 2), (2, 2, 5, 16)),
    ((7, 12, 1), (4, 2, 3, 40)),
    ((63, 64, 3), (6, 2, 16, 1)),
    ((64, 63, 2), (2, 1, 40, 72)),
    ((65, 130, 1), (3, 3, 64, 64)),
    ((129, 65, 3), (4, 2, 72, 5)),
]
OPTIONS = {
    'plain': '',
    'softcap': 'softcap',
    'bias of edges': 'bias',
    'bias of edges as a column': 'column',
    'bias of edges and heads': 'heads scale',
    'edges of some heads': 'off',
    'edges of some heads and sinks': 'off sinks',
    'sink of heads': 'sink scale',
    'sink of queries and heads': 'sinks softcap',
    'all': 'scale softcap off sink',
}


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(dtype)


def window_mask(queries, keys, ranges):
    """Random ranges of keys; one row and one column are empty."""
    generator = torch.Generator().manual_seed(0)
    shape = queries, ranges, 2
    cuts = torch.randint(keys + 1, shape, generator=generator)
    start, stop = cuts.flatten(1).sort(dim=1).values.view(shape).unbind(-1)
    key = torch.arange(keys)
    mask = (start[..., None] <= key) & (key < stop[..., None])
    mask = mask.any(dim=1)
    if queries == 1:
        return mask | (ranges == 1)
    mask[2], mask[:, 1] = False, False
    return mask


def edges_of(mask, seed=0):
    """Edges in random order."""
    query, key = mask.nonzero().t()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(key.numel(), generator=generator)
    return torch.stack([key, query])[:, order]


def plan_of(backend, mask, seed=0):
    edge_index, size = edges_of(mask, seed), mask.shape[::-1]
    return plan_attention(edge_index, size, backend=backend)


def tensors_of(size, widths=(4, 2, 5, 3), dtype=torch.float64):
    (keys, queries), (heads, kv_heads, width, value_width) = size, widths
    shapes = [
        (queries, heads, width),
        (keys, kv_heads, width),
        (keys, kv_heads, value_width),
    ]
    return [draw(*x, seed=n, dtype=dtype) for n, x in enumerate(shapes, 1)]


def options_of(names, plan, heads, dtype=torch.float64):
    edges, (_, query), options = plan.num_edges, plan.edge_index, {}
    names = names.split()
    shapes = {
        'bias': (edges,), 'column': (edges, 1),
        'heads': (edges, heads), 'off': (edges, heads),
    }  # fmt: skip
    for name in shapes.keys() & set(names):
        options['edge_bias'] = draw(*shapes[name], seed=4, dtype=dtype)
    if 'off' in names:
        # A third of the edges of the first head, a row, a row of one head.
        options['edge_bias'][::3, 0] = -INF
        options['edge_bias'][query == 3] = -INF
        options['edge_bias'][query == 0, -1] = -INF
    for name, shape in {
        'sink': (heads,),
        'sinks': (plan.size[1], heads),
    }.items():
        if name in names:
            options['s_aux'] = draw(*shape, seed=5, dtype=dtype)
    numbers = {'scale': 0.7, 'softcap': 1.2}
    return options | {x: numbers[x] for x in numbers.keys() & set(names)}


def attend(function, tensors, options, dtype=None):
    """What a function returns, then the gradients by which all of it."""
    named = {k: x for k, x in options.items() if isinstance(x, torch.Tensor)}
    leaves = [
        x.to(dtype or x.dtype, copy=True).requires_grad_()
        for x in (*tensors, *named.values())
    ]
    named = dict(zip(named, leaves[3:], strict=True))
    results = function(*leaves[:3], **(options | named))
    total = sum(
        (x.double() * draw(*x.shape, seed=n)).sum()
        for n, x in enumerate(results, start=6)
    )
    # Without edges nothing depends on anything.
    return [*results, *torch.autograd.grad(
        total, leaves, allow_unused=True, materialize_grads=True
    )]  # fmt: skip


def planned(plan, weights, *tensors, conv=None, **options):
    out = (conv or AttentionConv())(
        *tensors, plan, return_attention_weights=weights, **options
    )
    if not weights:
        return [out]
    assert torch.equal(out[1][0], plan.edge_index)
    return [out[0], out[1][1]]


def naive(plan, weights, *tensors, **options):
    key, query = plan.edge_index
    out, attention = naive_attention(*tensors, plan.edge_index, **options)
    return [out, attention[:, query, key].t()] if weights else [out]


def both(plan, tensors, options, weights, conv=None):
    """Outputs and gradients by a plan, and by the naive twin in float64."""
    ours = partial(planned, plan, weights, conv=conv)
    ours = attend(ours, tensors, options)
    assert ours[0].dtype == tensors[2].dtype
    theirs = attend(
        partial(naive, plan, weights), tensors, options, torch.double
    )
    return list(zip(ours, theirs, strict=True))


def check(plan, tensors, options):
    for weights in (False, True):
        for ours, theirs in both(plan, tensors, options, weights):
            torch.testing.assert_close(ours, theirs, **CLOSE)


# All options for some shapes, and all shapes for some options.
SOME = 'plain', 'edges of some heads and sinks', 'all'
CASES = [(x, n) for x in range(7) for n in OPTIONS if n in SOME or x in (2, 6)]


@pytest.mark.parametrize(('shape', 'name'), CASES)
@pytest.mark.parametrize('backend', BACKENDS)
def test_outputs_weights_and_gradients(backend, name, shape):
    size, widths = SHAPES[shape]
    plan = plan_of(backend, window_mask(*size))
    assert plan.backend == backend
    options = options_of(OPTIONS[name], plan, widths[0])
    check(plan, tensors_of(plan.size, widths), options)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.half])
@pytest.mark.parametrize('name', ['plain', 'sink of heads', 'all'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_precision(backend, name, dtype):
    shape, widths = SHAPES[5]
    plan = plan_of(backend, window_mask(*shape))
    tensors = tensors_of(plan.size, widths, dtype)
    options = options_of(OPTIONS[name], plan, widths[0], dtype)
    # In units of rounding of the largest number. Half precision is rounded
    # where results and their gradients come and go: at most 2.6 were seen. In
    # float32 scores of size 30 are rounded: 36.
    unit = torch.finfo(dtype).eps / 2
    limit = 64 * unit if dtype == torch.float32 else 5 * unit
    for weights in (False, True):
        for ours, theirs in both(plan, tensors, options, weights):
            error = (ours.double() - theirs).abs().max() / theirs.abs().max()
            assert error < limit
            assert ours.dtype in (dtype, torch.float32)


@pytest.mark.parametrize('name', ['plain', 'all'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_long_rows_and_columns(backend, name):
    """Rows are handled in pieces of 256 edges, and so are columns."""
    length = torch.tensor([300, 700, 0, 256, 257, 1])
    mask = torch.arange(720) < length.unsqueeze(1)
    mask[1, 500] = False
    for graph in (mask, mask[:, :257].t()):
        plan = plan_of(backend, graph)
        check(plan, tensors_of(plan.size), options_of(OPTIONS[name], plan, 4))


@pytest.mark.parametrize('factor', [1.0, 300.0])
@pytest.mark.parametrize('backend', BACKENDS)
def test_sinks_above_and_below_all_scores(backend, factor):
    plan = plan_of(backend, window_mask(7, 9, 2))
    query, key, value = tensors_of(plan.size)
    sink = torch.tensor([-INF, -1000.0, 800.0, 1.0], dtype=torch.double)
    check(plan, [factor * query, key, value], {'s_aux': sink})


@pytest.mark.parametrize('backend', BACKENDS)
def test_permuted_nodes_permute_the_output(backend):
    mask = window_mask(33, 40, 2)
    # Other orders than the reverse make windows of more ranges.
    rows = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    columns = torch.arange(40).flip(0)
    if backend != 'row_window':
        columns = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    query, key, value = tensors_of((40, 33))
    out = AttentionConv()(query, key, value, plan_of(backend, mask))
    other = plan_of(backend, mask[rows][:, columns], seed=1)
    other = AttentionConv()(query[rows], key[columns], value[columns], other)
    torch.testing.assert_close(other, out[rows], **CLOSE)


@pytest.mark.parametrize('width', [5, 16])
@pytest.mark.parametrize('backend', BACKENDS)
def test_inputs_may_lie_anywhere_and_stay_as_they_are(backend, width):
    plan = plan_of(backend, window_mask(33, 33, 2))
    packed = draw(33, 3, 4, width)
    heads_first = packed.permute(1, 2, 0, 3).contiguous().permute(2, 0, 1, 3)
    spread = packed.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)
    repeated = packed[:1, :, :1].expand(33, 3, 4, width)
    bias = draw(4, plan.num_edges, seed=4).t()
    options = {'edge_bias': bias, 's_aux': draw(1, 1, seed=5).expand(33, 4)}
    for memory in (packed, heads_first, spread, repeated):
        before = [x.clone() for x in (memory, *options.values())]
        for named in ({}, {'softcap': 1.2}, options):
            inputs = memory.requires_grad_().unbind(1)
            pairs = []
            for function in (planned, naive):
                (out,) = function(plan, False, *inputs, **named)
                pairs.append(
                    [out, *torch.autograd.grad(out.sin().sum(), memory)]
                )
            for ours, theirs in zip(*pairs, strict=True):
                torch.testing.assert_close(ours, theirs, **CLOSE)
        assert all(map(torch.equal, before, (memory, *options.values())))


@pytest.mark.parametrize('backend', BACKENDS)
def test_gradients_of_some_inputs_only(backend):
    plan = plan_of(backend, window_mask(7, 9, 2))
    options = options_of('heads sink', plan, 4)
    for names in ({}, options):
        inputs = [*tensors_of(plan.size), *names.values()]

        def run(*inputs, names=names):
            named = dict(zip(names, inputs[3:], strict=True))
            return AttentionConv()(*inputs[:3], plan, **named)

        whole = attend(partial(planned, plan, False), inputs[:3], names)
        for n, x in enumerate(inputs):
            inputs[n] = x.clone().requires_grad_()
            out = run(*inputs)
            grad = torch.autograd.grad(out, inputs[n], draw(*out.shape, seed=6))
            torch.testing.assert_close(grad[0], whole[1 + n], **CLOSE)
            with torch.no_grad():
                again = run(*inputs)
            assert torch.equal(out, again)
            assert not again.requires_grad
            inputs[n] = x
        assert not run(*inputs).requires_grad


@pytest.mark.parametrize('queries', [1, 5, 8])
@pytest.mark.parametrize('graphs', [1, 3])
@pytest.mark.parametrize('structure', ['causal', 'full'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_structures_and_masks_are_their_edges(
    backend, structure, graphs, queries
):
    mask = torch.ones(queries, 8, dtype=torch.bool)
    mask = mask.tril(8 - queries) if structure == 'causal' else mask
    size = 8 * graphs, queries * graphs
    masks = mask.expand(graphs, -1, -1)
    plans = [
        plan_attention(structure, size, backend=backend, num_graphs=graphs),
        plan_attention(masks, backend=backend),
        plan_of(backend, torch.block_diag(*masks.long()).bool()),
    ]
    for plan in plans:
        assert plan.size == size
        options = options_of('softcap heads sinks', plan, 4)
        for names in ({}, options):
            check(plan, tensors_of(size), names)


NAMES = ['scale', 'softcap', 'heads', 'off', 'sink', 'sinks']


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(1, 20), st.integers(1, 20), st.floats(0, 1),
    st.sets(st.sampled_from(NAMES)),
    st.sampled_from([(1, 1, 1, 1), (2, 1, 9, 3), (4, 2, 16, 16)]),
    st.integers(0, 9),
)  # fmt: skip
def test_random_graphs(queries, keys, density, names, widths, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(queries, keys, generator=generator) < density
    rises = mask.int().diff(dim=1, prepend=torch.zeros(queries, 1)) == 1
    for backend in BACKENDS:
        if backend == 'row_window' and rises.sum(dim=1).max() > 4:
            with pytest.raises(ValueError, match='four ranges'):
                plan_of(backend, mask)
        elif mask.any():
            plan = plan_of(backend, mask, seed)
            options = options_of(' '.join(names), plan, widths[0])
            check(plan, tensors_of(plan.size, widths), options)


@pytest.mark.parametrize('size', [(0, 0), (0, 3), (3, 0), (3, 3)])
@pytest.mark.parametrize('backend', BACKENDS)
def test_graphs_without_edges(backend, size):
    plan = plan_of(backend, torch.zeros(size[::-1], dtype=torch.bool))
    for names in ('', 'softcap sinks'):
        tensors, options = tensors_of(size), options_of(names, plan, 4)
        for weights in (False, True):
            function = partial(planned, plan, weights)
            results = attend(function, tensors, options)
            assert results[0].shape == (size[1], 4, 3)
            assert not any(x.any() for x in results)


@pytest.mark.parametrize('backend', BACKENDS)
def test_dropout(backend):
    """The values are one-hot, so that the output is the dropped weights."""
    mask = window_mask(9, 12, 2)
    plan, conv = plan_of(backend, mask), AttentionConv(dropout=0.4)
    query, key, _ = tensors_of(plan.size)
    value = torch.eye(12, dtype=torch.double)[:, None].expand(12, 2, 12)
    whole = AttentionConv()(query, key, value, plan)
    assert torch.equal(conv.eval()(query, key, value, plan), whole)
    conv.train()
    samples = []
    for seed in range(300):
        torch.manual_seed(seed)
        samples.append(conv(query, key, value, plan))
    torch.manual_seed(0)
    assert torch.equal(conv(query, key, value, plan), samples[0])
    samples = torch.stack(samples)
    # Each weight is gone or grows; of 300 times some 120 it is gone.
    edge = whole > 0
    kept = samples != 0
    scaled = (whole / 0.6).expand_as(samples)
    torch.testing.assert_close(samples[kept], scaled[kept], rtol=1e-6, atol=0)
    share = kept.double().mean(dim=0)[edge]
    # Five standard errors of one edge, and of the mean of all.
    assert ((share - 0.6).abs() < 5 * (0.24 / 300) ** 0.5).all()
    assert (share.mean() - 0.6).abs() < 5 * (0.24 / 300 / edge.sum()) ** 0.5
    # No two heads, and no two edges of a row, are dropped together.
    pattern = kept.flatten(1)[:, edge.flatten()].double()
    together = torch.corrcoef(pattern.t()).fill_diagonal_(0).abs().max()
    assert together < 6 / 300**0.5


@pytest.mark.parametrize('weights', [False, True])
@pytest.mark.parametrize('backend', BACKENDS)
def test_gradients_are_of_the_edges_that_were_kept(backend, weights):
    plan = plan_of(backend, window_mask(6, 7, 2))
    conv, options = (
        AttentionConv(dropout=0.3),
        options_of('heads sinks', plan, 4),
    )

    def function(*leaves):
        torch.manual_seed(3)
        named = dict(zip(options, leaves[3:], strict=True))
        return tuple(planned(plan, weights, *leaves[:3], conv=conv, **named))

    leaves = [*tensors_of(plan.size), *options.values()]
    leaves = [x.requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize('where', ['query', 'key', 'all keys', 'value'])
@pytest.mark.parametrize('ranges', [1, 3])
@pytest.mark.parametrize('backend', BACKENDS)
def test_nan_comes_out_where_it_is_seen(backend, ranges, where):
    mask = window_mask(70, 90, ranges)
    plan = plan_of(backend, mask)
    tensors = tensors_of(mask.shape[::-1], (2, 1, 5, 3), torch.float32)
    which = ['query', 'key', 'value'].index(where.split()[-1].rstrip('s'))
    nodes = slice(None) if 'all' in where else slice(40, 41)
    tensors[which][nodes] = float('nan')
    leaves = [x.requires_grad_() for x in tensors]
    out = AttentionConv()(*leaves, plan)
    seen = mask[:, nodes].any(dim=1)
    if where == 'query':
        seen = mask.any(dim=1)
        seen[:40] = seen[41:] = False
    # A product with a weight of zero may spread it, but never hide it.
    lost = seen[:, None, None] & ~out.isnan()
    assert seen.any()
    assert not lost.any()
    grads = torch.autograd.grad(out[seen].sum(), leaves)
    # The gradient of values does not depend on values.
    assert [bool(x.isnan().any()) for x in grads[:2]] == [True, True]
    assert where == 'value' or grads[2].isnan().any()
