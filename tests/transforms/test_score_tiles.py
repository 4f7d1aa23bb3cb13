import numpy as np
import pytest

from gnnbridge.transforms import score_tiles
from gnnbridge.transforms.score_tiles import ScoreTiles


def differences(matrix: np.ndarray) -> np.ndarray:
    own = matrix.diagonal()
    return own[:, None] + own - 2 * matrix


class Plain:
    """Both terms of all pairs, changed each time."""

    def __init__(
        self, above: np.ndarray, below: np.ndarray, factor: float
    ) -> None:
        self.above, self.factor = differences(above), factor
        self.below = 1 + factor * differences(below)

    def change(self, u: np.ndarray, w: np.ndarray) -> None:
        du, dw = u[:, None] - u, w[:, None] - w
        self.above -= 2 * du * dw
        self.below -= self.factor * du**2

    def quotients(self, taken: np.ndarray) -> np.ndarray:
        return np.where(np.triu(~taken, 1), self.above / self.below, 0.0)


def change_of(
    step: int, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One that lowers, one that raises the terms above, one neither."""
    u = 0.2 * rng.normal(size=size) * (rng.random(size) < 0.4)
    return u, (rng.normal(size=size), -4 * u, np.zeros(size))[step % 3]


@pytest.mark.parametrize('factor', [1e-3, 0.3, 4.0])
@pytest.mark.parametrize('width', [2, 5, 128])
@pytest.mark.parametrize('size', [2, 9, 16])
def test_tiles_have_the_largest_quotient_of_all_pairs(
    monkeypatch: pytest.MonkeyPatch, size: int, width: int, factor: float
) -> None:
    monkeypatch.setattr(score_tiles, '_WIDTH', width)
    monkeypatch.setattr(score_tiles, '_CHANGES', 5)
    rng = np.random.default_rng(size)
    root = 0.4 * rng.normal(size=(size, size))
    above, below = root @ root.T, (8 / factor) * np.eye(size)
    taken = np.triu(rng.random((size, size)) < 0.2, 1)
    taken |= taken.T
    tiles = ScoreTiles(above, below, factor, taken)
    plain = Plain(above, below, factor)
    for step in range(24):
        quotients = plain.quotients(taken)
        best = quotients.max()
        assert tiles.best() == pytest.approx(best)
        if best > 0:
            places = np.argwhere(quotients >= 0.9 * best)
            found = tiles.pairs_above(0.9 * best)
            assert sorted(found.T.tolist()) == places.tolist()
        s, t = rng.integers(size, size=2).tolist()
        taken[[s, t], [t, s]] = True
        u, w = change_of(step, size, rng)
        tiles.change(s, t, u, w)
        plain.change(u, w)


def test_tiles_that_cannot_be_the_best_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(score_tiles, '_WIDTH', 4)
    own = np.diag(np.repeat([9.0, 1.0], [4, 8]))
    tiles = ScoreTiles(own, np.eye(12), 1.0, np.zeros((12, 12), dtype=bool))
    u = np.where(np.arange(12) == 2, 0.1, 0.0)
    tiles.change(2, 3, u, u)
    assert tiles.best() == pytest.approx((18 - 0.02) / (3 - 0.01))
    seen = [tile.seen for tile in tiles.tiles]
    # Nodes 0 to 3 alone have large numbers.
    assert seen == [1, 0, 0, 0, 0, 0]
