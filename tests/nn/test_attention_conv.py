import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.utils import softmax

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.naive import naive_attention

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
INF = float('inf')
QUERIES, KEYS, HEADS = 7, 11, 6
# Sums of at most some tens of terms of size one, in another order.
TOLERANCE = {
    torch.float64: {'rtol': 1e-12, 'atol': 1e-13},
    torch.float32: {'rtol': 1e-4, 'atol': 1e-5},
}
# Options beside the plain case, each drawn with these shapes.
OPTIONS = {
    'plain': {},
    'scale': {'scale': 1.3},
    'softcap': {'softcap': 0.8},
    'bias_per_edge': {'edge_bias': ('E',)},
    'bias_column': {'edge_bias': ('E', 1)},
    'bias_per_head': {'edge_bias': ('E', HEADS)},
    'sink_per_head': {'s_aux': (HEADS,)},
    'sink_per_query': {'s_aux': (QUERIES, HEADS)},
    'all': {
        'scale': 0.6,
        'softcap': 1.5,
        'edge_bias': ('E', HEADS),
        's_aux': (HEADS,),
    },
}


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(
        dtype
    )


def inputs(kv_heads=HEADS, dtype=torch.float64):
    """Queries and keys of width 5, values of width 3."""
    return [
        draw(QUERIES, HEADS, 5, seed=1, dtype=dtype),
        draw(KEYS, kv_heads, 5, seed=2, dtype=dtype),
        draw(KEYS, kv_heads, 3, seed=3, dtype=dtype),
    ]


def random_edges(seed=4, density=0.5):
    """Edges in random order, without query 2 and without key 3."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(QUERIES, KEYS, generator=generator) < density
    mask[2], mask[:, 3] = False, False
    query, key = mask.nonzero().t()
    order = torch.randperm(key.numel(), generator=generator)
    return torch.stack([key, query])[:, order]


def draw_options(name, num_edges, dtype=torch.float64):
    options = {}
    for seed, (key, value) in enumerate(OPTIONS[name].items(), start=5):
        if isinstance(value, tuple):
            shape = [num_edges if n == 'E' else n for n in value]
            value = draw(*shape, seed=seed, dtype=dtype)
        options[key] = value
    return options


def gradients(out, tensors):
    tensors = [x for x in tensors if isinstance(x, torch.Tensor)]
    cotangent = draw(*out.shape, seed=9, dtype=out.dtype)
    return torch.autograd.grad(out, tensors, cotangent)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('kv_heads', [1, 2, 3, 6])
@pytest.mark.parametrize('name', OPTIONS)
def test_outputs_and_gradients_equal_the_dense_twin(name, kv_heads, dtype):
    edge_index = random_edges()
    tensors = inputs(kv_heads, dtype)
    options = draw_options(name, edge_index.size(1), dtype)
    before = [x.clone() for x in tensors]
    out = AttentionConv()(*tensors, edge_index, **options)
    assert out.shape == (QUERIES, HEADS, 3)
    assert out.dtype == dtype
    assert all(map(torch.equal, tensors, before))

    leaves = [*tensors, *options.values()]
    for x in leaves:
        if isinstance(x, torch.Tensor):
            x.requires_grad_()
    out = AttentionConv()(*tensors, edge_index, **options)
    expected, _ = naive_attention(*tensors, edge_index, **options)
    torch.testing.assert_close(out, expected, **TOLERANCE[dtype])
    pairs = zip(
        gradients(out, leaves), gradients(expected, leaves), strict=True
    )
    for grad, other in pairs:
        torch.testing.assert_close(grad, other, **TOLERANCE[dtype])


@pytest.mark.parametrize('kv_heads', [1, 2, 6])
def test_a_kv_cache_is_a_bipartite_graph(kv_heads):
    """The last two queries of a causal graph, with all keys before them."""
    query, key, value = (
        draw(9, 6, 5),
        draw(9, kv_heads, 5),
        draw(9, kv_heads, 4),
    )
    i, j = torch.ones(9, 9, dtype=torch.bool).tril().nonzero().t()
    full = AttentionConv()(query, key, value, torch.stack([j, i]))
    last = i >= 7
    step = torch.stack([j[last], i[last] - 7])
    out = AttentionConv()(query[7:], key, value, step)
    assert out.shape == (2, 6, 4)
    torch.testing.assert_close(out, full[7:], **TOLERANCE[torch.float64])
    # More queries than keys: cross-attention to a short encoder.
    out = AttentionConv()(query, key[:2], value[:2], torch.stack([j, i])[:, :1])
    assert out.shape == (9, 6, 4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_runs_a_float32_softmax(dtype):
    queries, keys = 3, 2000
    query = draw(queries, 2, 32, seed=1, dtype=dtype)
    key = draw(keys, 2, 32, seed=2, dtype=dtype)
    value = draw(keys, 2, 32, seed=3).add(1).to(dtype)
    j, i = torch.cartesian_prod(torch.arange(keys), torch.arange(queries)).t()
    out, (_, alpha) = AttentionConv()(
        query, key, value, torch.stack([j, i]), return_attention_weights=True
    )
    assert out.dtype == dtype
    assert alpha.dtype == torch.float32
    truth, attention = naive_attention(
        query.double(), key.double(), value.double(), torch.stack([j, i])
    )
    attention = attention[:, i, j].t()

    score = (query[i] * key[j]).sum(dim=-1) * 32**-0.5
    in_dtype = softmax(score, i, num_nodes=queries)
    low = value.new_zeros(out.shape)
    low = low.index_add(0, i, in_dtype.unsqueeze(-1) * value[j])

    # float32 rounding of a score of size ten: measured 2e-6. In the input's
    # dtype it is 4e-2 (bfloat16) and 5e-3 (float16).
    torch.testing.assert_close(alpha.double(), attention, rtol=1e-5, atol=0)
    assert (in_dtype / attention - 1).abs().max() > 3e-3
    # The sum is float32 too: only the last rounding is in the input's dtype,
    # and next to a rounding boundary it may go the other way.
    rounded = truth.to(dtype)
    assert (out != rounded).double().mean() < 0.02
    assert (low != rounded).double().mean() > 0.2


def test_the_order_of_edges_does_not_matter():
    tensors, edge_index = inputs(kv_heads=2), random_edges()
    options = draw_options('all', edge_index.size(1))
    out, (_, alpha) = AttentionConv()(
        *tensors, edge_index, **options, return_attention_weights=True
    )
    order = torch.randperm(edge_index.size(1))
    options['edge_bias'] = options['edge_bias'][order]
    other, (returned, moved) = AttentionConv()(
        *tensors, edge_index[:, order], **options, return_attention_weights=True
    )
    assert torch.equal(returned, edge_index[:, order])
    torch.testing.assert_close(other, out, **TOLERANCE[torch.float64])
    torch.testing.assert_close(moved, alpha[order])


def test_empty_rows_are_zero_with_zero_gradient():
    query, key, value = (x.requires_grad_() for x in inputs(kv_heads=2))
    edge_index = random_edges()
    bias = draw(edge_index.size(1), HEADS)
    # Query 2 has no edge; query 4 has some, all of them switched off, and
    # query 5 has none for head 1.
    bias[edge_index[1] == 4] = -INF
    bias[edge_index[1] == 5, 1] = -INF
    bias.requires_grad_()
    out = AttentionConv()(query, key, value, edge_index, edge_bias=bias)
    assert (out[[2, 4]] == 0).all()
    assert (out[5, 1] == 0).all()
    assert (out[5, 0] != 0).all()
    leaves = [query, key, value, bias]
    grads = gradients(out, leaves)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0][[2, 4]] == 0).all()
    assert (grads[1][3] == 0).all()
    assert (grads[3][edge_index[1] == 4] == 0).all()
    expected, _ = naive_attention(query, key, value, edge_index, edge_bias=bias)
    for grad, other in zip(grads, gradients(expected, leaves), strict=True):
        torch.testing.assert_close(grad, other, **TOLERANCE[torch.float64])


@pytest.mark.parametrize(('queries', 'keys'), [(3, 4), (3, 0), (0, 4), (0, 0)])
@pytest.mark.parametrize('kv_heads', [1, 2, 4])
def test_a_graph_without_edges_gives_zeros(queries, keys, kv_heads):
    tensors = [
        torch.ones(queries, 4, 5),
        torch.ones(keys, kv_heads, 5),
        torch.ones(keys, kv_heads, 3, requires_grad=True),
    ]
    edge_index = torch.zeros(2, 0, dtype=torch.long)
    out, (_, alpha) = AttentionConv()(
        *tensors,
        edge_index,
        s_aux=torch.zeros(4),
        return_attention_weights=True,
    )
    assert torch.equal(out, torch.zeros(queries, 4, 3))
    assert alpha.shape == (0, 4)
    out.sum().backward()
    assert torch.equal(tensors[2].grad, torch.zeros(keys, kv_heads, 3))


@PROPERTY
@given(st.integers(1, 8), st.integers(0, 999), st.booleans())
def test_nodes_may_be_renamed(num_nodes, seed, sink):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(num_nodes, num_nodes, generator=generator) < 0.6
    edge_index = mask.nonzero().t()
    query, key, value = (draw(num_nodes, 2, 3, seed=seed + n) for n in range(3))
    s_aux = draw(2, seed=seed) if sink else None
    out = AttentionConv()(query, key, value, edge_index, s_aux=s_aux)
    new = torch.randperm(num_nodes, generator=generator)
    old = new.argsort()
    renamed = AttentionConv()(
        query[old], key[old], value[old], new[edge_index], s_aux=s_aux
    )
    torch.testing.assert_close(renamed, out[old], **TOLERANCE[torch.float64])


@PROPERTY
@given(st.integers(1, 8), st.integers(0, 999))
def test_outputs_are_convex_combinations(num_nodes, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(num_nodes, num_nodes, generator=generator) < 0.6
    i, j = mask.nonzero().t()
    query, key, value = (draw(num_nodes, 2, 3, seed=seed + n) for n in range(3))
    edge_index = torch.stack([j, i])
    out, (_, alpha) = AttentionConv()(
        query, key, value, edge_index, return_attention_weights=True
    )
    assert ((alpha > 0) & (alpha <= 1)).all()
    for node in i.unique():
        # Rounding of at most eight terms of size one.
        total = alpha[i == node].sum(dim=0)
        torch.testing.assert_close(total, torch.ones(2).double())
        seen = value[j[i == node]]
        assert (out[node] <= seen.amax(dim=0) + 1e-14).all()
        assert (out[node] >= seen.amin(dim=0) - 1e-14).all()
    _, (_, with_sink) = AttentionConv()(
        query,
        key,
        value,
        edge_index,
        s_aux=torch.zeros(2),
        return_attention_weights=True,
    )
    assert (with_sink < alpha).all()


def test_a_batch_is_its_graphs():
    conv, sizes = AttentionConv(), [5, 1, 4]
    graphs = []
    for seed, n in enumerate(sizes):
        i, j = torch.ones(n, n).tril().nonzero().t()
        graphs.append(
            Data(
                edge_index=torch.stack([j, i]),
                query=draw(n, 4, 3, seed=seed),
                key=draw(n, 2, 3, seed=seed + 10),
                value=draw(n, 2, 3, seed=seed + 20),
                num_nodes=n,
            )
        )

    def run(data):
        return conv(data.query, data.key, data.value, data.edge_index)

    expected = torch.cat([run(data) for data in graphs])
    out = run(Batch.from_data_list(graphs))
    torch.testing.assert_close(out, expected, **TOLERANCE[torch.float64])


@pytest.mark.parametrize('name', ['softcap', 'all', 'sink_per_query'])
def test_gradients_equal_finite_differences(name):
    edge_index = random_edges(density=0.2)
    options = draw_options(name, edge_index.size(1))
    names = [k for k, v in options.items() if isinstance(v, torch.Tensor)]
    given = {k: v for k, v in options.items() if k not in names}
    tensors = [*inputs(kv_heads=2), *(options[k] for k in names)]

    def function(query, key, value, *rest):
        extra = dict(zip(names, rest, strict=True))
        return AttentionConv()(query, key, value, edge_index, **given, **extra)

    tensors = [x.requires_grad_() for x in tensors]
    # Random directions instead of all: some hundred inputs and outputs.
    assert torch.autograd.gradcheck(
        function, tensors, fast_mode=True, check_forward_ad=True
    )


def test_functional_derivatives_equal_those_of_the_dense_twin():
    query, key, value = inputs(kv_heads=2)
    edge_index, conv = random_edges(), AttentionConv()
    tangent = draw(*query.shape, seed=7)
    cotangent = draw(QUERIES, HEADS, 3, seed=8)

    def sparse(query):
        return conv(query, key, value, edge_index)

    def dense(query):
        return naive_attention(query, key, value, edge_index)[0]

    jacobian = torch.autograd.functional.jacobian(dense, query)
    rows = torch.func.jacrev(sparse)(query)
    columns = torch.func.jacfwd(sparse)(query)
    _, pushed = torch.func.jvp(sparse, (query,), (tangent,))
    _, pull = torch.func.vjp(sparse, query)
    for ours, expected in [
        (rows, jacobian),
        (columns, jacobian),
        (pushed, torch.einsum('ihdjge,jge->ihd', jacobian, tangent)),
        (
            pull(cotangent)[0],
            torch.einsum('ihdjge,ihd->jge', jacobian, cotangent),
        ),
    ]:
        torch.testing.assert_close(ours, expected, **TOLERANCE[torch.float64])
