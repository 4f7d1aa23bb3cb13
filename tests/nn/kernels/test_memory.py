"""Memory of the CPU kernels: aligned, kept, and never read before written."""

import numpy as np
import pytest
import torch

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.nn import AttentionConv, plan_attention
from gnnbridge.nn.kernels import memory


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('shape', [(3, 5), (0, 4), (1025, 1024), (2**20, 1)])
def test_empty_is_contiguous_and_starts_where_vectors_do(shape, dtype):
    x = memory.empty(shape, dtype)
    assert x.shape == shape
    assert x.dtype == dtype
    assert x.is_contiguous()
    assert x.data_ptr() % 64 == 0
    x.fill_(3.0)
    assert (x == 3).all()


def test_rooms_are_apart_aligned_and_kept():
    sizes = [5, 0, 64, 1]
    rooms = memory.rooms(sizes, torch.float32)
    assert [len(room) for room in rooms] == sizes
    for number, room in enumerate(rooms):
        room[:] = number
    for number, room in enumerate(rooms):
        assert room.ctypes.data % 64 == 0 or len(room) == 0
        assert (room == number).all()
    again = memory.rooms([70], torch.float32)
    assert again[0].ctypes.data == rooms[0].ctypes.data
    assert memory.rooms([5], torch.float64)[0].dtype == np.float64


@pytest.mark.parametrize('backend', ['csr_cpu', 'row_window'])
@pytest.mark.parametrize('width', [(4, 4), (48, 20)])
def test_results_do_not_depend_on_what_was_in_the_memory(
    backend, width, monkeypatch
):
    torch.manual_seed(0)
    edge_index = sliding_window_graph(70, 9, sinks=3).edge_index
    plan = plan_attention(edge_index, (70, 70), backend=backend)
    shapes = [(70, 2, size) for size in (width[0], *width)]
    leaves = [torch.randn(*shape, requires_grad=True) for shape in shapes]

    def run(number):
        def rooms(sizes, dtype):
            return tuple(
                torch.full((size,), number, dtype=dtype).numpy()
                for size in sizes
            )

        monkeypatch.setattr(memory, 'rooms', rooms)
        out = AttentionConv()(*leaves, plan)
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    for one, other in zip(run(0.0), run(float('nan')), strict=True):
        assert torch.equal(one, other)
