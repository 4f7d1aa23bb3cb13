import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.nn import AttentionConv, plan_attention
from gnnbridge.nn.kernels import csr, csr_cpu
from gnnbridge.nn.naive import naive_attention

INF = float('inf')
# Sums of some hundred terms of size one to ten, in another order.
CLOSE = {'rtol': 1e-11, 'atol': 1e-12}
# Heads one by one from copies, or all together where they lie.
LAYOUTS = pytest.mark.parametrize('cache', [1 << 20, 0])


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(dtype)


def plan_of(queries, keys, density):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(queries, keys, generator=generator) < density
    mask[2:3], mask[:, 1:2] = False, False
    query, key = mask.nonzero().t()
    order = torch.randperm(key.numel(), generator=generator)
    return plan_attention(
        torch.stack([key, query])[:, order], (keys, queries), backend='csr_cpu'
    )


def inputs(size, widths=(4, 2, 5, 3), dtype=torch.float64):
    (keys, queries), (heads, kv_heads, width, value_width) = size, widths
    return [
        draw(queries, heads, width, seed=1, dtype=dtype),
        draw(keys, kv_heads, width, seed=2, dtype=dtype),
        draw(keys, kv_heads, value_width, seed=3, dtype=dtype),
    ]


def options_of(plan, heads, names):
    options = {'scale': 0.7}
    if 'cap' in names:
        options['softcap'] = 1.2
    if 'bias' in names:
        options['edge_bias'] = draw(plan.num_edges, heads, seed=4)
        options['edge_bias'][::3, 0] = -INF
        options['edge_bias'][plan.edge_index[1] == 3] = -INF
    if 'column' in names:
        options['edge_bias'] = draw(plan.num_edges, 1, seed=4)
    if 'sink' in names:
        options['s_aux'] = draw(plan.size[1], heads, seed=5)
    return options


def gradients(results, leaves):
    total = sum(
        (x * draw(*x.shape, seed=n)).sum() for n, x in enumerate(results, 7)
    )
    return torch.autograd.grad(total, leaves)


def check(plan, tensors, options, weights, **close):
    key, query = plan.edge_index
    leaves = tensors + [
        options[x] for x in ('edge_bias', 's_aux') if x in options
    ]
    for x in leaves:
        x.requires_grad_()
    out = AttentionConv()(
        *tensors, plan, return_attention_weights=weights, **options
    )
    ours = [out[0], out[1][1]] if weights else [out]
    out, attention = naive_attention(*tensors, plan.edge_index, **options)
    theirs = [out, attention[:, query, key].t()][: 1 + weights]
    pairs = gradients(ours, leaves), gradients(theirs, leaves)
    for x in leaves:
        x.requires_grad_(False)
    pairs = [*ours, *pairs[0]], [*theirs, *pairs[1]]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, **(close or CLOSE))


@LAYOUTS
@pytest.mark.parametrize('names', ['', 'cap bias sink', 'column'])
@pytest.mark.parametrize(
    'widths', [(1, 1, 1, 1), (4, 2, 5, 3), (4, 4, 16, 32), (6, 2, 64, 40)]
)
def test_both_layouts(widths, names, cache, monkeypatch):
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    for size in [(1, 1), (9, 7), (40, 70)]:
        plan = plan_of(*size, 0.9 if size == (1, 1) else 0.3)
        options = options_of(plan, widths[0], names)
        for weights in (False, True):
            check(plan, inputs(plan.size, widths), options, weights)


@LAYOUTS
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_layout_is_chosen_by_the_size_of_keys(cache, dtype, monkeypatch):
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    plan = plan_of(20, 24, 0.3)
    query, key, value = inputs(plan.size, (4, 2, 16, 16), dtype)
    out = AttentionConv()(query, key, value, plan)
    # The heads of a row lie side by side, or the rows of a head.
    assert out.stride() == ((64, 16, 1) if cache == 0 else (16, 320, 1))
    assert csr_cpu._is_shared(key) == (cache == 0)
    key_bytes = 24 * 16 * key.element_size()
    monkeypatch.setattr(csr_cpu, '_CACHE', key_bytes)
    assert not csr_cpu._is_shared(key)
    monkeypatch.setattr(csr_cpu, '_CACHE', key_bytes - 1)
    assert csr_cpu._is_shared(key)


@LAYOUTS
@pytest.mark.parametrize(
    ('widths', 'chunks'),
    [((6, 6, 8, 8), 6), ((6, 6, 24, 8), 3), ((6, 2, 8, 8), 2),
     ((6, 2, 40, 8), 2), ((6, 1, 8, 8), 1), ((6, 2, 64, 8), 1)],
)  # fmt: skip
def test_gradients_are_made_of_some_heads_at_a_time(
    widths, chunks, cache, monkeypatch
):
    """Two numbers per edge and head are to fit into the queries' space."""
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    plan, seen = plan_of(30, 30, 0.9), []
    works = csr_cpu._works

    def look(start, heads, *rest):
        seen.append(heads)
        return works(start, heads, *rest)

    monkeypatch.setattr(csr_cpu, '_works', look)
    for names in ('', 'cap bias sink'):
        seen.clear()
        options = options_of(plan, widths[0], names)
        check(plan, inputs(plan.size, widths), options, weights=True)
        # Forward, then two passes for each chunk: for rows and for keys.
        assert len(seen) == 1 + 2 * chunks
        assert seen[1::2] == seen[2::2]
        heads = [n for first, last in seen[1::2] for n in range(first, last)]
        assert heads == list(range(6))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.integers(0, 9), max_size=30), st.integers(1, 4),
    st.integers(0, 3), st.integers(1, 4), st.integers(1, 3), st.booleans(),
)  # fmt: skip
def test_every_row_of_every_head_is_one_thread_s(
    degrees, threads, first, teams, groups, shared
):
    start = torch.tensor([0, *degrees]).cumsum(0)
    heads = first * groups, (first + teams) * groups
    works = csr_cpu._works(start, heads, shared, threads, groups)
    cells = [
        (row, head)
        for low, high, one, other in works
        for row in range(low, high)
        for head in range(one, other)
    ]
    expected = {(n, h) for n in range(len(degrees)) for h in range(*heads)}
    assert len(cells) == len(expected)
    assert set(cells) == expected
    # Heads that share a key are not parted.
    assert all(one % groups == other % groups == 0 for *_, one, other in works)
    if threads > 1 and len(degrees) > 8 * threads:
        assert len(works) >= threads


@LAYOUTS
def test_dropped_edges_give_no_gradients(cache, monkeypatch):
    """Against the formula, for the mask that torch draws from this seed."""
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    plan = plan_of(9, 12, 0.5)
    tensors = [x.requires_grad_() for x in inputs(plan.size)]
    torch.manual_seed(3)
    keep = torch.empty(plan.num_edges, 4).bernoulli_(0.6).double() / 0.6
    torch.manual_seed(3)
    ours, alpha = csr.attention(
        *tensors, plan.rows, engine='csr_cpu', scale=0.7, dropout=0.4,
        return_weights=True,
    )  # fmt: skip
    key, query = plan.rows.sorted(plan.edge_index.t()).t()
    _, attention = naive_attention(*tensors, plan.edge_index, scale=0.7)
    weights = attention[:, query, key].t()
    torch.testing.assert_close(alpha, weights, **CLOSE)
    value = tensors[2].repeat_interleave(2, dim=1)[key]
    theirs = torch.zeros(9, 4, 3, dtype=torch.double).index_add(
        0, query, (weights * keep)[..., None] * value
    )
    # The factors are float32.
    for one, other in zip(
        [ours, *gradients([ours, alpha], tensors)],
        [theirs, *gradients([theirs, weights], tensors)],
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@LAYOUTS
@pytest.mark.parametrize('widths', [(4, 4, 5, 3), (4, 2, 16, 8)])
def test_gradients_are_those_of_finite_differences(widths, cache, monkeypatch):
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    plan = plan_of(6, 9, 0.5)
    options = options_of(plan, 4, 'cap sink')
    options['edge_bias'] = draw(plan.num_edges, 4, seed=4)

    def function(*leaves):
        return csr.attention(
            *leaves[:3], plan.rows, engine='csr_cpu', scale=0.7, softcap=1.5,
            edge_bias=leaves[3], s_aux=leaves[4], return_weights=True,
        )  # fmt: skip

    leaves = [
        *inputs(plan.size, widths),
        options['edge_bias'],
        options['s_aux'],
    ]
    leaves = [x.requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize('weights', [False, True])
def test_scores_may_be_large(weights):
    """Softmax of scores of size thousands; pieces of a row differ by much."""
    plan = plan_of(5, 700, 0.9)
    query, key, value = inputs(plan.size)
    key = key * torch.linspace(1, 1000, 700)[:, None, None]
    # Rounded are scores of size ten thousand, times keys of size a thousand.
    close = {'rtol': 1e-7, 'atol': 1e-7}
    for order in (key, key.flip(0)):
        tensors = [query, order, value]
        check(plan, tensors, {'scale': 3.0}, weights, **close)


@pytest.mark.parametrize(
    ('full', 'dtype'), [(False, torch.float64), (True, torch.bfloat16)]
)
@LAYOUTS
def test_torch_knows_the_operation(cache, full, dtype, monkeypatch):
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    plan = plan_of(6, 9, 0.5)
    width = 16 if full else 5
    tensors = inputs(plan.size, (4, 2, width, width), dtype)
    tensors = [x.requires_grad_() for x in tensors]
    rows, columns = plan.rows, plan.rows.columns
    extra = [None, None, None]
    if full:
        extra = [
            draw(plan.num_edges, 1, seed=4).requires_grad_(),
            draw(6, 4, seed=5).requires_grad_(),
            torch.ones(plan.num_edges, 4),
        ]
    torch.library.opcheck(
        torch.ops.gnnbridge.csr_attention.default,
        (
            *tensors, rows.start, rows.key, columns.start, columns.query,
            columns.edge, *extra, 0.7, 1.5, full, 'csr_cpu',
        ),
        test_utils=[
            'test_schema', 'test_autograd_registration', 'test_faketensor',
            'test_aot_dispatch_dynamic',
        ],
    )  # fmt: skip


@pytest.mark.parametrize('given', ['edges', 'all', 'causal', 'mask'])
def test_it_compiles_as_one_graph(given):
    plan, options = plan_of(9, 9, 0.5), {}
    if given in ('causal', 'mask'):
        graph = torch.eye(9).bool() if given == 'mask' else 'causal'
        plan = plan_attention(graph, (9, 9), backend='csr_cpu')
    if given == 'all':
        options = options_of(plan, 4, 'cap bias sink')
    tensors = [x.requires_grad_() for x in inputs(plan.size)]
    conv = AttentionConv()
    torch.compiler.reset()
    compiled = torch.compile(conv, backend='aot_eager', fullgraph=True)
    ours = compiled(*tensors, plan, **options)
    theirs = conv(*tensors, plan, **options)
    pairs = gradients([ours], tensors), gradients([theirs], tensors)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize('of', range(5))
def test_a_second_derivative_is_refused(of):
    plan = plan_of(9, 9, 0.5)
    names = {
        'edge_bias': draw(plan.num_edges, seed=4),
        's_aux': draw(4, seed=5),
    }
    leaves = [*inputs(plan.size), *names.values()]
    leaves[of].requires_grad_()
    names = dict(zip(names, leaves[3:], strict=True))
    out = AttentionConv()(*leaves[:3], plan, **names)
    (grad,) = torch.autograd.grad(
        out.square().sum(), leaves[of], create_graph=True
    )
    with pytest.raises(NotImplementedError, match=r"'csr_cpu' \(got a second"):
        grad.sum().backward()


@LAYOUTS
@pytest.mark.parametrize(
    ('size', 'density'),
    # Queries and keys: more rows than a block has, more edges than a block
    # has, and a row that is longer than a block.
    [((4200, 30), 0.05), ((350, 400), 0.9), ((3, 70_000), 1.0)],
)
def test_rows_in_more_than_one_block(size, density, cache, monkeypatch):
    monkeypatch.setattr(csr_cpu, '_CACHE', cache)
    plan = plan_of(*size, density)
    assert size[0] > 2048 or plan.num_edges > 1 << 16
    options = options_of(plan, 2, 'cap bias sink')
    # Rows sum up to 70 000 terms.
    close = {'rtol': 1e-9, 'atol': 1e-9}
    for groups in ((2, 2), (2, 1)):
        check(plan, inputs(plan.size, (*groups, 3, 5)), options, True, **close)
