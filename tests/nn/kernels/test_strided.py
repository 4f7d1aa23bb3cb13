import multiprocessing

import numpy as np
import pytest
import torch

from gnnbridge.nn import AttentionConv, naive_attention, plan_attention
from gnnbridge.nn.kernels.emitter import lanes_of
from gnnbridge.nn.kernels.strided import strided, whole_vectors

FLOATS = [torch.float32, torch.float64]


def numbered(*shape, dtype=torch.float64):
    return torch.arange(1, 1 + np.prod(shape), dtype=dtype).view(shape)


def heads_first(x):
    return x.transpose(0, 1).contiguous().transpose(0, 1)


# Each is a tensor [5, 3, 4] in another place of another memory.
LAYOUTS = {
    'contiguous': lambda: numbered(5, 3, 4),
    'heads first': lambda: heads_first(numbered(5, 3, 4)),
    'packed projection': lambda: numbered(5, 3, 3, 4)[:, 1],
    'part of a wider row': lambda: numbered(5, 3, 9)[..., 2:6],
    'every second node': lambda: numbered(11, 3, 4)[1::2],
    'one key for all heads': lambda: numbered(5, 1, 4).expand(5, 3, 4),
    'one node': lambda: numbered(1, 3, 4).expand(5, 3, 4),
}


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('name', LAYOUTS)
def test_numbers_are_found_by_their_strides(name, dtype):
    x = LAYOUTS[name]()
    x = x if dtype == x.dtype else x.to(dtype)
    data, node, head = strided(x.requires_grad_())
    assert data.ndim == 1
    assert data.flags.c_contiguous
    found = [
        [data[i * node + h * head :][:4].tolist() for h in range(3)]
        for i in range(5)
    ]
    assert found == x.tolist()
    # To the last number of the tensor and no further.
    assert len(data) == 4 * node + 2 * head + 4


@pytest.mark.parametrize('name', LAYOUTS)
def test_nothing_is_copied(name):
    x = LAYOUTS[name]()
    data, node, head = strided(x)
    data[2 * node + head] = -5.0
    assert x[2, 1, 0] == -5


def test_numbers_of_edges_have_no_width():
    # Two columns, stored one after the other; one column for both heads.
    for x in (numbered(2, 5).t(), numbered(5, 1).expand(5, 2)):
        data, edge, head = strided(x)
        found = [[data[e * edge + h * head] for h in (0, 1)] for e in range(5)]
        assert found == x.tolist()


@pytest.mark.parametrize('shape', [(0, 3, 4), (5, 3, 0), (0, 2), (0, 0)])
@pytest.mark.parametrize('dtype', FLOATS)
def test_of_an_empty_tensor_there_is_one_number_to_point_at(shape, dtype):
    data, node, head = strided(torch.empty(shape, dtype=dtype))
    assert torch.from_numpy(data).dtype == dtype
    assert (data.tolist(), node, head) == ([0], 0, 0)


@pytest.mark.parametrize('dtype', [*FLOATS, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('width', [1, 3, 8, 15, 16, 17, 40, 64])
def test_rows_are_filled_up_with_zeros(width, dtype):
    x = numbered(3, 2, width).to(dtype)
    whole = whole_vectors(x)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert whole.dtype == wide
    assert whole.stride(-1) == 1
    lanes = lanes_of(whole.element_size())
    assert whole.size(2) == (width + lanes - 1) // lanes * lanes
    assert torch.equal(whole[..., :width], x.to(wide))
    assert not whole[..., width:].any()


def test_rows_that_are_full_and_contiguous_are_left_alone():
    whole = numbered(5, 3, 3, 32)[:, 1]
    assert whole_vectors(whole) is whole
    # The numbers of a row must lie side by side.
    spread = numbered(32, 5, 3).permute(1, 2, 0)
    assert whole_vectors(spread).stride(-1) == 1
    assert torch.equal(whole_vectors(spread), spread)
    single = numbered(5, 3, 1).expand(5, 3, 32)
    assert whole_vectors(single).stride(-1) == 1
    assert torch.equal(whole_vectors(single), single)


def _send_differences(backend, pipe):
    plan = plan_attention('causal', (9, 9), backend=backend)
    for others in [torch.float64] * 2, [torch.float32] * 2, [torch.float16] * 2:
        for odd in (torch.float64, torch.float32):
            tensors = [
                torch.randn(9, 2, 8, generator=torch.manual_seed(n)).to(dtype)
                for n, dtype in enumerate([*others, odd])
            ]
            out = AttentionConv()(*tensors, plan)
            tensors = [x.double() for x in tensors]
            truth, _ = naive_attention(*tensors, plan.edge_index)
            pipe.send((out.dtype, float((out - truth).abs().max())))


# Python 3.12 warns of any fork beside threads.
@pytest.mark.filterwarnings('ignore:.*multi-threaded.*:DeprecationWarning')
@pytest.mark.parametrize('backend', ['dense', 'row_window', 'csr_cpu'])
def test_values_may_be_of_another_precision(backend):
    # In a process of its own: a kernel that reads beyond its arrays ends it.
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe(duplex=False)
    arguments = backend, theirs
    child = context.Process(target=_send_differences, args=arguments)
    child.start()
    theirs.close()
    try:
        results = [ours.recv() for _ in range(6)]
    finally:
        child.join()
    assert child.exitcode == 0
    assert [dtype for dtype, _ in results] == FLOATS[::-1] * 3
    # Of the lower precision of the two, float32.
    assert max(error for _, error in results) < 1e-6
