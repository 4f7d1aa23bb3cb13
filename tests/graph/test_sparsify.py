import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from gnnbridge.graph.causal import causal_graph
from gnnbridge.graph.dense import from_attention, to_attention
from gnnbridge.graph.schema import is_causal, select_edges, validate
from gnnbridge.graph.sparsify import sparsify

module = sys.modules['gnnbridge.graph.sparsify']
PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


@st.composite
def attention_graphs(draw):
    """Causal graphs whose weights have ties and zeros, in eighths."""
    n = draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    A = torch.randint(0, 5, (n, n), generator=generator) / 8
    mask = torch.rand(n, n, generator=generator) < 0.8
    mask[0, 0] = True
    return from_attention(A.tril(), mask=mask.tril())


def rows(data):
    """Edges of each target as (weight, source), heaviest first."""
    out = {}
    weight = data.edge_weight.tolist()
    for (j, i), w in zip(data.edge_index.t().tolist(), weight, strict=True):
        out.setdefault(i, []).append((w, j))
    return {
        i: sorted(row, key=lambda r: (-r[0], r[1])) for i, row in out.items()
    }


def brute_force(data, choose):
    """Kept edges (j, i) by target then source, and the discarded mass."""
    edges, discarded = [], [0.0] * data.num_nodes
    for i, row in sorted(rows(data).items()):
        kept = choose(row) or row[:1]
        edges += sorted((j, i) for _, j in kept)
        discarded[i] = sum(w for w, _ in row) - sum(w for w, _ in kept)
    return edges, discarded


def choose_top_p(row, p):
    total, kept, mass = sum(w for w, _ in row), [], 0.0
    for edge in row:
        if mass >= p * total:
            break
        kept.append(edge)
        mass += edge[0]
    return kept


def check(data, out, choose):
    edges, discarded = brute_force(data, choose)
    assert [tuple(e) for e in out.edge_index.t().tolist()] == edges
    # Eighths are exact in binary: no rounding.
    assert out.discarded_mass.tolist() == discarded
    kept = to_attention(out).sum(dim=1)
    assert torch.equal(kept + out.discarded_mass, to_attention(data).sum(dim=1))
    assert validate(out, causal=is_causal(data)) is out


@PROPERTY
@given(attention_graphs(), st.integers(1, 8))
def test_top_k(data, k):
    check(data, sparsify(data, top_k=k), lambda row: row[:k])


@PROPERTY
@given(attention_graphs(), st.integers(1, 16))
def test_top_p(data, sixteenths):
    # The share times a sum of eighths is exact too; the slack of a few 1e-7
    # is far below the spacing of the sums.
    p = sixteenths / 16
    check(data, sparsify(data, top_p=p), lambda row: choose_top_p(row, p))


@PROPERTY
@given(attention_graphs(), st.integers(0, 6))
def test_threshold(data, eighths):
    check(
        data,
        sparsify(data, threshold=eighths / 8),
        lambda row: [edge for edge in row if edge[0] >= eighths / 8],
    )


@PROPERTY
@given(attention_graphs(), st.randoms(use_true_random=False))
def test_the_order_of_the_edges_does_not_matter(data, random):
    order = list(range(data.num_edges))
    random.shuffle(order)
    shuffled = select_edges(data, torch.tensor(order))
    for rule in ({'top_k': 2}, {'top_p': 0.7}, {'threshold': 0.3}):
        first, second = sparsify(data, **rule), sparsify(shuffled, **rule)
        assert torch.equal(first.edge_index, second.edge_index)
        assert torch.equal(first.edge_weight, second.edge_weight)


@PROPERTY
@given(attention_graphs(), st.integers(1, 5))
def test_rows_are_sorted_alone_or_all_together(data, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, '_FILLED', 0)
        together = sparsify(data, top_k=k)
        patch.setattr(module, '_FILLED', 1 << 30)
        alone = sparsify(data, top_k=k)
    assert torch.equal(together.edge_index, alone.edge_index)
    assert torch.equal(together.edge_weight, alone.edge_weight)
    assert torch.equal(together.discarded_mass, alone.discarded_mass)


def test_one_long_row_among_short_ones():
    """A table of its rows would be mostly empty."""
    n = 200
    source = torch.cat([torch.arange(n), torch.zeros(n - 1, dtype=torch.long)])
    target = torch.cat([torch.full((n,), n - 1), torch.arange(n - 1)])
    weight = torch.rand(2 * n - 1, generator=torch.Generator().manual_seed(0))
    data = Data(
        edge_index=torch.stack([source, target]), edge_weight=weight,
        num_nodes=n,
    )  # fmt: skip
    kept = sparsify(data, top_k=3)
    assert kept.num_edges == 3 + n - 1
    heaviest = weight[:n].topk(3).indices.sort().values
    assert torch.equal(kept.edge_index[0, -3:], heaviest)


def test_ties_go_to_the_smaller_source():
    data = from_attention(torch.full((4, 4), 0.25))
    out = sparsify(data, top_k=2)
    assert out.edge_index[0].tolist() == [0, 1] * 4
    assert sparsify(data, top_p=0.5).edge_index[0].tolist() == [0, 1] * 4


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('p', [0.7, 0.8, 0.9])
def test_top_p_is_reached_on_paper(dtype, p):
    # 0.7, 0.1 and 0.1 are rounded, down or up; each set ends on p.
    A = torch.zeros(4, 4, dtype=dtype)
    A[3] = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=dtype)
    count = round(10 * p) - 6
    assert sparsify(from_attention(A), top_p=p).num_edges == count


def test_top_p_of_one_keeps_the_smallest_weight():
    # In float64 one plus 1e-9 is not one, in float32 it is.
    A = torch.tensor([[0.0, 0.0], [1.0, 1e-9]])
    assert sparsify(from_attention(A), top_p=1).num_edges == 2
    assert sparsify(from_attention(A), top_p=0.999).num_edges == 1


def test_top_p_does_not_drift_over_many_rows():
    n, width = 3000, 7
    target = torch.arange(n).repeat_interleave(width)
    source = torch.arange(width).repeat(n)
    data = Data(
        edge_index=torch.stack([source, target]),
        edge_weight=torch.full((n * width,), 0.1, dtype=torch.float64),
        num_nodes=n,
    )
    out = sparsify(data, top_p=3 / 7)
    assert out.num_edges == 3 * n


def test_threshold_keeps_the_heaviest_edge():
    A = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.5, 0.3]])
    out = sparsify(from_attention(A), threshold=0.9)
    assert out.edge_index.tolist() == [[0, 0, 1], [0, 1, 2]]
    assert out.discarded_mass.tolist() == pytest.approx([0.0, 0.5, 0.5])


def test_every_edge_attribute_follows():
    data = from_attention(torch.rand(3, 5, 5).tril() + torch.eye(5))
    data.edge_label = torch.arange(data.num_edges)
    data.x = torch.rand(5, 2)
    out = sparsify(data, top_k=2)
    assert torch.equal(out.edge_attr, data.edge_attr[out.edge_label])
    assert torch.equal(out.edge_weight, data.edge_weight[out.edge_label])
    assert torch.equal(out.edge_index, data.edge_index[:, out.edge_label])
    assert torch.equal(out.x, data.x)
    assert data.num_edges == 15
    assert 'discarded_mass' not in data


# renormalize


def leaky_attention(heads, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(heads, n, n, generator=generator)
    mask = torch.ones(n, n, dtype=torch.bool).triu(1)
    A = logits.masked_fill(mask, float('-inf')).softmax(dim=-1)
    leak = torch.rand(heads, n, 1, generator=generator)
    return A * (1 - leak / 2)


def test_renormalize_restores_the_mass_of_each_row():
    A = leaky_attention(1, 9)[0]
    data = from_attention(A)
    out = sparsify(data, top_k=3, renormalize=True)
    plain = sparsify(data, top_k=3)
    # Sums of nine float32 numbers near one.
    tolerance = {'rtol': 0, 'atol': 1e-6}
    kept = to_attention(plain)
    assert torch.allclose(to_attention(out).sum(1), A.sum(1), **tolerance)
    expected = kept * (A.sum(1) / kept.sum(1))[:, None]
    assert torch.allclose(to_attention(out), expected, **tolerance)
    assert torch.equal(out.discarded_mass, plain.discarded_mass)
    assert (out.discarded_mass[3:] > 0).all()


def test_renormalize_per_head_is_a_masked_softmax():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 7, 7, generator=generator)
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    A = logits.masked_fill(hidden, float('-inf')).softmax(dim=-1)
    out = sparsify(from_attention(A), top_k=2, renormalize=True)
    kept = torch.zeros(7, 7, dtype=torch.bool)
    kept[out.edge_index[1], out.edge_index[0]] = True
    expected = logits.masked_fill(~kept, float('-inf')).softmax(dim=-1)
    # Two float32 softmaxes that round differently.
    assert torch.allclose(
        to_attention(out, per_head=True), expected, rtol=1e-5, atol=1e-7
    )
    assert torch.allclose(
        to_attention(out), expected.mean(0), rtol=1e-5, atol=1e-7
    )


def test_a_head_without_kept_mass_stays_empty():
    A = torch.zeros(2, 2, 2)
    A[:, 0, 0] = 1.0
    # Equal in the mean: the tie goes to token 0, which head 0 does not see.
    A[0, 1, 1] = A[1, 1, 0] = 1.0
    out = sparsify(from_attention(A), top_k=1, renormalize=True)
    assert out.edge_index.tolist() == [[0, 0], [0, 1]]
    assert out.edge_attr.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert out.edge_weight.tolist() == [1.0, 0.5]


def test_renormalize_takes_half_precision_heads():
    data = from_attention(leaky_attention(3, 7))
    data.edge_attr = data.edge_attr.bfloat16()
    out = sparsify(data, top_k=2, renormalize=True)
    assert out.edge_attr.dtype == out.edge_weight.dtype == torch.float32


def test_renormalize_refuses_a_weight_that_is_no_head_mean():
    data = from_attention(leaky_attention(3, 4))
    data.edge_weight = data.edge_attr.amax(dim=1)
    assert sparsify(data, top_k=2).num_edges == 7
    with pytest.raises(ValueError, match=r'mean of .edge_attr. over heads'):
        sparsify(data, top_k=2, renormalize=True)


# batches, gradients, errors


def test_the_graphs_of_a_batch_stay_apart():
    graphs = [from_attention(leaky_attention(2, n, seed=n)) for n in (3, 5)]
    out = sparsify(Batch.from_data_list(graphs), top_k=2, renormalize=True)
    assert validate(out, causal=True) is out
    for found, data in zip(out.to_data_list(), graphs, strict=True):
        expected = sparsify(data, top_k=2, renormalize=True)
        for name in ('edge_index', 'edge_weight', 'edge_attr'):
            assert torch.equal(found[name], expected[name])
        assert torch.equal(found.discarded_mass, expected.discarded_mass)


@pytest.mark.parametrize('renormalize', [False, True])
def test_gradients_reach_the_weights(renormalize):
    data = from_attention(leaky_attention(1, 5)[0].double())

    def kept(weight):
        copy = select_edges(data, torch.arange(data.num_edges))
        copy.edge_weight = weight
        out = sparsify(copy, top_k=2, renormalize=renormalize)
        return out.edge_weight, out.discarded_mass

    assert torch.autograd.gradcheck(kept, data.edge_weight.requires_grad_())


@pytest.mark.parametrize(
    ('rule', 'match'),
    [
        ({}, 'exactly one of'),
        ({'top_k': 1, 'top_p': 0.5}, 'exactly one of'),
        ({'top_k': 0}, "'top_k' to be at least 1"),
        ({'top_p': 0.0}, r"'top_p' to be in \(0, 1\]"),
        ({'top_p': 1.5}, r"'top_p' to be in \(0, 1\]"),
        ({'top_p': float('nan')}, r"'top_p' to be in \(0, 1\]"),
        ({'threshold': -0.1}, "'threshold' to be at least 0"),
        ({'threshold': float('nan')}, "'threshold' to be at least 0"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule, match):
    with pytest.raises(ValueError, match=match):
        sparsify(from_attention(torch.eye(3)), **rule)


def test_graphs_without_weights_or_with_signs_are_refused():
    with pytest.raises(ValueError, match="with 'edge_weight'"):
        sparsify(causal_graph(3), top_k=1)
    signed = from_attention(-torch.eye(3), weights='signed')
    with pytest.raises(ValueError, match='non-negative'):
        sparsify(signed, top_k=1)
    with pytest.raises(TypeError, match="'top_k' to be an integer"):
        sparsify(from_attention(torch.eye(3)), top_k=True)
