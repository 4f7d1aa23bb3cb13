"""Vector instructions against numpy and the standard library.

Sums and products are of small whole numbers, so that every order of them gives
the same result: only the exponentials need a tolerance.
"""

import math

import numpy as np
import pytest
from numba import njit

from gnnbridge.nn.kernels import emitter, simd

FLOATS = [np.float32, np.float64]
INF = float('inf')


def lanes_of(dtype):
    return emitter.lanes_of(np.dtype(dtype).itemsize)


def whole(*shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


@njit
def peak(x, offset, count):
    return simd.peak(x, offset, count)


@njit
def exp_sum(x, offset, count, shift):
    return simd.exp_sum(x, offset, count, shift)


@njit
def soften(x, offset, count, cap):
    simd.soften(x, offset, count, cap)


@njit
def fill_up(x, offset, count, value):
    simd.fill_up(x, offset, count, value)


@njit
def scaled(x, at, y, to, count, factor):
    simd.scaled(x, at, y, to, count, factor, 0)


@njit
def add_scaled(x, at, y, to, count, factor):
    simd.scaled(x, at, y, to, count, factor, 1)


@njit
def transpose(x, at, x_row, y, to, y_row):
    simd.transpose(x, at, x_row, y, to, y_row)


@njit
def fill(x, offset, count, value):
    simd.fill(x, offset, count, value)


@njit
def fetch(x, offset, count):
    simd.prefetch(x, offset, count)


@njit
def gemm4(c, to, c_row, a, at, a_row, a_step, b, of, b_row, length, width, add):
    simd.gemm4(
        c, to, c_row, a, at, a_row, a_step, b, of, b_row, length, width, add
    )


def mask_of(count):
    @njit
    def function(x, at, number, of, start, stop, first):
        simd.mask_outside(x, at, number, of, start, stop, first, count)

    return function


def exponentials(x):
    """The exponentials of all numbers, as the kernels compute them."""
    lanes = lanes_of(x.dtype)
    result = np.concatenate([x, np.zeros(-len(x) % lanes, x.dtype)])
    total = exp_sum(result, 0, len(result), x.dtype.type(0))
    # All are positive, and each lane adds up its own: as many roundings.
    error = len(result) / lanes * np.finfo(x.dtype).eps
    assert math.isclose(total, result.sum(dtype=np.float64), rel_tol=error)
    return result[: len(x)]


def test_a_vector_fills_one_or_two_registers():
    assert emitter.lanes_of(4) == emitter.LANES
    assert emitter.lanes_of(8) == emitter.LANES // 2
    assert emitter.LANES in (8, 16)


@pytest.mark.parametrize(
    ('dtype', 'lowest'), [(np.float32, -87.0), (np.float64, -700.0)]
)
def test_exp_is_good_to_two_units_in_the_last_place(dtype, lowest):
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            rng.uniform(lowest, 0, 20_000),
            # Where the power of two changes, and where the result is near one.
            (np.arange(lowest, 0) + 0.5) * math.log(2),
            -np.geomspace(1e-30, 1, 500),
            # A weight that rounding puts above one.
            np.geomspace(1e-16, 1, 100),
            [lowest, 0.0],
        ]
    ).astype(dtype)
    x = x[x >= lowest]
    truth = np.array([math.exp(n) for n in x.tolist()])
    unit = np.spacing(truth.astype(dtype)).astype(np.float64)
    # The omitted term, a product and the sums of Horner's rule: below one and
    # a half units (float64 truth is itself off by half a unit).
    assert np.abs((exponentials(x) - truth) / unit).max() < 2.0
    assert exponentials(np.zeros(1, dtype))[0] == 1.0


@pytest.mark.parametrize(
    ('dtype', 'smallest'), [(np.float32, -87.0), (np.float64, -708.0)]
)
def test_exp_of_very_negative_numbers_is_zero(dtype, smallest):
    below = [np.nextafter(dtype(smallest), dtype(-INF)), smallest - 1, -1e4]
    below += [np.finfo(dtype).min, -INF]
    assert not exponentials(np.array(below, dtype)).any()
    above = exponentials(np.array([smallest], dtype))[0]
    assert above >= np.finfo(dtype).tiny


# Whole blocks of four vectors, and what remains.
VECTORS = pytest.mark.parametrize('vectors', [0, 1, 2, 3, 4, 7, 9])


@pytest.mark.parametrize('dtype', FLOATS)
@VECTORS
def test_exp_sum_subtracts_the_shift_in_whole_vectors(vectors, dtype):
    lanes = lanes_of(dtype)
    x = np.linspace(-3, 3, (vectors + 2) * lanes).astype(dtype)
    x[lanes + 1] = -INF
    inside = slice(lanes, (1 + vectors) * lanes)
    truth = np.exp(x[inside].astype(np.float64) - 3)
    before = x.copy()
    result = exp_sum(x, lanes, vectors * lanes, dtype(3))
    # Rounding of the difference, of size six, is the largest error.
    close = {'rtol': 16 * np.finfo(dtype).eps, 'atol': 0}
    np.testing.assert_allclose(x[inside], truth, **close)
    np.testing.assert_allclose(result, truth.sum(), **close)
    x[inside] = before[inside]
    assert (x == before).all()


@pytest.mark.parametrize('dtype', FLOATS)
def test_exp_sum_keeps_nan(dtype):
    lanes = lanes_of(dtype)
    for place in (0, lanes - 1, lanes):
        x = np.zeros(2 * lanes, dtype)
        x[place] = np.nan
        assert np.isnan(exp_sum(x, 0, 2 * lanes, dtype(0)))
        assert np.isnan(x).sum() == np.isnan(x[place]) == 1


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('cap', [0.5, 30.0])
def test_soften_is_a_scaled_tanh(dtype, cap):
    lanes = lanes_of(dtype)
    x = np.concatenate([np.linspace(-9, 9, 997), [1e-9, 1e30, -1e30]])
    x = np.pad(x * cap, (0, -len(x) % lanes)).astype(dtype)
    truth = np.array([cap * math.tanh(n / cap) for n in x.tolist()])
    last = x[-lanes:].copy()
    soften(x, 0, len(x) - lanes, dtype(cap))
    assert (x[-lanes:] == last).all()
    soften(x, len(x) - lanes, lanes, dtype(cap))
    # One minus a power near one loses digits: the error is absolute, some
    # units of the cap.
    assert np.abs(x - truth).max() < 4 * np.finfo(dtype).eps * cap
    assert (np.abs(x) <= cap).all()


@pytest.mark.parametrize('dtype', FLOATS)
@VECTORS
def test_peak_of_whole_vectors(vectors, dtype):
    lanes = lanes_of(dtype)
    count = vectors * lanes
    for place in range(count):
        x = np.full(count + 2 * lanes, 99, dtype)
        x[lanes - 1 : lanes - 1 + count] = -INF
        assert peak(x, lanes - 1, count) == -INF
        x[lanes - 1 + place] = -7
        assert peak(x, lanes - 1, count) == -7
    assert peak(np.full(3, 99, dtype), 0, 0) == -INF


@pytest.mark.parametrize('dtype', FLOATS)
@VECTORS
def test_scaled_stores_or_adds(vectors, dtype):
    count = vectors * lanes_of(dtype)
    x, y = (whole(count + 8, dtype=dtype, seed=n) for n in (1, 2))
    expected = y.copy()
    expected[3 : 3 + count] = 5 * x[1 : 1 + count]
    scaled(x, 1, y, 3, count, dtype(5))
    assert (y == expected).all()
    expected[3 : 3 + count] += 2 * x[2 : 2 + count]
    add_scaled(x, 2, y, 3, count, dtype(2))
    assert (y == expected).all()


@pytest.mark.parametrize('dtype', FLOATS)
@VECTORS
def test_fill_stores_one_number(vectors, dtype):
    count = vectors * lanes_of(dtype)
    x = whole(count + 9, dtype=dtype)
    expected = x.copy()
    expected[5 : 5 + count] = -3
    fill(x, 5, count, dtype(-3))
    assert (x == expected).all()


@pytest.mark.parametrize('dtype', FLOATS)
def test_fill_up_touches_the_rest_of_the_last_vector(dtype):
    lanes = lanes_of(dtype)
    for count in range(2 * lanes + 1):
        x = whole(4 * lanes, dtype=dtype)
        expected = x.copy()
        end = -(-count // lanes) * lanes
        expected[3 + count : 3 + end] = -INF
        fill_up(x, 3, count, dtype(-INF))
        assert (x == expected).all()


@pytest.mark.parametrize('dtype', FLOATS)
def test_transpose_of_a_square_block(dtype):
    lanes = lanes_of(dtype)
    x = np.arange(1, (lanes + 1) * (lanes + 3)).astype(dtype)
    y = np.zeros(2 * lanes * (lanes + 2), dtype)
    expected = y.copy()
    for i in range(lanes):
        for j in range(lanes):
            expected[5 + i * (lanes + 2) + j] = x[2 + j * (lanes + 1) + i]
    transpose(x, 2, lanes + 1, y, 5, lanes + 2)
    assert (y == expected).all()


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('add', [False, True])
@pytest.mark.parametrize('width', [1, 2, 3, 4, 9])
def test_products_of_four_rows(width, add, dtype):
    columns = width * lanes_of(dtype)
    for length, turned in [(0, False), (1, False), (9, False), (9, True)]:
        a = whole(4, length, dtype=dtype, seed=1)
        b = whole(length, columns, dtype=dtype, seed=2)
        left = np.full((length + 2, 6) if turned else (6, length + 2), 50.0)
        (left.T if turned else left)[1:5, 1 : 1 + length] = a
        steps = (1, 6) if turned else (length + 2, 1)
        right = np.full((length + 1, columns + 3), 60.0)
        right[:length, 2 : 2 + columns] = b
        out = whole(5, columns + 1, dtype=dtype, seed=3)
        expected = out.copy()
        expected[:4, 1:] = a @ b + add * out[:4, 1:]
        flat = [x.astype(dtype).ravel() for x in (out, left, right)]
        gemm4(
            flat[0], 1, columns + 1, flat[1], sum(steps), *steps, flat[2], 2,
            columns + 3, length, columns, add,
        )  # fmt: skip
        assert (flat[0].reshape(out.shape) == expected).all()


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('ranges', [1, 2, 4])
def test_numbers_outside_of_all_ranges_are_masked(ranges, dtype):
    lanes, function = lanes_of(dtype), mask_of(ranges)
    rng, used = np.random.default_rng(ranges), slice(1, 1 + ranges)
    for _ in range(20):
        start = rng.integers(0, 30, 6).astype(np.int32)
        stop = start + rng.integers(-3, 12, 6).astype(np.int32)
        # Not in order, and -1 where a tile has no key.
        number = rng.integers(-1, 40, 2 * lanes).astype(np.int32)
        x = whole(3 * lanes, dtype=dtype)
        expected = x.copy()
        for n in range(lanes):
            key = number[2 + n]
            if not ((start[used] <= key) & (key < stop[used])).any():
                expected[3 + n] = -INF
        function(x, 3, number, 2, start, stop, 1)
        assert (x == expected).all()


@pytest.mark.parametrize('dtype', FLOATS)
def test_prefetching_changes_nothing(dtype):
    x = whole(64, dtype=dtype)
    before = x.copy()
    fetch(x, 16, 3 * lanes_of(dtype))
    assert (x == before).all()
