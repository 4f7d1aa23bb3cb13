"""Masks become the pairs that a loop over the mask would find."""

from __future__ import annotations

import itertools

import pytest
import torch

from gnnbridge.models.pairs import (
    check_heads,
    dense_weights,
    mask_pairs,
    pair_bias,
)
from gnnbridge.models.slots import Pairs

SHAPE = (2, 3, 4, 5)


def random_keep(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator) < 0.6


def expected_pairs(keep: torch.Tensor) -> list[tuple[int, int, int]]:
    keep = keep.expand(SHAPE)
    return [
        (b, q, k)
        for b, q, k in itertools.product(range(2), range(4), range(5))
        if any(keep[b, h, q, k] for h in range(3))
    ]


def on_pairs(bias: torch.Tensor | None, pairs: Pairs) -> torch.Tensor | None:
    """The bias of each pair and head ``[E, H]``."""
    if bias is None:
        return None
    bias = bias.expand(SHAPE).permute(0, 2, 3, 1)
    return bias[pairs.batch, pairs.query, pairs.key]


@pytest.mark.parametrize(
    'shape', [(2, 1, 4, 5), (1, 1, 4, 5), (2, 3, 4, 5), (1, 3, 4, 5)]
)
@pytest.mark.parametrize('additive', [False, True])
def test_pairs_are_those_of_the_mask(shape, additive):
    keep = random_keep(*shape)
    mask = keep
    if additive:
        mask = torch.zeros(shape).masked_fill(
            ~keep, torch.finfo(torch.float32).min
        )
    pairs = mask_pairs(mask, SHAPE, causal=False, device=keep.device)
    found = list(
        zip(
            pairs.batch.tolist(),
            pairs.query.tolist(),
            pairs.key.tolist(),
            strict=True,
        )
    )
    assert found == expected_pairs(keep)
    edges = [(b * 5 + k, b * 4 + q) for b, q, k in found]
    assert list(map(tuple, pairs.plan.edge_index.t().tolist())) == edges
    assert pairs.plan.size == (10, 8)
    bias = on_pairs(pair_bias(mask, None, pairs), pairs)
    for edge, (b, q, k) in enumerate(found):
        for head in range(3):
            is_kept = bool(keep.expand(SHAPE)[b, head, q, k])
            off = bias is not None and bias[edge].expand(3)[head] < -1e30
            assert off == (not is_kept)


@pytest.mark.parametrize(
    ('causal', 'expected'),
    [(False, 20), (True, 2 + 3 + 4 + 5)],
    ids=['full', 'causal'],
)
def test_without_a_mask_all_or_the_earlier_pairs_are_kept(causal, expected):
    pairs = mask_pairs(None, SHAPE, causal=causal, device=torch.device('cpu'))
    assert len(pairs.batch) == 2 * expected
    if causal:
        # Four queries are the last of five positions.
        assert bool((pairs.key <= pairs.query + 1).all())


@pytest.mark.parametrize(
    'shape', [(3, 1, 4, 5), (2, 2, 4, 5), (2, 1, 5, 4), (2, 4, 5)]
)
def test_a_mask_that_does_not_fit_is_named(shape):
    with pytest.raises(ValueError, match=str(list(shape)).replace('[', r'\[')):
        mask_pairs(
            torch.ones(shape, dtype=torch.bool),
            SHAPE,
            causal=False,
            device=torch.device('cpu'),
        )


def test_biases_add_up():
    keep = random_keep(2, 1, 4, 5)
    mask = torch.randn(2, 3, 4, 5).masked_fill(~keep, -torch.inf)
    position = torch.randn(1, 3, 4, 5)
    pairs = mask_pairs(mask, SHAPE, causal=False, device=mask.device)
    bias = on_pairs(pair_bias(mask, position, pairs), pairs)
    at = (pairs.batch, slice(None), pairs.query, pairs.key)
    expected = mask[at] + position.expand(SHAPE)[at]
    torch.testing.assert_close(bias, expected)


def test_weights_are_put_back_in_place():
    keep = random_keep(2, 1, 4, 5)
    pairs = mask_pairs(keep, SHAPE, causal=False, device=keep.device)
    alpha = torch.rand(len(pairs.batch), 3)
    dense = dense_weights(alpha, pairs)
    assert dense.shape == SHAPE
    for edge in range(len(alpha)):
        b, q, k = pairs.batch[edge], pairs.query[edge], pairs.key[edge]
        assert torch.equal(dense[b, :, q, k], alpha[edge])
    assert float(dense.sum()) == pytest.approx(float(alpha.sum()), rel=1e-5)


def test_heads_are_checked():
    assert check_heads([0, -1], 3) == [0, 2]
    for bad in ([3], [-4], []):
        with pytest.raises(ValueError, match='3 heads'):
            check_heads(bad, 3)
