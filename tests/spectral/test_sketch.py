import math
from typing import Any

import pytest
import torch
from matrices import edges_of, random_causal, static_key, window
from torch import Tensor

from gnnbridge.spectral.lyapunov import lyapunov_resistance
from gnnbridge.spectral.sketch import resistance_sketch


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(points: Tensor) -> Tensor:
    gaps = points.unsqueeze(-2) - points.unsqueeze(-3)
    return gaps.square().sum(-1)


GRAPHS = {
    'random': random_causal(8, 0, density=0.6),
    'uniform': static_key(torch.ones(8)),
    'window': window(8, 3),
    'slow': random_causal(8, 1) * 0.1 + 0.9 * torch.eye(8),
    'scaled': 1e6 * random_causal(8, 2),
}


@pytest.mark.parametrize('name', GRAPHS)
@pytest.mark.parametrize('root', ['keep', 'leak'])
def test_unbiased(name: str, root: Any) -> None:
    A, probes = GRAPHS[name], 6000
    r = lyapunov_resistance(A, root=root)
    z = resistance_sketch(A, num_probes=probes, root=root, generator=seeded(3))
    assert z.shape == (8, probes)
    assert not z[0].any()
    below = torch.ones(8, 8).tril(-1).bool()
    # Relative standard error sqrt(2 / p) = 0.018; 28 pairs, four of them.
    ratio = (pairs(z) / r)[below]
    assert ((ratio - 1).abs() <= 4 * math.sqrt(2 / probes)).all()


def test_the_cut_of_the_sum_is_far_below_the_noise() -> None:
    # With few probes the sum over depths stops early: is it early enough?
    A = random_causal(6, 4, density=0.7)
    r = lyapunov_resistance(A)
    found = torch.stack(
        [
            pairs(resistance_sketch(A, num_probes=2, generator=seeded(seed)))
            for seed in range(800)
        ]
    )
    below = torch.ones(6, 6).tril(-1).bool()
    ratio = (found.mean(0) / r)[below]
    # Standard error sqrt(2 / 1600) = 0.035; the cut is 1e-2 of the noise 1.
    assert ((ratio - 1).abs() <= 4 * 0.035 + 0.01).all()
    spread = (found.std(0) / r)[below]
    # A chi-squared with two degrees: the spread is known to some 5 percent.
    torch.testing.assert_close(
        spread, torch.ones_like(spread), rtol=0.25, atol=0
    )


@pytest.mark.parametrize('root', ['keep', 'leak'])
@pytest.mark.parametrize('name', GRAPHS)
def test_edges_equal_a_matrix(name: str, root: Any) -> None:
    A = GRAPHS[name]
    edge_index, weight = edges_of(A)
    order = torch.randperm(len(weight), generator=seeded(5))
    dense = resistance_sketch(A, root=root, generator=seeded(6))
    for index, values in (
        (edge_index, weight),
        (edge_index[:, order], weight[order]),
    ):
        sparse = resistance_sketch(
            index, values, root=root, generator=seeded(6)
        )
        torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-12)


def test_batches_and_heads() -> None:
    A = torch.stack([random_causal(6, seed) for seed in range(4)])
    A = A.reshape(2, 2, 6, 6)
    z = resistance_sketch(A, num_probes=4000)
    assert z.shape == (2, 2, 6, 4000)
    below = torch.ones(6, 6).tril(-1).bool()
    ratio = (pairs(z) / lyapunov_resistance(A))[..., below]
    assert ((ratio - 1).abs() <= 4.5 * math.sqrt(2 / 4000)).all()
    edge_index, _ = edges_of(A[0, 0])
    heads = A[0][:, edge_index[1], edge_index[0]].mT.contiguous()
    torch.testing.assert_close(
        resistance_sketch(edge_index, heads), resistance_sketch(A[0])
    )


def test_reproducible() -> None:
    A = GRAPHS['random']
    assert torch.equal(resistance_sketch(A), resistance_sketch(A))
    assert torch.equal(
        resistance_sketch(A), resistance_sketch(A, generator=seeded(0))
    )
    other = resistance_sketch(A, generator=seeded(1))
    assert not torch.equal(resistance_sketch(A), other)
    assert other.shape == (8, 64)


def test_long_contexts_stay_sparse() -> None:
    # A matrix of 50000^2 float64 takes 20 GB.
    size, width = 50_000, 3
    target = torch.arange(size).repeat_interleave(width - 1)
    source = target - torch.arange(1, width).repeat(size)
    kept = source >= 0
    index = torch.stack([source[kept], target[kept]])
    # A sink, so that the walk ends soon.
    sink = torch.stack([torch.zeros(size).long(), torch.arange(size)])
    index = torch.cat([index, sink[:, 1:]], dim=1)
    z = resistance_sketch(index, num_probes=4, dtype=torch.float32)
    assert z.shape == (size, 4)
    assert z.isfinite().all()
    # Far from the ends all neighbours are alike: their mean is exact.
    small = lyapunov_resistance(index[:, (index < 200).all(0)])
    gap = (z[1000:] - z[999:-1]).square().sum(-1).mean().item()
    assert gap == pytest.approx(small[150, 149].item(), rel=0.02)


def test_float32() -> None:
    z = resistance_sketch(GRAPHS['random'], dtype=torch.float32)
    assert z.dtype == torch.float32
    ratio = pairs(z) / lyapunov_resistance(GRAPHS['random'])
    below = torch.ones(8, 8).tril(-1).bool()
    assert ((ratio[below] - 1).abs() < 5 * math.sqrt(2 / 64)).all()


@pytest.mark.parametrize(
    'given',
    [
        (torch.ones(1, 1),),
        (torch.zeros(1, 1),),
        (torch.tensor([[0], [0]]),),
        (torch.ones(2, 2).tril(),),
        (torch.tensor([[0], [1]]),),
    ],
)
def test_few_tokens(
    given: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('gnnbridge.spectral.sketch._MAX_STEPS', 100)
    z = resistance_sketch(*given, num_probes=5)
    assert z.shape[1] == 5
    assert z.isfinite().all()
    assert not z[0].any()


@pytest.mark.parametrize('dense', [True, False])
@pytest.mark.parametrize(
    ('A', 'options', 'match'),
    [
        (torch.ones(3, 3), {}, 'causal'),
        (torch.eye(3), {}, 'token 1 without edges'),
        (
            torch.block_diag(torch.ones(2, 2).tril(), torch.ones(2, 2).tril()),
            {},
            'token 2 without edges',
        ),
        (torch.ones(3, 3).tril(), {'root': 'lost'}, "'keep' or 'leak'"),
        (torch.ones(3, 3).tril(), {'num_probes': 0}, "'num_probes'"),
        (torch.ones(3, 3).tril(), {'dtype': torch.float16}, 'float64'),
        (-torch.ones(3, 3).tril(), {}, 'non-negative'),
    ],
)
def test_errors(
    A: Tensor, options: dict[str, Any], match: str, dense: bool
) -> None:
    given = (A,) if dense else edges_of(A)
    with pytest.raises(ValueError, match=match):
        resistance_sketch(*given, **options)


@pytest.mark.parametrize('dense', [True, False])
def test_a_token_that_hardly_lets_go_is_an_error(
    dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('gnnbridge.spectral.sketch._MAX_STEPS', 50)
    A = torch.zeros(3, 3, dtype=torch.float64)
    A[1, 0], A[2, 0] = 1e-9, 1
    given = (A,) if dense else edges_of(A)
    with pytest.raises(ValueError, match='Use lyapunov_resistance'):
        resistance_sketch(*given)
