import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gnnbridge.nn.formats import (
    Windows,
    find_windows,
    lazy,
    mask_windows,
)
from gnnbridge.nn.plan import plan_attention

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True)


# Ranges that are stored for so many in a row, as kernels know them.
RANGES = [1, 1, 2, 4, 4]


def random_mask(queries, keys, density=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(queries, keys, generator=generator) < density


def edges_of(mask, seed=None):
    query, key = mask.nonzero().t()
    edge_index = torch.stack([key, query])
    if seed is None:
        return edge_index
    generator = torch.Generator().manual_seed(seed)
    return edge_index[:, torch.randperm(key.numel(), generator=generator)]


def rows_of(mask, seed=None):
    return plan_attention(edges_of(mask, seed), (mask.size(1), len(mask))).rows


def dense(start, stop, num_keys):
    """Which keys lie in the ranges ``[..., R]``."""
    key = torch.arange(num_keys)
    return ((start[..., None] <= key) & (key < stop[..., None])).any(dim=-2)


def most_ranges(mask):
    """Largest number of ranges of a row, counted one by one."""
    count = 0
    for row in mask.tolist():
        rises = zip([False, *row[:-1]], row, strict=True)
        count = max(count, sum(x < y for x, y in rises))
    return count


@st.composite
def masks(draw, shape=None):
    shape = shape or (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    size = shape[0] * shape[1]
    bits = draw(st.integers(0, 2**size - 1))
    bits = [bool(bits >> n & 1) for n in range(size)]
    return torch.tensor(bits).view(shape)


@st.composite
def ranges(draw, rows=20, keys=30):
    """Up to four increasing, disjoint ranges for each row; some are empty."""
    count = draw(st.integers(1, 4))
    bound = st.integers(0, keys)
    cuts = draw(
        st.lists(
            st.lists(bound, min_size=2 * count, max_size=2 * count),
            min_size=1, max_size=rows,
        )
    )  # fmt: skip
    cuts = torch.tensor(cuts).sort(dim=1).values.view(-1, count, 2)
    # Empty ranges come last, as they do where ranges are found.
    last = (cuts[..., 0] == cuts[..., 1]).int().argsort(dim=1, stable=True)
    return tuple(cuts.gather(1, last[..., None].expand_as(cuts)).unbind(-1))


@PROPERTY
@given(masks(), st.none() | st.integers(0, 9))
def test_rows_and_columns_are_those_of_scipy(mask, seed):
    rows, (queries, keys) = rows_of(mask, seed), mask.shape
    expected = scipy.sparse.csr_array(mask.numpy())
    assert rows.start.tolist() == expected.indptr.tolist()
    assert rows.key.tolist() == expected.indices.tolist()
    assert (rows.num_queries, rows.num_keys) == (queries, keys)
    assert rows.query.tolist() == expected.nonzero()[0].tolist()

    # The number of an edge is carried along, one more so that none is zero.
    numbers = np.arange(1, expected.nnz + 1)
    numbered = (numbers, expected.indices, expected.indptr)
    columns = scipy.sparse.csr_array(numbered, shape=(queries, keys)).tocsc()
    assert rows.columns.start.tolist() == columns.indptr.tolist()
    assert rows.columns.query.tolist() == columns.indices.tolist()
    assert rows.columns.edge.tolist() == (columns.data - 1).tolist()


def test_types_of_the_compressed_forms():
    rows = rows_of(random_mask(5, 7), seed=1)
    columns = rows.columns
    long = rows.start, rows.order, rows.query, columns.start, columns.edge
    assert {x.dtype for x in long} == {torch.int64}
    assert rows.key.dtype == columns.query.dtype == torch.int32
    moved = rows.to('cpu')
    assert torch.equal(moved.key, rows.key)
    assert torch.equal(moved.order, rows.order)
    assert moved.num_keys == 7


@PROPERTY
@given(masks(), st.none() | st.integers(0, 9))
def test_edges_come_back_in_the_order_of_the_caller(mask, seed):
    edge_index, rows = edges_of(mask, seed), rows_of(mask, seed)
    given_order = edge_index.t().contiguous()
    by_row = rows.sorted(given_order)
    assert by_row.tolist() == edges_of(mask).t().tolist()
    assert torch.equal(rows.unsorted(by_row), given_order)


def test_sorted_edges_are_not_moved():
    rows, x = rows_of(random_mask(5, 7)), torch.randn(9, 2)
    assert rows.order is None
    assert rows.sorted(x) is x
    assert rows.unsorted(x) is x


def test_unsorting_has_a_gradient():
    rows = rows_of(random_mask(5, 7), seed=1)
    x = torch.randn(rows.key.numel(), 2, requires_grad=True)
    weight = torch.randn(x.shape)
    (grad,) = torch.autograd.grad((rows.unsorted(x) * weight).sum(), x)
    assert torch.equal(grad, weight[rows.order])


def test_a_lazy_attribute_is_computed_once():
    class Owner:
        @lazy
        def number(self):
            """A number."""
            calls.append(self)
            return len(calls)

    calls, one, other = [], Owner(), Owner()
    assert (one.number, one.number, other.number, one.number) == (1, 1, 2, 1)
    assert calls == [one, other]
    assert Owner.number.__doc__ == 'A number.'


# One row sees at once what another sees in three parts.
WIDE = (
    torch.tensor([[0, 0, 0], [0, 2, 4]]),
    torch.tensor([[9, 0, 0], [1, 3, 5]]),
)


@PROPERTY
@given(ranges(), st.sampled_from([1, 3, 4, 64]))
@example(WIDE, 4)
def test_blocks_cover_the_ranges_of_their_rows(given_ranges, rows):
    start, stop = given_ranges
    windows = Windows.of(start, stop, rows=rows)
    seen = dense(start, stop, 30)
    # The rows themselves are as they were given.
    assert torch.equal(dense(windows.start, windows.stop, 30), seen)
    assert windows.num_queries == len(start)
    assert len(windows.cover_start) == (len(start) + rows - 1) // rows
    work = 0
    low, high = windows.cover_start, windows.cover_stop
    for block, bounds in enumerate(torch.stack([low, high], -1).tolist()):
        used = [(a, b) for a, b in bounds if b > a]
        cover = dense(low[block], high[block], 30)
        assert (cover | ~seen[block * rows : (block + 1) * rows]).all()
        # In increasing order, one after the other.
        flat = [x for pair in used for x in pair]
        assert flat == sorted(flat)
        # No more than from the first to the last key that is seen.
        keys = seen[block * rows : (block + 1) * rows].any(dim=0).nonzero()
        ends = [int(keys[0]), int(keys[-1]) + 1] if len(keys) else []
        assert flat[:1] + flat[-1:] == ends
        work += rows * int(cover.sum())
    assert windows.work == work
    kept = windows.start, windows.stop, low, high
    assert all(x.dtype == torch.int32 and x.is_contiguous() for x in kept)


def test_a_window_with_sinks_leaves_out_what_lies_between():
    start = torch.tensor([[0, max(i - 9, 0)] for i in range(256)])
    stop = torch.tensor([[min(4, max(i - 9, 0)), i + 1] for i in range(256)])
    windows = Windows.of(start, stop)
    cover = dense(windows.cover_start, windows.cover_stop, 256)
    # Blocks of 64 queries; the window reaches back nine keys.
    bounds = torch.tensor([[0, 64], [55, 128], [119, 192], [183, 256]])
    expected = dense(bounds[:, :1], bounds[:, 1:], 256)
    expected[:, :4] = True
    assert torch.equal(cover, expected)
    assert windows.work == 64 * (64 + 3 * (4 + 73))
    moved = windows.to('cpu')
    for name in ('start', 'stop', 'cover_start', 'cover_stop', 'rows'):
        ours, theirs = getattr(moved, name), getattr(windows, name)
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_empty_ranges_may_come_first():
    """A range is empty where its end is not above its start, in any place."""
    start, stop = torch.tensor([[0, 0], [1, 0]]), torch.tensor([[0, 1], [2, 0]])
    windows = Windows.of(start, stop)
    cover = dense(windows.cover_start[0], windows.cover_stop[0], 3)
    assert cover.tolist() == [True, True, False]


def test_no_queries_have_no_blocks():
    windows = Windows.of(torch.zeros(0, 2).long(), torch.zeros(0, 2).long())
    assert windows.num_queries == 0
    assert windows.cover_start.shape == (0, 2)
    assert windows.work == 0


@PROPERTY
@given(masks(), st.none() | st.integers(0, 9))
def test_windows_of_edges_are_the_graph(mask, seed):
    windows, most = find_windows(rows_of(mask, seed)), most_ranges(mask)
    if most > 4:
        assert windows is None
        return
    assert windows.start.size(1) == RANGES[most]
    found = dense(windows.start, windows.stop, mask.size(1))
    assert torch.equal(found, mask)
    # No two ranges of a row touch: they would be one.
    full = (windows.stop > windows.start).sum(dim=1)
    assert full.tolist() == [most_ranges(row[None]) for row in mask]


@PROPERTY
@given(
    st.integers(1, 3).flatmap(
        lambda graphs: st.tuples(*[masks((5, 9)) for _ in range(graphs)])
    )
)
def test_windows_of_masks_are_the_graphs(tensors):
    mask = torch.stack(tensors)
    before = mask.clone()
    windows = mask_windows(mask)
    assert torch.equal(mask, before)
    most = most_ranges(mask.flatten(0, 1))
    if most > 4:
        assert windows is None
        return
    whole = torch.block_diag(*mask.long()).bool()
    found = dense(windows.start, windows.stop, whole.size(1))
    assert torch.equal(found, whole)
    assert windows.start.size(1) == RANGES[most]


@pytest.mark.parametrize(('queries', 'keys'), [(0, 0), (0, 4), (4, 0), (4, 5)])
def test_a_graph_without_edges_has_empty_windows(queries, keys):
    mask = torch.zeros(queries, keys, dtype=torch.bool)
    rows = rows_of(mask)
    for windows in (find_windows(rows), mask_windows(mask[None])):
        assert windows.start.shape == windows.stop.shape == (queries, 1)
        assert not dense(windows.start, windows.stop, keys).any()
        assert windows.work == 0
    assert rows.start.tolist() == [0] * (queries + 1)
    assert rows.columns.start.tolist() == [0] * (keys + 1)
    assert rows.query.numel() == rows.columns.edge.numel() == 0
