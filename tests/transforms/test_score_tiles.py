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


@pytest.mark.parametrize('width', [3, 4, 128])
@pytest.mark.parametrize('size', [2, 9, 16])
def test_tiles_have_the_largest_quotient_of_all_pairs(
    monkeypatch: pytest.MonkeyPatch, size: int, width: int
) -> None:
    monkeypatch.setattr(score_tiles, '_WIDTH', width)
    monkeypatch.setattr(score_tiles, '_CHANGES', 5)
    rng = np.random.default_rng(size)
    root = rng.normal(size=(2, size, size))
    above, below = root @ root.transpose(0, 2, 1)
    taken = np.triu(rng.random((size, size)) < 0.2, 1)
    taken |= taken.T
    tiles = ScoreTiles(above, below, 0.3, taken)
    plain = Plain(above, below, 0.3)
    for _ in range(17):
        quotients = plain.quotients(taken)
        best = quotients.max()
        assert tiles.best() == pytest.approx(best)
        least = 0.9 * best
        if best > 0:
            places = np.argwhere(quotients >= least)
            assert (
                sorted(tiles.pairs_above(least).T.tolist()) == places.tolist()
            )
        s, t = rng.integers(size, size=2)
        taken[[s, t], [t, s]] = True
        # Some change few nodes, as edges do.
        u, w = rng.normal(size=(2, size)) * 0.2 * (rng.random(size) < 0.4)
        tiles.change(int(s), int(t), u, w)
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
