import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.diagnostics.massive import massive_activations


def states(seed: int, size: int = 8, channels: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, channels, generator=generator)


def test_one_is_found_where_it_is() -> None:
    x = states(0)
    x[3, 2] = -2000.0
    found = massive_activations(x)
    assert (found.token, found.dimension, found.count) == (3, 2, 1)
    assert found.largest == 2000
    median = np.sort(np.abs(x.numpy()).ravel())[19]
    assert found.median == pytest.approx(median)
    assert found.ratio == pytest.approx(2000 / median)


def test_both_conditions_are_needed() -> None:
    x = states(1)
    x[0, 0] = 99.0
    # Above a thousand medians of these, but not above 100.
    assert massive_activations(x / 1000).count == 0
    assert massive_activations(x, least=98.0, factor=50).count == 1
    assert massive_activations(x, least=98.0).count == 0
    # Everything is above 100, but nothing stands out.
    assert massive_activations(1e4 * states(1)).count == 0
    x[1] = 5000.0
    assert massive_activations(x).count == 5


def test_states_of_zeros() -> None:
    found = massive_activations(torch.zeros(3, 2))
    assert math.isnan(found.ratio)
    assert (found.largest, found.count) == (0, 0)
    x = torch.zeros(3, 3)
    x[2, 1] = 500
    found = massive_activations(x)
    assert found.ratio == math.inf
    assert (found.token, found.dimension, found.count) == (2, 1, 1)


def test_half_precision_is_upcast() -> None:
    x = states(2).half()
    x[1, 4] = 60000.0
    found = massive_activations(x)
    assert found.ratio == massive_activations(x.float()).ratio
    assert found.largest == 60000
    assert not found.ratio > 65504 * 1e3


@pytest.mark.parametrize('shape', [(3,), (2, 3, 4), (0, 3)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'\[N, d\]'):
        massive_activations(torch.ones(shape))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_the_ratio_has_no_scale(seed: int, scale: float) -> None:
    x = states(seed).double()
    one, other = massive_activations(x), massive_activations(scale * x)
    assert one.ratio == pytest.approx(other.ratio)
    assert (one.token, one.dimension) == (other.token, other.dimension)
    assert x[one.token, one.dimension].abs() == x.abs().max()
    assert one.ratio >= 1
