import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex

from gnnbridge.graph.causal import dilated_graph, prefix_graph
from gnnbridge.graph.causal import sliding_window_graph as window_graph
from gnnbridge.nn import choice
from gnnbridge.nn.plan import _plans, plan_attention

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True)


def edges_of(mask, seed=None):
    query, key = mask.nonzero().t()
    edge_index = torch.stack([key, query])
    if seed is None:
        return edge_index
    generator = torch.Generator().manual_seed(seed)
    return edge_index[:, torch.randperm(key.numel(), generator=generator)]


def ones(*shape):
    return torch.ones(shape, dtype=torch.bool)


def tensors_of(plan):
    """Every tensor that a plan holds, however deep."""
    found, left = [], [plan]
    while left:
        x = left.pop()
        if isinstance(x, torch.Tensor):
            found.append(x)
        elif isinstance(x, (tuple, list)):
            left.extend(x)
        elif hasattr(x, '__dict__'):
            left.extend(vars(x).values())
    return found


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3)), max_size=6),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_a_plan_is_made_of_distinct_edges_within_range(edges, keys, queries):
    edge_index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t()
    in_range = all(0 <= j < keys and 0 <= i < queries for j, i in edges)
    if in_range and len(set(edges)) == len(edges):
        plan = plan_attention(edge_index, (keys, queries))
        assert plan.edge_index.tolist() == edge_index.tolist()
        assert plan.num_edges == len(edges)
        assert plan.size == (keys, queries)
    else:
        with pytest.raises(ValueError, match='Expected e'):
            plan_attention(edge_index, (keys, queries))


@pytest.mark.parametrize(
    ('edge', 'name'),
    [
        ((5, 0), 'key 5 -> query 0'),
        ((-1, 2), 'key -1 -> query 2'),
        ((0, 3), 'key 0 -> query 3'),
        ((4, -2), 'key 4 -> query -2'),
    ],
)
def test_an_edge_out_of_range_is_named(edge, name):
    edge_index = torch.tensor([[0, 0], [4, 2], list(edge), [9, 9]]).t()
    with pytest.raises(ValueError, match=f'{name} at edge 2') as error:
        plan_attention(edge_index, (5, 3))
    assert 'from 5 keys to 3 queries' in str(error.value)


def test_a_duplicate_edge_is_named():
    edge_index = torch.tensor([[2, 0, 1, 0, 2], [1, 2, 1, 0, 1]])
    with pytest.raises(ValueError, match='key 2 -> query 1 at edges 0 and 4'):
        plan_attention(edge_index, (3, 3))
    # The same two numbers the other way round are another edge.
    edge_index = torch.tensor([[2, 1], [1, 2]])
    assert plan_attention(edge_index, (3, 3)).num_edges == 2


@pytest.mark.parametrize(
    ('edge_index', 'got'),
    [
        (torch.zeros(2, 1, dtype=torch.int32), 'torch.int32'),
        (torch.zeros(2, 1), 'torch.float32'),
        (torch.eye(2).to_sparse(), 'torch.float32'),
        ([[0], [0]], 'list'),
        (None, 'NoneType'),
    ],
)
def test_other_types_are_refused(edge_index, got):
    with pytest.raises(TypeError, match=rf'int64 tensor \(got {got}\)'):
        plan_attention(edge_index, (2, 2))


@pytest.mark.parametrize(
    'edge_index',
    [
        torch.zeros(2, dtype=torch.long),
        torch.zeros(3, 2, dtype=torch.long),
        torch.zeros(1, 2, 2, dtype=torch.long),
        torch.eye(2, dtype=torch.long).to_sparse(),
    ],
)
def test_other_shapes_are_refused(edge_index):
    with pytest.raises(ValueError, match=r'of shape \[2, E\]'):
        plan_attention(edge_index, (2, 2))


def test_edge_index_of_pyg_is_accepted_as_a_plain_tensor():
    edge_index = EdgeIndex([[0, 1, 1], [1, 0, 1]], sparse_size=(2, 2))
    plan = plan_attention(edge_index, (2, 2))
    assert type(plan.edge_index) is torch.Tensor
    assert plan.edge_index.tolist() == [[0, 1, 1], [1, 0, 1]]


def test_to_moves_all_that_a_plan_holds():
    for graph in (ones(6, 6), edges_of(ones(6, 6), seed=1)):
        plan = plan_attention(graph, (6, 6), backend='scatter')
        moved = plan.to('meta')
        assert {x.device.type for x in tensors_of(moved)} == {'meta'}
        shapes = sorted(str(x.shape) for x in tensors_of(plan))
        assert sorted(str(x.shape) for x in tensors_of(moved)) == shapes
        assert (moved.size, moved.num_edges) == (plan.size, plan.num_edges)
    assert plan.to('cpu') is plan
    plan = plan_attention('causal', (6, 6)).to('meta')
    assert (plan.device.type, plan.backend) == ('meta', 'dense')


def test_to_chooses_again_unless_the_caller_chose():
    edge_index = torch.arange(4).expand(2, 4)
    forced = plan_attention(edge_index, (4, 4), backend='csr_cpu')
    with pytest.raises(ValueError, match=r'on the CPU.*\(got one on meta\)'):
        forced.to('meta')
    forced = plan_attention(edge_index, (4, 4), backend='dense').to('meta')
    assert (forced.backend, forced.forced) == ('dense', True)
    assert not plan_attention(edge_index, (4, 4)).to('meta').forced


def test_explain_says_what_runs_and_why():
    plan = plan_attention(torch.tensor([[0, 1, 2], [1, 0, 0]]), (4, 3))
    assert plan.explain() == (
        "backend 'dense' on cpu: the graph is small: a mask costs less than a "
        'list; 3 edges, 3 queries x 4 keys (25.0% of all pairs)'
    )
    plan = plan_attention('causal', (8, 8), num_graphs=2)
    assert plan.explain() == (
        "backend 'dense' on cpu: the graph is causal: torch's kernel, no "
        'edges; 20 edges, 8 queries x 8 keys (62.5% of all pairs)'
    )
    plan = plan_attention('full', (3, 2), backend='csr_cpu')
    assert "'csr_cpu' on cpu: as asked for; 6 edges" in plan.explain()
    empty = plan_attention(torch.zeros(2, 0, dtype=torch.long), (0, 0))
    assert '0 edges, 0 queries x 0 keys (0.0%' in empty.explain()


def test_plans_are_compared_by_identity():
    plan, other = (plan_attention('full', (2, 2)) for _ in range(2))
    assert plan != other
    assert len({plan, plan, other}) == 2


N = 260
CAUSAL = ones(N, N).tril()
GRAPHS = {
    # Structure, ranges of keys of a row, and backend where it is not small.
    'causal': (edges_of(CAUSAL), 'causal', 1, 'dense'),
    'full': (edges_of(ones(N, N)), 'full', 1, 'dense'),
    'window': (window_graph(N, 40).edge_index, None, 1, 'row_window'),
    'window and sinks': (
        window_graph(N, 40, sinks=3).edge_index, None, 2, 'row_window',
    ),
    'diagonal': (torch.arange(N).expand(2, N), None, 1, 'csr_cpu'),
    'blocks': (
        edges_of(torch.block_diag(*ones(5, 52, 52))), None, 1, 'row_window',
    ),
    'prefix': (prefix_graph(N, 30).edge_index, None, 1, 'dense'),
    'dilated': (dilated_graph(N, 12, 2).edge_index, None, None, 'csr_cpu'),
    'strictly lower': (edges_of(CAUSAL.tril(-1)), None, 1, 'dense'),
    'upper': (edges_of(CAUSAL.t()), None, 1, 'dense'),
    'three ranges': (
        edges_of(torch.arange(N).expand(N, N) % 97 < 18), None, 4, 'row_window',
    ),
    'random': (
        edges_of(torch.rand(N, N, generator=torch.manual_seed(0)) < 0.1),
        None, None, 'csr_cpu',
    ),
    'empty': (torch.zeros(2, 0, dtype=torch.long), None, 1, 'csr_cpu'),
}  # fmt: skip


@pytest.mark.parametrize('seed', [None, 1])
@pytest.mark.parametrize('name', GRAPHS)
def test_structure_is_found_in_any_order_of_the_edges(name, seed, monkeypatch):
    monkeypatch.setattr(choice, 'SMALL', 0)
    edge_index, structure, ranges, backend = GRAPHS[name]
    if seed is not None:
        order = torch.randperm(
            edge_index.size(1), generator=torch.Generator().manual_seed(seed)
        )
        edge_index = edge_index[:, order]
    before = edge_index.clone()
    plan = plan_attention(edge_index, (N, N))
    assert torch.equal(edge_index, before)
    assert (plan.structure, plan.backend) == (structure, backend)
    windows = plan.windows
    assert (windows and windows.start.size(1)) == ranges
    assert plan.num_edges == edge_index.size(1)
    assert torch.equal(plan.edge_index, edge_index)
    assert (plan.device.type, plan.forced) == ('cpu', False)


@pytest.mark.parametrize(
    ('queries', 'keys', 'structure'),
    [(1, 1, 'full'), (1, 9, 'full'), (9, 1, 'full'), (2, 9, 'causal')],
)
def test_rows_of_a_cache_are_the_last_of_the_keys(queries, keys, structure):
    mask = ones(queries, keys)
    mask = mask if structure == 'full' else mask.tril(keys - queries)
    plan = plan_attention(edges_of(mask), (keys, queries))
    assert (plan.structure, plan.backend) == (structure, 'dense')


def test_the_first_of_too_many_causal_queries_sees_nothing():
    # One query more than keys: a row of no keys, then the causal rows.
    plan = plan_attention(edges_of(ones(5, 4).tril(-1)), (4, 5))
    assert plan.structure == 'causal'
    assert torch.equal(plan.mask[0], ones(5, 4).tril(-1))
    # Two more are no band any more: rows cannot have less than no key.
    plan = plan_attention(edges_of(ones(6, 4).tril(-2)), (4, 6))
    assert plan.structure is None


def test_graphs_side_by_side_have_the_structure_of_each():
    three = torch.block_diag(*ones(3, 4, 5).tril(1)).bool()
    plan = plan_attention(edges_of(three, seed=1), (15, 12), num_graphs=3)
    assert (plan.structure, plan.backend) == ('causal', 'dense')
    assert (plan.graph_size, plan.num_pairs) == ((5, 4), 60)
    assert plan_attention(edges_of(three), (15, 12)).structure is None
    three[4, 5] = False
    plan = plan_attention(edges_of(three), (15, 12), num_graphs=3)
    assert plan.structure is None
    expected = three.view(3, 4, 3, 5)[range(3), :, range(3)]
    assert torch.equal(plan.mask, expected)
    assert expected[plan.places].all()
    with pytest.raises(ValueError, match='key 4 -> query 4 at edge 4'):
        plan_attention(torch.arange(9).expand(2, 9), (15, 12), num_graphs=3)


@pytest.mark.parametrize('num_graphs', [1, 3])
@pytest.mark.parametrize('queries', [1, 4, 5])
@pytest.mark.parametrize('structure', ['causal', 'full'])
def test_structures_list_their_edges_when_asked(structure, queries, num_graphs):
    size = 5 * num_graphs, queries * num_graphs
    plan = plan_attention(structure, size, num_graphs=num_graphs)
    mask = ones(queries, 5)
    mask = mask.tril(5 - queries) if structure == 'causal' else mask
    whole = torch.block_diag(*[mask.long()] * num_graphs).bool()
    assert plan.num_edges == whole.sum()
    assert torch.equal(plan.edge_index, edges_of(whole))
    assert plan.edge_index is plan.edge_index
    assert torch.equal(plan.mask, mask.expand(num_graphs, -1, -1))
    key = torch.arange(size[0])
    ranges = plan.windows.start <= key, key < plan.windows.stop
    assert torch.equal(ranges[0] & ranges[1], whole)
    assert plan.rows.key.tolist() == plan.edge_index[0].tolist()


@pytest.mark.parametrize('size', [(0, 0), (3, 0), (0, 3)])
def test_structures_without_edges_list_none(size):
    assert plan_attention('full', size).edge_index.shape == (2, 0)
    if size[1] <= size[0]:
        assert plan_attention('causal', size).edge_index.shape == (2, 0)


@pytest.mark.parametrize('backend', ['auto', 'csr_cpu', 'row_window', 'dense'])
def test_large_structures_are_not_written_out(backend):
    size = 1 << 15, 1 << 15
    plan = plan_attention('causal', size, backend=backend)
    assert plan.num_edges == (1 << 14) * ((1 << 15) + 1)
    assert tensors_of(plan) == []
    assert '536887296 edges' in plan.explain()
    # Windows take what the queries take.
    assert plan.windows.work < 1.01 * plan.num_edges
    assert max(x.numel() for x in tensors_of(plan)) <= 1 << 15


@pytest.mark.parametrize('shape', [(4, 5), (2, 4, 5)])
def test_masks_are_their_edges(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    before = mask.clone()
    plan = plan_attention(mask)
    blocks = mask.view(-1, 4, 5)
    assert torch.equal(mask, before)
    assert plan.num_graphs == len(blocks)
    assert plan.size == (5 * len(blocks), 4 * len(blocks))
    assert torch.equal(plan.mask, blocks)
    whole = torch.block_diag(*blocks.long()).bool()
    assert torch.equal(plan.edge_index, edges_of(whole))
    assert plan.num_edges == whole.sum()
    assert plan.backend == 'dense'


def test_a_large_mask_of_few_ranges_is_run_by_windows():
    near = torch.arange(600)[:, None] - torch.arange(600)
    mask = (near >= 0) & (near < 50)
    plan = plan_attention(mask)
    assert plan.backend == 'row_window'
    assert 'rows of the mask are ranges (at most 1)' in plan.explain()
    assert plan_attention(mask | mask.t()).backend == 'row_window'
    assert plan_attention(near % 7 == 0).backend == 'dense'
    assert plan_attention(near < 300).backend == 'dense'


def test_the_plan_of_a_tensor_is_kept():
    edge_index = edges_of(ones(3, 3))
    plan = plan_attention(edge_index, (3, 3))
    assert plan_attention(edge_index, (3, 3)) is plan
    assert plan_attention(edge_index, torch.Size([3, 3])) is plan
    # Another tensor of the same numbers, and another question.
    assert plan_attention(edge_index.clone(), (3, 3)) is not plan
    for size, backend in [((4, 3), 'auto'), ((3, 3), 'dense')]:
        other = plan_attention(edge_index, size, backend=backend)
        assert other is not plan
        assert plan_attention(edge_index, size, backend=backend) is other
    # Nobody knows whether a tensor of inference mode was changed.
    with torch.inference_mode():
        edge_index = edge_index.clone()
    plan = plan_attention(edge_index, (3, 3))
    assert plan_attention(edge_index, (3, 3)) is not plan


def test_a_tensor_that_changed_is_planned_again():
    edge_index = torch.tensor([[0, 1], [0, 1]])
    plan = plan_attention(edge_index, (3, 3))
    edge_index[0, 1] = 2
    again = plan_attention(edge_index, (3, 3))
    assert again is not plan
    assert again.mask[0].nonzero().tolist() == [[0, 0], [1, 2]]
    edge_index[0, 1] = 3
    with pytest.raises(ValueError, match='key 3 -> query 1'):
        plan_attention(edge_index, (3, 3))


def test_a_plan_is_freed_with_its_tensor():
    edge_index = edges_of(ones(3, 3))
    plan = weakref.ref(plan_attention(edge_index, (3, 3)))
    tensor = weakref.ref(edge_index)
    gc.collect()
    assert plan() is not None
    before = len(_plans)
    del edge_index
    gc.collect()
    assert (tensor(), plan()) == (None, None)
    assert len(_plans) == before - 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('causal', None), "'causal' or 'full' with a size"),
        (('dense', (3, 3)), r"\(got 'dense' and"),
        (('causal', (3, 4)), 'as many keys as causal queries'),
        ((ones(3), (3, 3)), r'of shape \[Q, K\] or \[B, Q, K\]'),
        ((ones(3, 4), (3, 4)), r'the size \(4, 3\) of the mask'),
        ((edges_of(ones(3, 3)), None), r"Expected 'size'"),
        (('causal', (6, 3), 2), r"'num_graphs' to divide .*\(6, 3\)"),
        (('full', (6, 3), 0), r"'num_graphs' to divide .*\(6, 3\)"),
        ((edges_of(ones(3, 3)), (6, 3), 2), r"'num_graphs' to divide"),
    ],
)
def test_graphs_that_are_none_are_refused(arguments, message):
    graph, size, num_graphs = (*arguments, 1)[:3]
    with pytest.raises(ValueError, match=message):
        plan_attention(graph, size, num_graphs=num_graphs)


def test_backends_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"auto, dense,.*\(got 'fast'\)"):
        plan_attention('full', (3, 3), backend='fast')
    alternating = edges_of(torch.arange(9).view(1, 9) % 2 == 0)
    with pytest.raises(ValueError, match=r"four ranges of keys for .*'flex'"):
        plan_attention(alternating, (9, 1), backend='flex')


@pytest.mark.parametrize('backend', ['row_window', 'flex'])
def test_backends_of_windows_run_small_masks_and_empty_graphs(backend):
    plan = plan_attention(ones(4, 4).tril(1), backend=backend)
    assert plan.windows is not None
    empty = torch.zeros(2, 0, dtype=torch.long)
    assert plan_attention(empty, (3, 3), backend=backend).windows is not None
