import pytest
import torch

from gnnbridge.nn import AttentionConv, plan_attention
from gnnbridge.nn.kernels import dense
from gnnbridge.nn.naive import naive_attention

INF = float('inf')
# Sums of some tens of terms of size one, in another order.
CLOSE = {'rtol': 1e-11, 'atol': 1e-12}
BATCH, HEADS = 2, 4
SIZES = [(5, 5), (3, 7), (1, 6), (6, 4)]
# What else is given, and the shape of it.
CASES = {
    'plain': {},
    'mask': {'mask': (1, 1)},
    'mask of graphs': {'mask': (BATCH, 1)},
    'mask of heads': {'mask': (1, HEADS)},
    'mask of graphs and heads': {'mask': (BATCH, HEADS)},
    'bias': {'bias': (1, 1)},
    'bias and mask': {'bias': (BATCH, HEADS), 'mask': (1, HEADS)},
    'softcap': {'softcap': (), 'mask': (BATCH, 1)},
    'sink': {'s_aux': (1, HEADS)},
    'sink of queries': {'s_aux': (BATCH, HEADS), 'mask': (BATCH, HEADS)},
    'all': {
        'softcap': (), 'bias': (1, HEADS), 'mask': (BATCH, 1),
        's_aux': (BATCH, HEADS),
    },
}  # fmt: skip


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def inputs(queries, keys, kv_heads=2):
    return [
        draw(BATCH, HEADS, queries, 5, seed=1),
        draw(BATCH, kv_heads, keys, 5, seed=2),
        draw(BATCH, kv_heads, keys, 3, seed=3),
    ]


def options_of(case, queries, keys):
    options = {}
    for name, shape in CASES[case].items():
        if name == 'mask':
            options[name] = draw(*shape, queries, keys, seed=4) > -0.3
            options[name][..., -1, :] = False
        elif name == 'bias':
            options[name] = draw(*shape, queries, keys, seed=5)
            options[name][..., 0, 0] = -INF
        elif name == 's_aux':
            # One for each query where there is one for each graph.
            width = queries if shape[0] > 1 else 1
            options[name] = draw(*shape, width, seed=6)
        else:
            options[name] = 0.8
    return options


def naive(query, key, value, causal, mask=None, bias=None, s_aux=None, **rest):
    """The naive twin over all pairs; those that are off are -inf."""
    queries, keys = query.size(2), key.size(2)
    shape = BATCH, HEADS, queries, keys
    i, j = torch.cartesian_prod(torch.arange(queries), torch.arange(keys)).t()
    kept = torch.ones(shape, dtype=torch.bool)
    kept = kept if mask is None else kept & mask
    kept = kept & (j <= i + keys - queries).view(shape[2:]) if causal else kept
    score = torch.zeros(shape, dtype=torch.double)
    score = score if bias is None else score + bias
    score = score.masked_fill(~kept, -INF).flatten(2)
    outs, weights = [], []
    for b in range(BATCH):
        sink = None
        if s_aux is not None:
            sink = s_aux.expand(BATCH, HEADS, queries)[b].t()
        tensors = [x[b].transpose(0, 1) for x in (query, key, value)]
        out, weight = naive_attention(
            *tensors, torch.stack([j, i]), scale=0.7, s_aux=sink,
            edge_bias=score[b].t(), **rest,
        )  # fmt: skip
        outs.append(out.transpose(0, 1))
        weights.append(weight)
    return torch.stack(outs), torch.stack(weights)


def gradients(results, leaves):
    total = sum(
        (x * draw(*x.shape, seed=n)).sum() for n, x in enumerate(results, 7)
    )
    return torch.autograd.grad(total, leaves)


@pytest.mark.parametrize('weights', [False, True])
@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('size', SIZES)
def test_outputs_weights_and_gradients(size, case, causal, weights):
    tensors, options = inputs(*size), options_of(case, *size)
    leaves = [
        *tensors,
        *(options[x] for x in ('bias', 's_aux') if x in options),
    ]
    for x in leaves:
        x.requires_grad_()
    theirs = naive(*tensors, causal, **options)[: 1 + weights]
    truth = gradients(theirs, leaves)
    for differentiable in (False, True):
        ours = dense.attention(
            *tensors, scale=0.7, causal=causal, return_weights=weights,
            differentiable=differentiable, **options,
        )  # fmt: skip
        assert (ours[1] is not None) == weights
        ours = ours[: 1 + weights]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
        for one, other in zip(gradients(ours, leaves), truth, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize('kv_heads', [1, 2, 4])
def test_grouped_queries(kv_heads):
    tensors = inputs(5, 7, kv_heads)
    theirs, weights = naive(*tensors, True)
    for given in ({}, {'differentiable': True}, {'return_weights': True}):
        out, alpha = dense.attention(*tensors, scale=0.7, causal=True, **given)
        torch.testing.assert_close(out, theirs, **CLOSE)
        assert alpha is None or torch.allclose(alpha, weights, **CLOSE)


@pytest.mark.parametrize('case', ['mask', 'bias and mask', 'all'])
def test_derivatives_of_second_order_and_in_forward_mode(case):
    """With rows that see nothing."""
    options = options_of(case, 3, 4)
    names = [x for x in ('bias', 's_aux') if x in options]
    leaves = [*inputs(3, 4), *(options.pop(x) for x in names)]

    def function(*leaves):
        rest = options | dict(zip(names, leaves[3:], strict=True))
        return dense.attention(
            *leaves[:3], scale=0.7, causal=True, differentiable=True,
            return_weights=True, **rest,
        )  # fmt: skip

    # Numerical differences need finite inputs.
    leaves = [x.nan_to_num(neginf=0.1).requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(
        function, leaves, fast_mode=True, check_forward_ad=True
    )
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_has_float32_weights(dtype):
    tensors = [x.to(dtype) for x in inputs(5, 5)]
    truth = naive(*[x.double() for x in tensors], True)
    for differentiable in (False, True):
        out, weights = dense.attention(
            *tensors, scale=0.7, causal=True, return_weights=True,
            differentiable=differentiable,
        )  # fmt: skip
        assert (out.dtype, weights.dtype) == (dtype, torch.float32)
        # Rounded once; values of size three.
        unit = torch.finfo(dtype).eps / 2
        close = {'rtol': 1.01 * unit, 'atol': 1e-6}
        torch.testing.assert_close(out.double(), truth[0], **close)
        torch.testing.assert_close(
            weights.double(), truth[1], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize('size', [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize('case', ['plain', 'mask', 'bias', 'sink', 'all'])
def test_no_queries_or_no_keys(case, size):
    options = {} if case == 'plain' else options_of(case, 1, 1)
    for name in options.keys() & {'mask', 'bias'}:
        options[name] = options[name][..., :0, :0].new_empty(1, 1, *size)
    if 's_aux' in options:
        options['s_aux'] = options['s_aux'][..., :1].expand(-1, -1, size[0])
    for given in ({}, {'differentiable': True}, {'return_weights': True}):
        out, _ = dense.attention(*inputs(*size), scale=1.0, **options, **given)
        assert out.tolist() == torch.zeros(BATCH, HEADS, size[0], 3).tolist()


def graph():
    """Edges in some order, with a row of none, and inputs."""
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    mask[4] = False
    query, key = mask.nonzero().flip(0).t()
    tensors = [draw(6, 2, 4, seed=n).requires_grad_() for n in range(3)]
    return torch.stack([key, query]), tensors


@pytest.mark.parametrize('backend', ['dense', 'scatter'])
@pytest.mark.parametrize('given', ['edges', 'all', 'causal'])
def test_it_compiles_as_one_graph(given, backend):
    edge_index, tensors = graph()
    plan = plan_attention(
        'causal' if given == 'causal' else edge_index, (6, 6), backend=backend
    )
    options = {}
    if given == 'all':
        options = {
            'edge_bias': draw(plan.num_edges, 2, seed=4).requires_grad_(),
            's_aux': draw(2, seed=5).requires_grad_(),
            'softcap': 1.5,
        }
    conv, leaves = AttentionConv(), [*tensors, *list(options.values())[:2]]
    torch.compiler.reset()
    compiled = torch.compile(conv, backend='aot_eager', fullgraph=True)
    ours = compiled(*tensors, plan, **options)
    theirs = conv(*tensors, plan, **options)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    pairs = [gradients([x], leaves) for x in (ours, theirs)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize('backend', ['dense', 'scatter'])
def test_it_compiles_for_inputs_of_any_size(backend):
    """A second size is where torch replaces numbers by symbols."""
    torch.compiler.reset()
    conv = AttentionConv()
    compiled = torch.compile(conv, backend='aot_eager', fullgraph=True)
    for nodes in (4, 6, 7):
        plan = plan_attention('causal', (nodes, nodes), backend=backend)
        assert plan.edge_index.size(1) == nodes * (nodes + 1) // 2
        tensors = [draw(nodes, 2, nodes, seed=n) for n in range(3)]
        ours, theirs = compiled(*tensors, plan), conv(*tensors, plan)
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_second_derivatives_need_torch_s_operations():
    edge_index, tensors = graph()
    for backend in ('dense', 'scatter'):
        plan = plan_attention(edge_index, (6, 6), backend=backend)

        def function(*tensors, plan=plan):
            return AttentionConv()(*tensors, plan)

        if backend == 'scatter':
            assert torch.autograd.gradgradcheck(
                function, tensors, fast_mode=True
            )
            continue
        (grad,) = torch.autograd.grad(
            function(*tensors).square().sum(), tensors[0], create_graph=True
        )
        with pytest.raises(NotImplementedError, match=r"of backend 'dense'"):
            grad.sum().backward()


@pytest.mark.parametrize('given', ['edges', 'causal', 'options'])
def test_functional_derivatives_of_an_automatic_plan(given):
    edge_index, (query, key, value) = graph()
    plan = plan_attention('causal' if given == 'causal' else edge_index, (6, 6))
    options = {}
    if given == 'options':
        options = {'edge_bias': draw(plan.num_edges, seed=4), 'softcap': 1.5}
    query = query.detach()
    key, value = key.detach(), value.detach()

    def ours(query):
        return AttentionConv()(query, key, value, plan, **options)

    def naive(query):
        return naive_attention(query, key, value, plan.edge_index, **options)[0]

    def loss(function):
        return lambda query: function(query).square().sum()

    tangent, batch = draw(6, 2, 4, seed=5), draw(3, 6, 2, 4, seed=6)
    for one, other in [
        [torch.func.grad(loss(f))(query) for f in (ours, naive)],
        [torch.func.hessian(loss(f))(query) for f in (ours, naive)],
        [torch.func.vmap(f)(batch) for f in (ours, naive)],
        [torch.func.jvp(f, (query,), (tangent,))[1] for f in (ours, naive)],
    ]:
        torch.testing.assert_close(one, other, **CLOSE)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(query, tangent)
        pushed = torch.autograd.forward_ad.unpack_dual(ours(dual)).tangent
    expected = torch.func.jvp(naive, (query,), (tangent,))[1]
    torch.testing.assert_close(pushed, expected, **CLOSE)
