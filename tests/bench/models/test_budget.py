import pytest

from gnnbridge.bench.models.budget import fitting, largest
from gnnbridge.bench.models.size import Size


@pytest.mark.parametrize('budget', [13, 14, 100, 101, 1234])
@pytest.mark.parametrize(('start', 'step'), [(1, 1), (2, 4), (3, 7)])
@pytest.mark.parametrize(
    'count',
    [
        lambda n: n * n // 3 + 4,
        lambda n: 3 * n + 1,
        lambda n: n**3 // 50,  # grows faster than parameters do
        lambda n: 40 * int(n**0.5) - 30,
        lambda n: n // 50 * 50,
    ],
)
def test_the_largest_is_what_a_search_of_all_finds(count, budget, start, step):
    numbers = range(start, 100_000, step)
    expected = max(n for n in numbers if count(n) <= budget)
    assert largest(count, budget, start, step) == expected


def test_few_models_are_built_to_find_a_size():
    seen = []

    def count(n):
        seen.append(n)
        return 5 * (2 * n * n + 7 * n) + 30

    assert largest(count, 64_000, 1) == 78
    assert len(seen) <= 6


def test_a_budget_too_small_for_the_smallest_is_refused():
    with pytest.raises(ValueError, match=r"'budget' to be at least 16, .* 15"):
        largest(lambda n: n * n, 15, 4)


def test_an_mlp_is_as_wide_as_the_states():
    size = fitting(lambda s: s.width * s.hidden, 1000, step=4)
    assert size == Size(28, 28)


def test_an_mlp_takes_what_coarse_widths_leave():
    def count(size):
        return 4 * size.width**2 + 2 * size.width * size.hidden

    size = fitting(count, 10_000, step=8, mlp=2)
    # 8 w^2 allows 32 and not 40; then 64 for each hidden channel.
    assert size == Size(32, (10_000 - 4096) // 64)
    assert count(size) <= 10_000 < count(Size(32, size.hidden + 1))
    with pytest.raises(ValueError, match='at least 512'):
        fitting(count, 511, step=8, mlp=2)


def test_a_fixed_width_is_reached_through_fewer_channels():
    def count(size):
        encoder = 100 * 64 if size.rank is None else (100 + 64) * size.rank
        return 5000 + encoder

    assert fitting(count, 11_400, width=64) == Size(64, 64)
    assert fitting(count, 11_399, width=64) == Size(64, 64, 6399 // 164)
    with pytest.raises(ValueError, match='at least 5164'):
        fitting(count, 5163, width=64)
