import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.graph.cache import cache_graph, to_bipartite
from gnnbridge.graph.causal import causal_graph
from gnnbridge.graph.mask import from_mask
from gnnbridge.graph.schema import validate


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 1000))
def test_kept_entries_become_edges(num_queries, past, seed):
    num_keys = num_queries + past
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(num_queries, num_keys, generator=generator) < 0.5
    mask[0, 0] = True
    data = validate(from_mask(mask))
    expected = [
        [j, i + past]
        for i in range(num_queries)
        for j in range(num_keys)
        if mask[i, j]
    ]
    assert data.edge_index.t().tolist() == expected
    assert data.num_nodes == num_keys
    assert data.position.tolist() == list(range(num_keys))
    assert data.get('num_queries') == (num_queries if past else None)


def test_causal_masks_give_the_causal_graphs():
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    assert torch.equal(from_mask(mask).edge_index, causal_graph(5).edge_index)
    data = from_mask(mask[3:])
    assert torch.equal(data.edge_index, cache_graph(2, 5).edge_index)
    edge_index, size = to_bipartite(data)
    assert size == (2 + 3, 2)
    assert torch.equal(edge_index.flip(0).t(), mask[3:].nonzero())


def test_a_float_mask_is_refused_and_the_advice_works():
    additive = torch.full((3, 3), torch.finfo(torch.float32).min).triu(1)
    with pytest.raises(TypeError, match=r"float32.*Use 'mask == 0'"):
        from_mask(additive)
    assert torch.equal(
        from_mask(additive == 0).edge_index, causal_graph(3).edge_index
    )


def test_an_integer_mask_is_refused():
    with pytest.raises(TypeError, match=r"int64.*Use 'mask.bool\(\)'"):
        from_mask(torch.ones(3, 3, dtype=torch.long))


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match='got list'):
        from_mask([[True]])


@pytest.mark.parametrize(
    ('shape', 'match'),
    [
        ((2, 1, 3, 3), r'shape \[Nq, Nk\] .*\[2, 1, 3, 3\]'),
        ((3,), r'shape \[Nq, Nk\]'),
        ((4, 3), '1 <= Nq <= Nk'),
        ((0, 0), '1 <= Nq <= Nk'),
    ],
)
def test_wrong_shapes_are_refused(shape, match):
    with pytest.raises(ValueError, match=match):
        from_mask(torch.ones(shape, dtype=torch.bool))


def test_a_mask_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match='at least one edge'):
        from_mask(torch.zeros(2, 2, dtype=torch.bool))
