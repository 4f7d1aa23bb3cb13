"""Sums over earlier rows, against loops, and their derivatives."""

from __future__ import annotations

import pytest
import torch
from differential_twin import GRAPHS, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.graph import sliding_window_graph
from gnnbridge.nn import plan_attention
from gnnbridge.nn.history_sums import decayed_sums, earlier_on_edges

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def test_the_scan_has_derivatives_of_every_kind():
    plan = plan_attention(GRAPHS['window'](9), (9, 9))
    weight = draw(plan.num_edges, 2).abs().requires_grad_()
    decay = torch.tensor([0.3, 0.9]).double().requires_grad_()

    def function(weight, decay):
        return earlier_on_edges(plan, weight, decay)

    # Random directions: some hundred inputs and outputs.
    assert torch.autograd.gradcheck(
        function, (weight, decay), fast_mode=True, check_forward_ad=True,
        check_batched_grad=True,
    )  # fmt: skip
    assert torch.autograd.gradgradcheck(
        function, (weight, decay), fast_mode=True
    )


@PROPERTY
@given(
    st.integers(1, 40), st.integers(1, 7), st.floats(0.0, 1.0),
    st.integers(0, 99),
)  # fmt: skip
def test_sums_equal_their_loop(rows, block, decay, seed):
    x = draw(2, rows, 1, 3, seed=seed)
    out = decayed_sums(x, x.new_tensor([decay]), block=block)
    total = torch.zeros(2, 1, 3).double()
    for i in range(rows):
        torch.testing.assert_close(out[:, i], total, rtol=1e-12, atol=1e-12)
        total = decay * total + x[:, i]


@pytest.mark.parametrize('decay', [0.5, 0.999, 1 - 1e-6, 1.0])
def test_long_sequences_stay_accurate(decay):
    """In float32: no powers that overflow, no differences that cancel."""
    rows = 20_011
    x = torch.rand(1, rows, 2, 1, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([decay, decay], requires_grad=True)
    out = decayed_sums(x, share)
    exact = decayed_sums(x.double(), share.detach().double())
    # The rounding of the share itself: rows before 1 / (1 - g) count less.
    memory = min(rows, 1 / max(1 - decay, 1e-9))
    torch.testing.assert_close(
        out.double(), exact, rtol=1e-6 + 1e-7 * memory, atol=1e-6
    )
    assert torch.autograd.grad(out.mean(), share)[0].isfinite().all()
    plan = plan_attention(
        sliding_window_graph(rows, 2, sinks=1).edge_index, (rows, rows)
    )
    weight = torch.full((plan.num_edges, 2), 1 / 3, requires_grad=True)
    earlier = earlier_on_edges(plan, weight, share)
    sink = earlier[plan.edge_index[0] == 0, 0]
    expected = decayed_sums(
        torch.full((1, rows, 2, 1), 1 / 3).double(), share.detach().double()
    )
    torch.testing.assert_close(
        sink.double(), expected[0, :, 0, 0],
        rtol=1e-6 + 1e-7 * memory, atol=1e-6,
    )  # fmt: skip
    grads = torch.autograd.grad(earlier.mean(), (weight, share))
    assert all(grad.isfinite().all() for grad in grads)
