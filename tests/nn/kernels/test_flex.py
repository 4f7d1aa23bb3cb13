import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import create_block_mask

from gnnbridge.nn.kernels import flex
from gnnbridge.nn.naive import naive_attention

pytestmark = pytest.mark.filterwarnings(
    # On the CPU it runs uncompiled, which is what torch warns of.
    'ignore:flex_attention called without torch.compile:UserWarning'
)
# Sums of some tens of terms of size one, in another order; rounding of bf16
# is 2^-9, and the output is rounded twice with a sink.
CLOSE = {
    torch.float64: {'rtol': 1e-11, 'atol': 1e-12},
    torch.float32: {'rtol': 1e-5, 'atol': 1e-5},
    torch.bfloat16: {'rtol': 1e-2, 'atol': 1e-2},
}


def draw(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(dtype)


def windows(queries, keys, count, seed):
    """Intervals that overlap, run over each other, or are empty."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(keys + 1, (queries, count), generator=generator)
    width = torch.randint(-4, keys, (queries, count), generator=generator)
    return start, (start + width).clamp(0, keys)


def dense(start, stop, num_keys):
    key = torch.arange(num_keys)
    return ((start[..., None] <= key) & (key < stop[..., None])).any(dim=1)


def cells(number, index, columns):
    """Table of the blocks that a `BlockMask` lists."""
    table = torch.zeros(number.size(-1), columns, dtype=torch.bool)
    for row, count in enumerate(number[0, 0].tolist()):
        listed = index[0, 0, row, :count].long()
        assert listed.unique().numel() == count
        table[row, listed] = True
    return table


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    queries=st.integers(1, 40),
    keys=st.integers(1, 40),
    count=st.integers(0, 3),
    block=st.sampled_from([1, 4, 8]),
    seed=st.integers(0, 99),
)
def test_blocks_are_those_of_the_dense_mask(queries, keys, count, block, seed):
    start, stop = windows(queries, keys, count, seed)
    expected = dense(start, stop, keys)
    mask = flex.block_mask(start, stop, keys, block)
    assert mask.shape == (1, 1, queries, keys)

    rows, columns = -(-queries // block), -(-keys // block)
    padded = expected.new_zeros(rows * block, columns * block)
    padded[:queries, :keys] = expected
    padded = padded.view(rows, block, columns, block)
    full = padded.all(dim=3).all(dim=1)
    partial = padded.any(dim=3).any(dim=1) & ~full
    listed = cells(mask.kv_num_blocks, mask.kv_indices, columns)
    assert torch.equal(listed, partial)
    listed = cells(mask.full_kv_num_blocks, mask.full_kv_indices, columns)
    assert torch.equal(listed, full)

    i, j = torch.arange(queries)[:, None], torch.arange(keys)
    inside = mask.mask_mod(0, 0, i, j).expand(queries, keys)
    assert torch.equal(inside, expected)


def test_blocks_equal_those_of_torch():
    # Causal with two keys for all, 3 blocks and a bit: full and partial ones.
    query = torch.arange(400)
    start = torch.stack([torch.zeros_like(query), query - 300], dim=1)
    stop = torch.stack([query + 1, query + 1], dim=1).clamp(max=2)
    start, stop[:, 1] = start.clamp(min=0), query + 1
    mask = flex.block_mask(start, stop, 400)
    expected = create_block_mask(mask.mask_mod, 1, 1, 400, 400, device='cpu')
    assert mask.full_kv_num_blocks.sum() > 0
    for name in ('kv_num_blocks', 'full_kv_num_blocks'):
        assert torch.equal(getattr(mask, name), getattr(expected, name))
        index = name.replace('num_blocks', 'indices')
        for part in (name, index, name.replace('kv', 'q')):
            assert getattr(mask, part).dtype == torch.int32
        assert torch.equal(
            cells(getattr(mask, name), getattr(mask, index), 4),
            cells(getattr(expected, name), getattr(expected, index), 4),
        )


def test_intervals_are_not_changed():
    start, stop = windows(9, 11, 2, seed=0)
    before = start.clone(), stop.clone()
    flex.block_mask(start, stop, 11, 4)
    assert torch.equal(start, before[0])
    assert torch.equal(stop, before[1])


@pytest.mark.parametrize(
    ('start', 'stop', 'num_keys', 'message'),
    [
        ([[0], [0]], [[1]], 3, 'same shape'),
        ([0], [1], 3, 'same shape'),
        ([[-1]], [[1]], 3, 'between 0 and 3'),
        ([[0]], [[4]], 3, 'between 0 and 3'),
        ([[5]], [[2]], 3, 'between 0 and 3'),
        ([[0]], [[0]], 0, 'one query and one key'),
    ],
)
def test_impossible_intervals_are_refused(start, stop, num_keys, message):
    with pytest.raises(ValueError, match=message):
        flex.block_mask(torch.tensor(start), torch.tensor(stop), num_keys)


def graph(queries, keys):
    start, stop = windows(queries, keys, 2, seed=1)
    # Two rows without keys: at the edge, and amid others.
    start[[0, 5]], stop[[0, 5]] = 3, 3
    return start, stop


def inputs(heads, kv_heads, dtype=torch.float64):
    return (
        draw(2, heads, 21, 5, seed=2, dtype=dtype),
        draw(2, kv_heads, 26, 5, seed=3, dtype=dtype),
        draw(2, kv_heads, 26, 3, seed=4, dtype=dtype),
    )


def naive(query, key, value, start, stop, **options):
    mask = dense(start, stop, key.size(2))
    edge_index = mask.nonzero().t().flip(0)
    outs = [
        naive_attention(
            *(x[b].transpose(0, 1) for x in (query, key, value)),
            edge_index,
            **options,
        )[0].transpose(0, 1)
        for b in range(query.size(0))
    ]
    return torch.stack(outs)


SINK = draw(21, 6, seed=5)
OPTIONS = [
    {'softcap': None, 's_aux': None},
    {'softcap': 0.7, 's_aux': None},
    {'softcap': None, 's_aux': SINK},
    {'softcap': 0.7, 's_aux': SINK},
]


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('kv_heads', [2, 6])
@pytest.mark.parametrize('dtype', CLOSE)
def test_output_equals_the_naive_twin(dtype, kv_heads, options):
    tensors = inputs(6, kv_heads, dtype)
    before = [x.clone() for x in tensors]
    start, stop = graph(21, 26)
    mask = flex.block_mask(start, stop, 26, 8)
    out = flex.attention(*tensors, mask, scale=0.9, **options)
    assert out.dtype == dtype
    wide = [x.double() for x in tensors]
    expected = naive(*wide, start, stop, scale=0.9, **options)
    torch.testing.assert_close(out.double(), expected, **CLOSE[dtype])
    assert (out[:, :, [0, 5]] == 0).all()
    for x, y in zip(tensors, before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('kv_heads', [2, 6])
def test_gradients_equal_the_naive_twin(kv_heads, options, monkeypatch):
    # PyTorch has the gradients of the uncompiled form, and keeps them from
    # users for they are slow; here they show that ours run through its two
    # outputs as they should.
    module = importlib.import_module('torch.nn.attention.flex_attention')
    monkeypatch.setattr(module, '_validate_device', lambda *_: None)
    monkeypatch.setattr(flex, '_check', lambda *_: None)
    tensors = [x.requires_grad_() for x in inputs(6, kv_heads)]
    sources = list(tensors)
    if options['s_aux'] is not None:
        sink = options['s_aux'].clone().requires_grad_()
        options, sources = {**options, 's_aux': sink}, [*sources, sink]
    start, stop = graph(21, 26)
    mask = flex.block_mask(start, stop, 26, 8)
    out = flex.attention(*tensors, mask, scale=0.9, **options)
    expected = naive(*tensors, start, stop, scale=0.9, **options)
    weight = draw(*out.shape, seed=6)
    actual = torch.autograd.grad((out * weight).sum(), sources)
    wanted = torch.autograd.grad((expected * weight).sum(), sources)
    for grad, reference in zip(actual, wanted, strict=True):
        torch.testing.assert_close(grad, reference, **CLOSE[torch.float64])
    assert (actual[0][:, :, [0, 5]] == 0).all()


def test_a_sink_without_weight_changes_nothing():
    tensors = inputs(6, 2)
    start, stop = graph(21, 26)
    mask = flex.block_mask(start, stop, 26, 8)
    sink = torch.full((21, 6), float('-inf'), dtype=torch.float64)
    out = flex.attention(*tensors, mask, scale=0.9, s_aux=sink)
    expected = flex.attention(*tensors, mask, scale=0.9)
    assert torch.equal(out, expected)


@pytest.mark.parametrize('place', [0, 1, 2])
def test_gradients_on_the_cpu_are_refused(place):
    tensors = list(inputs(6, 2))
    tensors[place] = tensors[place].requires_grad_()
    mask = flex.block_mask(*graph(21, 26), 26)
    with pytest.raises(NotImplementedError, match='need no gradient'):
        flex.attention(*tensors, mask, scale=1.0)


@pytest.mark.parametrize('widths', [(15, 32), (32, 15)])
def test_narrow_heads_are_refused_on_cuda(widths):
    mask = flex.block_mask(*graph(21, 26), 26)
    with FakeTensorMode():
        query = torch.empty(1, 2, 21, widths[0], device='cuda')
        key = torch.empty(1, 2, 26, widths[0], device='cuda')
        value = torch.empty(1, 2, 26, widths[1], device='cuda')
        with pytest.raises(NotImplementedError, match='width 16 or more'):
            flex.attention(query, key, value, mask, scale=1.0)


@pytest.mark.slow
def test_a_block_sparse_kernel_reads_the_blocks():
    # The uncompiled form looks at the mask alone; the compiled one, here that
    # of the CPU, skips blocks that are not listed and trusts full ones.
    query = torch.arange(300)
    start = torch.stack([0 * query, (query - 260).clamp(min=0)], dim=1)
    stop = torch.stack([(query + 1).clamp(max=2), query + 1], dim=1)
    stop[7] = start[7]
    mask = flex.block_mask(start, stop, 300)
    assert mask.full_kv_num_blocks.sum() > 0
    tensors = [
        draw(1, 2, 300, 16, seed=s, dtype=torch.float32) for s in (1, 2, 3)
    ]
    out = flex._compiled(*tensors, block_mask=mask, scale=0.3)
    expected = naive(*tensors, start, stop, scale=0.3)
    torch.testing.assert_close(out, expected, **CLOSE[torch.float32])
