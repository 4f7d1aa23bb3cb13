"""Projections around attention, against the formula."""

from __future__ import annotations

import pytest
import torch

from gnnbridge.nn import (
    ProjectedAttention,
    naive_attention,
    plan_attention,
)

NODES = 7
EDGES = torch.tensor([[0, 1, 2, 2, 5, 6, 3, 0], [1, 1, 3, 2, 4, 0, 0, 6]])


def states(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NODES, 12, dtype=torch.double, generator=generator)


def rotated(x, position, theta):
    """As a product of complex numbers: pairs (i, i + D/2) turn together."""
    half = x.size(-1) // 2
    step = torch.arange(half, dtype=torch.double)
    angle = position.double()[:, None, None] * theta ** (-step / half)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(
        torch.ones_like(angle), angle
    )
    return torch.cat([turned.real, turned.imag], dim=-1)


@pytest.mark.parametrize('theta', [None, 100.0])
@pytest.mark.parametrize('scale', [None, 0.3])
@pytest.mark.parametrize('kv_heads', [1, 3])
def test_it_is_the_formula(kv_heads, scale, theta):
    torch.manual_seed(0)
    layer = ProjectedAttention(
        12, 3, kv_heads=kv_heads, width=6, out_channels=5, rope_theta=theta,
        scale=scale,
    ).double()  # fmt: skip
    x, position = states(), torch.tensor([3, 1, 4, 1, 5, 9, 2])
    query = layer.lin_query(x).view(NODES, 3, 6)
    key = layer.lin_key(x).view(NODES, kv_heads, 6)
    value = layer.lin_value(x).view(NODES, kv_heads, 6)
    if theta is not None:
        query, key = (rotated(y, position, theta) for y in (query, key))
    out, _ = naive_attention(
        query, key, value, EDGES, scale=6**-0.5 if scale is None else scale
    )
    expected = layer.lin_out(out.flatten(1))
    given = (position,) if theta is not None else ()
    found = layer(x, EDGES, *given)
    # Sums of some terms of size one in double precision, in another order.
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert found.shape == (NODES, 5)
    plan = plan_attention(EDGES, (NODES, NODES))
    out, (edges, alpha) = layer(x, plan, *given, return_attention_weights=True)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-12)
    assert torch.equal(edges, EDGES)
    total = torch.zeros(NODES, 3, dtype=torch.double)
    total = total.index_add(0, EDGES[1], alpha)
    assert ((total - 1).abs() < 1e-12)[[0, 1, 2, 3, 4, 6]].all()


def test_only_differences_of_positions_count():
    torch.manual_seed(0)
    layer = ProjectedAttention(12, 3, rope_theta=50.0).double()
    x, position = states(), torch.arange(NODES)
    torch.testing.assert_close(
        layer(x, EDGES), layer(x, EDGES, position + 40), rtol=1e-9, atol=1e-10
    )
    other = layer(x, EDGES, position * 2)
    assert (other - layer(x, EDGES)).abs().max() > 1e-3


def test_it_is_reset_and_printed():
    layer = ProjectedAttention(12, 3)
    before = layer.lin_query.weight.clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.lin_query.weight)
    assert str(layer) == 'ProjectedAttention(12, heads=3)'


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="multiple of 'kv_heads'"):
        ProjectedAttention(12, 3, kv_heads=2)
    with pytest.raises(ValueError, match=r'even width .*\(got 3\)'):
        ProjectedAttention(12, 4, rope_theta=10.0)
    x = states().float()
    with pytest.raises(ValueError, match="no 'position'"):
        ProjectedAttention(12, 3)(x, EDGES, torch.arange(NODES))
    with pytest.raises(ValueError, match=r'shape \[7\] \(got \[2\]'):
        ProjectedAttention(12, 3, rope_theta=10.0)(x, EDGES, torch.arange(2))
