"""Products with rows given by number, against numpy.

All numbers are small and whole, so that every order of a sum gives the same.
"""

import numpy as np
import pytest
from numba import njit

from gnnbridge.nn.kernels import emitter, gather

FLOATS = pytest.mark.parametrize('dtype', [np.float32, np.float64])
INTEGERS = pytest.mark.parametrize('integer', [np.int32, np.int64])
# Whole blocks of four vectors, and what remains.
VECTORS = pytest.mark.parametrize('vectors', [0, 1, 2, 3, 4, 5, 8, 11])
NODES = 9


@njit
def dots(x, x_at, y, y_at, other, first, count, node, width, factor, out, to):
    gather.gather_dots(
        x, x_at, y, y_at, other, first, count, node, width, factor, out, to
    )


@njit
def total(
    weight, w_at, y, y_at, other, first, count, node, width, factor, out, to,
    add,
):  # fmt: skip
    gather.gather_sum(
        weight, w_at, y, y_at, other, first, count, node, width, factor, out,
        to, add,
    )  # fmt: skip


@njit
def fetch(y, y_at, other, first, last, step, node, width):
    gather.fetch_rows(y, y_at, other, first, last, step, node, width)


def lanes_of(dtype):
    return emitter.lanes_of(np.dtype(dtype).itemsize)


def graph(vectors, dtype, integer):
    """Rows of whole numbers, one head of two, and edges to them."""
    rng = np.random.default_rng(vectors)
    width = vectors * lanes_of(dtype)
    y = rng.integers(-9, 10, (NODES, 2 * width + 1)).astype(dtype)
    return y, rng.integers(0, NODES, 90).astype(integer)


@FLOATS
@INTEGERS
@VECTORS
def test_dots_with_the_rows_of_edges(vectors, integer, dtype):
    lanes = lanes_of(dtype)
    width = vectors * lanes
    y, other = graph(vectors, dtype, integer)
    x = np.arange(width + 5).astype(dtype) % 7 - 3
    for count in [*range(2 * lanes + 2), 70]:
        whole = -(-count // lanes) * lanes
        out = np.full(whole + 8, 77, dtype)
        dots(
            x, 5, y.ravel(), width, other, 11, count, y.shape[1], width,
            dtype(2), out, 3,
        )  # fmt: skip
        rows = y[other[11 : 11 + count], width : 2 * width]
        assert (out[3 : 3 + count] == 2 * rows @ x[5:]).all()
        # What lies behind the last vector is not touched.
        assert (out[:3] == 77).all()
        assert (out[3 + whole :] == 77).all()


@FLOATS
@INTEGERS
@VECTORS
@pytest.mark.parametrize('add', [False, True])
def test_weighted_sum_of_the_rows_of_edges(add, vectors, integer, dtype):
    width = vectors * lanes_of(dtype)
    y, other = graph(vectors, dtype, integer)
    weight = np.arange(80).astype(dtype) % 5 - 2
    for count in [0, 1, 2, 3, 4, 5, 8, 66]:
        out = np.arange(width + 9).astype(dtype)
        expected = out.copy()
        rows = y[other[7 : 7 + count], width : 2 * width]
        added = 3 * weight[2 : 2 + count] @ rows
        expected[4 : 4 + width] = add * out[4 : 4 + width] + added
        total(
            weight, 2, y.ravel(), width, other, 7, count, y.shape[1], width,
            dtype(3), out, 4, add,
        )  # fmt: skip
        assert (out == expected).all()


@FLOATS
@INTEGERS
def test_asking_for_rows_changes_nothing(integer, dtype):
    y, other = graph(5, dtype, integer)
    before = y.copy(), other.copy()
    width = 5 * lanes_of(dtype)
    for step in (1, 3):
        fetch(y.ravel(), 3, other, 0, len(other), step, y.shape[1], width)
        fetch(y.ravel(), 3, other, 5, 5, step, y.shape[1], width)
    assert (y == before[0]).all()
    assert (other == before[1]).all()
