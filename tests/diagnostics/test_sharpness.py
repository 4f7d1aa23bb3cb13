import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from gnnbridge.diagnostics.sharpness import nearest_neighbor_distance


@pytest.mark.parametrize(('count', 'width'), [(2, 1), (7, 3), (40, 16)])
def test_distances_equal_scipy(count: int, width: int) -> None:
    generator = torch.Generator().manual_seed(count)
    states = torch.randn(count, width, generator=generator)
    found = nearest_neighbor_distance(states)
    x = states.double().numpy()
    nearest = cKDTree(x).query(x, k=2)[0][:, 1]
    np.testing.assert_allclose(found.nearest, nearest, rtol=1e-12)
    assert found.nearest.dtype == torch.float64
    assert found.nearest_mean == pytest.approx(nearest.mean())
    assert found.nearest_least == pytest.approx(nearest.min())
    assert found.pair_mean == pytest.approx(pdist(x).mean())
    assert found.ratio == pytest.approx(nearest.mean() / pdist(x).mean())


def test_a_simplex_is_sharp_and_doubles_are_not() -> None:
    assert nearest_neighbor_distance(torch.eye(6)).ratio == pytest.approx(1)
    double = torch.eye(6).repeat(2, 1)
    found = nearest_neighbor_distance(double)
    assert found.ratio == 0
    assert found.nearest_least == 0
    assert math.isnan(nearest_neighbor_distance(torch.ones(3, 4)).ratio)


def test_near_doubles_far_from_the_origin_keep_their_distance() -> None:
    states = torch.full((2, 4), 1e3, dtype=torch.float64)
    states[1, 0] += 1e-9
    # |x|^2 + |y|^2 - 2 x.y would be rounding alone here.
    found = nearest_neighbor_distance(states)
    assert found.nearest_least == pytest.approx(1e-9, rel=1e-3)


def test_bad_states_are_named() -> None:
    for states in (torch.ones(1, 3), torch.ones(4), torch.ones(3, 0)):
        with pytest.raises(ValueError, match='at least two states'):
            nearest_neighbor_distance(states)
