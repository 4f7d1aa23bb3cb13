"""Triton kernels against the naive twin, and compiled for a GPU.

Without a GPU they run in Triton's interpreter, in Python. Triton looks for
``TRITON_INTERPRET`` when it is imported (its own functions change as well), so
the variable has to be there before anything imports it, and torch-geometric
does: hence it is set above the imports, as tests/conftest.py has to when other
modules are collected first.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

pytest.importorskip('triton', reason='triton is not installed')

import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from gnnbridge.nn.kernels import csr_triton
from gnnbridge.nn.naive import naive_attention

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
INF = float('inf')
# Sums of some tens of terms of size one, in another order. Half precision is
# rounded once, at the end: results of size one to four by 2^-9 (bf16) or
# 2^-12 (fp16) of their size.
CLOSE = {
    torch.float64: {'rtol': 1e-11, 'atol': 1e-12},
    torch.float32: {'rtol': 2e-5, 'atol': 2e-5},
    torch.bfloat16: {'rtol': 2**-8, 'atol': 2**-8},
    torch.float16: {'rtol': 2**-11, 'atol': 2**-11},
}

if DEVICE == 'cpu' and not isinstance(tl.sum, InterpretedFunction):
    raise RuntimeError(
        'Triton was imported before TRITON_INTERPRET=1 was set. Set it in '
        'tests/conftest.py.'
    )


def draw(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(DEVICE, dtype)


def mask_of(queries, keys, seed=0):
    """Few edges but for a full row, a full column and two empty ones."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(queries, keys, generator=generator) < 0.2
    mask[-2], mask[:, 1] = True, True
    mask[1], mask[:, 2] = False, False
    return mask.to(DEVICE)


def graph_of(mask):
    """CSR form, transposed form, and the edges [2, E] in CSR order."""
    row, col = mask.nonzero().t()
    order = torch.argsort(col * mask.size(0) + row)
    rowptr = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0))
    colptr = torch.nn.functional.pad(mask.sum(0).cumsum(0), (1, 0))
    sparse = rowptr, col.int()
    transposed = colptr, row[order].int(), order.int()
    return sparse, transposed, torch.stack([col, row])


def inputs_of(mask, heads, kv_heads, widths, dtype=torch.float64):
    queries, keys = mask.shape
    return [
        draw(queries, heads, widths[0], seed=1, dtype=dtype),
        draw(keys, kv_heads, widths[0], seed=2, dtype=dtype),
        draw(keys, kv_heads, widths[1], seed=3, dtype=dtype),
    ]


def options_of(mask, heads, names, dtype=torch.float64):
    edges, options = int(mask.sum()), {'scale': 0.7}
    options['softcap'] = 1.5 if 'softcap' in names else None
    sink = draw(mask.size(0), heads, seed=4, dtype=dtype)
    options['s_aux'] = sink if 'sink' in names else None
    keep = draw(edges, heads, seed=5) > -0.5
    options['keep'] = keep.to(dtype) / 0.7 if 'keep' in names else None
    options['edge_bias'] = None
    if 'shared bias' in names or 'bias' in names:
        columns = 1 if 'shared bias' in names else heads
        bias = draw(edges, columns, seed=6, dtype=dtype)
        # Edges that are off: some, and all that a row (the third) has.
        bias[::4] = -INF
        bias[mask.nonzero()[:, 0] == 2] = -INF
        options['edge_bias'] = bias
    return options


def naive(tensors, edge_index, *, keep, **options):
    """Output and weights, with dropout between the two."""
    _, dense = naive_attention(*tensors, edge_index, **options)
    key, query = edge_index
    alpha = dense[:, query, key].t()
    if keep is not None:
        factor = torch.ones_like(dense)
        factor[:, query, key] = keep.t().to(dense.dtype)
        dense = dense * factor
    value = tensors[2].to(dense.dtype)
    value = value.repeat_interleave(dense.size(0) // value.size(1), dim=1)
    return torch.einsum('hij,jhd->ihd', dense, value), alpha


def expected_of(tensors, edge_index, options, grads):
    """Output, weights and gradients by autograd in float64."""
    leaves = [x.double().requires_grad_() for x in tensors]
    options, sources = dict(options), list(leaves)
    for name in ('edge_bias', 's_aux'):
        if options[name] is not None:
            options[name] = options[name].double().requires_grad_()
            sources.append(options[name])
    out, alpha = naive(leaves, edge_index, **options)
    loss = (out * grads[0].double()).sum()
    if grads[1] is not None:
        loss = loss + (alpha * grads[1].double()).sum()
    results = [out, alpha, *torch.autograd.grad(loss, sources)]
    return [x.detach() for x in results]


def actual_of(tensors, graph, options, grads):
    """The same, by the kernels, which must not write to their inputs."""
    sparse, transposed, _ = graph
    held = [*tensors, *sparse, *transposed, *options.values(), *grads]
    held = [x for x in held if isinstance(x, torch.Tensor)]
    before = [x.clone() for x in held]
    out, lse, alpha = csr_triton.forward(
        *tensors, *sparse, **options, return_weights=True
    )
    *results, grad_bias, delta = csr_triton.backward(
        *grads, *tensors, lse, *sparse, *transposed, **options, bias_grad=True
    )
    assert all(map(torch.equal, held, before))
    assert out.dtype == tensors[2].dtype
    assert [x.dtype for x in results] == [x.dtype for x in tensors]
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    assert lse.dtype == alpha.dtype == delta.dtype == wide
    results = [out, alpha, *results]
    if options['edge_bias'] is not None:
        assert grad_bias.dtype == options['edge_bias'].dtype
        results.append(grad_bias)
    else:
        assert grad_bias is None
    if options['s_aux'] is not None:
        results.append(-torch.exp(options['s_aux'] - lse) * delta)
    return results


def compare(actual, expected, dtype):
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x.double(), y, **CLOSE[dtype])


PLAIN = (2, 2, (5, 3))
# Three queries of a key: a lane of four is idle, and a bias that they share is
# summed in two turns.
GROUPED = (9, 3, (3, 9))
WIDE_GROUP = (9, 1, (1, 1))  # more queries of a key than a program takes
ALL = ('softcap', 'sink', 'keep', 'grad_alpha')


@pytest.mark.parametrize(
    ('heads', 'names'),
    [
        *((PLAIN, (name,)) for name in ('', *ALL, 'shared bias', 'bias')),
        (GROUPED, ('shared bias',)),
        (GROUPED, (*ALL, 'bias')),
        (WIDE_GROUP, (*ALL, 'shared bias')),
    ],
)
def test_outputs_and_gradients_equal_the_naive_twin(heads, names):
    # Nine edges in the full row and ten in the full column need a second turn
    # of the loop, which takes eight edges, or pairs of one and a head.
    mask = mask_of(11, 10) if heads is PLAIN else mask_of(5, 11)
    graph = graph_of(mask)
    tensors = inputs_of(mask, *heads)
    options = options_of(mask, heads[0], names)
    grad_alpha = draw(int(mask.sum()), heads[0], seed=7)
    grads = (
        draw(mask.size(0), heads[0], heads[2][1], seed=8),
        grad_alpha if 'grad_alpha' in names else None,
    )
    actual = actual_of(tensors, graph, options, grads)
    expected = expected_of(tensors, graph[2], options, grads)
    compare(actual, expected, torch.float64)


@pytest.mark.parametrize('dtype', list(CLOSE)[1:])
def test_other_precisions_are_close_to_float64(dtype):
    mask = mask_of(5, 6)
    graph = graph_of(mask)
    tensors = inputs_of(mask, 4, 2, (8, 8), dtype)
    names = (*ALL, 'bias')
    options = options_of(mask, 4, names, dtype)
    grads = (
        draw(5, 4, 8, seed=8, dtype=dtype),
        draw(int(mask.sum()), 4, seed=7, dtype=dtype),
    )
    actual = actual_of(tensors, graph, options, grads)
    expected = expected_of(tensors, graph[2], options, grads)
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x.double(), y, **CLOSE[x.dtype])
    # Weights are float32 for all of them.
    assert actual[1].dtype == torch.float32


def test_strided_inputs_give_the_same_numbers():
    mask = mask_of(4, 4)
    graph = graph_of(mask)
    packed = draw(4, 2, 3, 5, seed=1)
    options = options_of(mask, 2, ('keep', 'bias'))
    # An expanded gradient, as that of a sum, has no strides at all.
    grads = (draw(1, 1, 5, seed=2).expand(4, 2, 5), None)
    views = packed.unbind(dim=2)
    assert not any(x.is_contiguous() for x in views)
    expected = actual_of([x.clone() for x in views], graph, options, grads)
    for strided in (views, [x.mT.contiguous().mT for x in views]):
        actual = actual_of(strided, graph, options, grads)
        assert all(map(torch.equal, actual, expected))
    stepped = {
        **options,
        'edge_bias': options['edge_bias'].t().contiguous().t(),
        'keep': options['keep'].t().contiguous().t(),
    }
    sink = draw(2, seed=3).expand(4, 2)
    actual = actual_of(views, graph, {**stepped, 's_aux': sink}, grads)
    expected = {**options, 's_aux': sink.contiguous()}
    expected = actual_of(views, graph, expected, grads)
    assert all(map(torch.equal, actual, expected))


def test_results_repeat_to_the_bit():
    mask = mask_of(4, 9)
    graph = graph_of(mask)
    tensors = inputs_of(mask, 2, 1, (4, 4), torch.float32)
    options = options_of(mask, 2, ('shared bias',), torch.float32)
    grads = (draw(4, 2, 4, seed=8, dtype=torch.float32), None)
    first = actual_of(tensors, graph, options, grads)
    second = actual_of(tensors, graph, options, grads)
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize('sink', [None, -INF, 0.3])
def test_rows_that_hold_nothing_are_zero(sink):
    mask = torch.ones(3, 4, dtype=torch.bool, device=DEVICE)
    mask[1] = False
    graph = graph_of(mask)
    tensors = inputs_of(mask, 2, 2, (3, 3))
    options = options_of(mask, 2, ('bias',))  # row 2 is switched off
    if sink is not None:
        shape = (3, 2)
        options['s_aux'] = torch.full(shape, sink, dtype=torch.float64).to(
            DEVICE
        )
    _, lse, _ = csr_triton.forward(
        *tensors, *graph[0], **options, return_weights=False
    )
    assert (lse[1:] == (-INF if sink is None else sink)).all()
    assert lse[0].isfinite().all()

    grads = (draw(3, 2, 3, seed=8), draw(8, 2, seed=7))
    results = actual_of(tensors, graph, options, grads)
    results = results[:6] if sink == -INF else results
    assert all(x.isfinite().all() for x in results)
    out, alpha, grad_query, _, _, grad_bias, *_ = results
    for x in (out[1:], alpha[4:], grad_query[1:], grad_bias[4:]):
        assert (x == 0).all()


def test_large_scores_neither_overflow_nor_lose_their_order():
    mask = mask_of(4, 5)
    graph = graph_of(mask)
    tensors = inputs_of(mask, 2, 2, (3, 3), torch.float32)
    options = {**options_of(mask, 2, ()), 'scale': 1e4}
    grads = (draw(4, 2, 3, seed=8, dtype=torch.float32), None)
    for softcap in (None, 50.0):
        options['softcap'] = softcap
        actual = actual_of(tensors, graph, options, grads)
        expected = expected_of(tensors, graph[2], options, grads)
        # Scores of 1e4 are off by some 1e-3 in float32, times as much as the
        # scale in the gradients; only output and weights are compared.
        for x, y in zip(actual[:2], expected[:2], strict=True):
            torch.testing.assert_close(x.double(), y, rtol=1e-2, atol=1e-2)
        assert all(x.isfinite().all() for x in actual)


@pytest.mark.parametrize('nodes', [slice(1, 2), slice(None)])
def test_nan_comes_out_where_it_is_seen(nodes):
    mask = mask_of(6, 5)
    graph = graph_of(mask)
    query, key, value = inputs_of(mask, 2, 2, (3, 3), torch.float32)
    key[nodes] = float('nan')
    out, lse, _ = csr_triton.forward(
        query, key, value, *graph[0], **options_of(mask, 2, ()),
        return_weights=False,
    )  # fmt: skip
    seen = mask[:, nodes].any(dim=1)
    for x in (out.flatten(1), lse):
        assert torch.equal(x.isnan().all(dim=1), seen)
        assert torch.equal(x.isnan().any(dim=1), seen)


@pytest.mark.parametrize(('queries', 'keys'), [(3, 4), (0, 4), (3, 0)])
def test_graphs_without_edges(queries, keys):
    mask = torch.zeros(queries, keys, dtype=torch.bool, device=DEVICE)
    tensors = inputs_of(mask, 4, 2, (3, 2))
    options = options_of(mask, 4, ())
    options['edge_bias'] = torch.zeros(0, 1, dtype=torch.float64, device=DEVICE)
    grads = (draw(queries, 4, 2, seed=8), None)
    results = actual_of(tensors, graph_of(mask), options, grads)
    shapes = [(queries, 4, 2), (0, 4), *(x.shape for x in tensors), (0, 1)]
    assert [x.shape for x in results] == [torch.Size(x) for x in shapes]
    assert all((x == 0).all() for x in results)


def test_weights_and_the_bias_gradient_are_made_on_request_only():
    mask = mask_of(4, 5)
    sparse, transposed, _ = graph_of(mask)
    tensors = inputs_of(mask, 2, 2, (3, 3))
    options = options_of(mask, 2, ('shared bias',))
    _, lse, alpha = csr_triton.forward(
        *tensors, *sparse, **options, return_weights=False
    )
    assert alpha.shape == (0, 2)
    assert alpha.dtype == torch.float64
    grads = csr_triton.backward(
        *(draw(4, 2, 3, seed=8), None, *tensors, lse, *sparse, *transposed),
        **options,
        bias_grad=False,
    )
    assert grads[3] is None


COMPILE = """
import re, sys, types
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction


class Driver:  # of a Hopper GPU that need not be there
    get_current_target = staticmethod(lambda: GPUTarget('cuda', 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=None: 0)


def compile_only(kernel, grid):
    def run(*args, **kwargs):
        ptx = kernel.warmup(*args, grid=grid, **kwargs).asm['ptx']
        loads = ptx.count('ld.global.v4') + ptx.count('v4.b32')
        atomics = re.findall(r'\\b(?:atom|red)\\.', ptx)
        print(kernel.__name__, int(loads > 0), len(atomics))
    return run


triton.runtime.driver.set_active(Driver())
JITFunction.__getitem__ = compile_only
# The package without its __init__, which takes longer to import than all this.
for name in ('gnnbridge', 'gnnbridge.nn', 'gnnbridge.nn.kernels'):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [f'{sys.argv[1]}/{name.replace(".", "/")}']
from gnnbridge.nn.kernels import csr_triton

rowptr = torch.zeros(65, dtype=torch.long)
col = torch.zeros(2048, dtype=torch.int32)
for dtype, heads, width, extra in (
    (torch.bfloat16, (8, 2), (32, 64), True),
    (torch.float64, (3, 3), (5, 3), False),
):
    wide = torch.promote_types(dtype, torch.float32)
    query = torch.zeros(64, heads[0], width[0], dtype=dtype)
    key = torch.zeros(64, heads[1], width[0], dtype=dtype)
    value = torch.zeros(64, heads[1], width[1], dtype=dtype)
    edges = torch.zeros(2048, heads[0], dtype=wide) if extra else None
    sink = torch.zeros(64, heads[0], dtype=wide) if extra else None
    options = dict(scale=0.1, softcap=2.0 if extra else None, s_aux=sink,
                   edge_bias=edges, keep=edges)
    out, lse, _ = csr_triton.forward(
        query, key, value, rowptr, col, **options, return_weights=extra)
    csr_triton.backward(
        out, edges, query, key, value, lse, rowptr, col, rowptr, col, col,
        **options, bias_grad=extra)
"""


def test_kernels_compile_for_a_gpu_without_atomics(tmp_path):
    # The interpreter knows no types; the compiler does, and needs no GPU.
    root = Path(csr_triton.__file__).parents[3]
    environment = {
        **{k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'},
        'TRITON_CACHE_DIR': str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, '-c', COMPILE, str(root)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    compiled = [line.split() for line in done.stdout.splitlines()]
    passes = ['forward_kernel', 'rows_kernel', 'columns_kernel']
    with_weights = ['forward_kernel', 'weights_kernel', *passes[1:]]
    assert [x[0] for x in compiled] == with_weights + passes
    assert all(atomics == '0' for *_, atomics in compiled)
    # Rows of a width that fits are read 16 bytes at a time.
    assert all(loads == '1' for _, loads, _ in compiled[:4])
