import numpy as np
import ot
import pytest
import torch

from gnnbridge.curvature.measures import Problems, count_up
from gnnbridge.curvature.transport import transport_cost


def random_problems(
    size: int, seed: int, smallest: int = 1
) -> tuple[Problems, list[float]]:
    """Problems with any distances from 1 to 3, and what POT makes of them."""
    rng = np.random.default_rng(seed)
    supplies, demands = rng.integers(1, 9, (2, size))
    masses: list[list[np.ndarray]] = [[], []]
    distances, costs = [], []
    for s, d in zip(supplies, demands, strict=True):
        total = rng.random()
        a, b = rng.random(s) ** 4, rng.random(d) ** 4
        a, b = total * a / a.sum(), total * b / b.sum()
        distance = rng.integers(smallest, 4, (s, d))
        masses[0].append(a)
        masses[1].append(b)
        distances.append(distance.ravel())
        costs.append(ot.emd2(a / total, b / total, distance * 1.0) * total)
    block = np.arange(size)
    pairs = count_up(supplies * demands)
    wide = np.repeat(demands, supplies * demands)
    first_supply = np.repeat(np.cumsum(supplies) - supplies, supplies * demands)
    first_demand = np.repeat(np.cumsum(demands) - demands, supplies * demands)
    problems = Problems(
        size=size,
        supply_block=np.repeat(block, supplies),
        supply=torch.from_numpy(np.concatenate(masses[0])),
        demand_block=np.repeat(block, demands),
        demand=torch.from_numpy(np.concatenate(masses[1])),
        pair_supply=first_supply + pairs // wide,
        pair_demand=first_demand + pairs % wide,
        distance=np.concatenate(distances).astype(np.int8),
    )
    return problems, costs


@pytest.mark.parametrize('scale', [None, 1.0, 7.0, 1e12])
@pytest.mark.parametrize('seed', [0, 1])
def test_cost_of_any_masses_is_exact(seed: int, scale: float | None) -> None:
    problems, costs = random_problems(67, seed)
    scales = None if scale is None else np.full(67, scale)
    # Whatever the first scale, the rounds go down to float64.
    assert transport_cost(problems, scales) == pytest.approx(costs, abs=1e-12)


def test_one_distance_for_all() -> None:
    problems, costs = random_problems(13, 2, smallest=3)
    assert transport_cost(problems, None) == pytest.approx(costs, abs=1e-12)
    near = Problems(
        **{**vars(problems), 'distance': np.ones_like(problems.distance)}
    )
    total = np.bincount(problems.supply_block, problems.supply.numpy())
    assert transport_cost(near, None).tolist() == total.tolist()


def test_nothing_to_move() -> None:
    none = np.zeros(0, dtype=np.int64)
    empty = torch.zeros(0, dtype=torch.float64)
    problems = Problems(3, none, empty, none, empty, none, none, none)
    assert transport_cost(problems, None).tolist() == [0, 0, 0]
