import math
from typing import Any

import networkx as nx
import pytest
import torch
from attributed import (
    attributed,
    causal_data,
    check_aligned,
    edge_set,
    undirected_data,
)
from hypothesis import given, settings
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import GDC, Compose

from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.transforms.diffusion import Diffusion

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}
NORMALIZATIONS = ('sym', 'col', 'row')
METHODS: dict[str, dict[str, Any]] = {
    'ppr': {'alpha': 0.15},
    'heat': {'t': 5.0},
    'coeff': {'coefficients': [0.1, 0.2, 0.3, 0.4]},
}
# Without symmetries, so that no two entries are equal.
TIE_FREE = ('gnp-15', 'sparse-causal', 'gnp-9-dense')


def dense(data: Data, name: str = 'edge_weight') -> Tensor:
    """Row = source, as in PyG."""
    matrix = torch.zeros(data.num_nodes, data.num_nodes, dtype=torch.float64)
    place = tuple(data.edge_index)
    return matrix.index_put(place, data[name].double(), accumulate=True)


def transition(A: Tensor, normalization: str | None) -> Tensor:
    if normalization is None:
        return A
    degree = A.sum(1 if normalization == 'row' else 0)
    inverse = degree.where(degree > 0, math.inf).reciprocal()
    if normalization == 'sym':
        return inverse.sqrt()[:, None] * A * inverse.sqrt()
    return inverse[:, None] * A if normalization == 'row' else A * inverse


def by_definition(A: Tensor, method: str, options: dict[str, Any]) -> Tensor:
    """The sum of the paper, term by term."""
    alpha, t = options.get('alpha', 0.15), options.get('t', 5.0)
    power, total = torch.eye(len(A), dtype=A.dtype), torch.zeros_like(A)
    for k in range(400):  # 0.85^400 and 5^400 / 400! are below rounding.
        theta = alpha * (1 - alpha) ** k
        if method == 'heat':
            theta = math.exp(k * math.log(t) - t - math.lgamma(k + 1))
        if method == 'coeff':
            given = options['coefficients']
            theta = given[k] if k < len(given) else 0.0
        total += theta * power
        power = power @ A
    return total


def weighted(name: str) -> Data:
    graph = GRAPHS[name]
    data = attributed(edges_of(graph), graph.number_of_nodes())
    if not graph.is_directed():
        half = data.edge_weight[: data.edge_weight.numel() // 2]
        data.edge_weight = torch.cat([half, half])
    return data


@pytest.mark.parametrize(
    'name', ['karate', 'barbell-path', 'star', 'gnp-15', 'window-and-sink']
)
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_whole_matrix_is_the_sum_of_powers(
    name: str, method: str, normalization: Any
) -> None:
    data = weighted(name)
    out = Diffusion(
        method,  # type: ignore[arg-type]
        normalization_in=normalization,
        normalization_out=None,
        eps=0.0,
        self_loops=True,
        **METHODS[method],
    )(data)
    A = dense(data) + torch.eye(data.num_nodes, dtype=torch.float64)
    S = by_definition(transition(A, normalization), method, METHODS[method])
    # Sums of some hundred products.
    torch.testing.assert_close(dense(out), S, rtol=1e-11, atol=1e-14)
    assert torch.equal(dense(out) > 0, S > 0)


@pytest.mark.parametrize('name', GRAPHS)
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
    ('normalization_in', 'normalization_out'),
    [('sym', 'col'), ('col', None), ('row', 'row'), ('sym', 'sym')],
)
def test_values_are_those_of_gdc(
    name: str, method: str, normalization_in: Any, normalization_out: Any
) -> None:
    data = weighted(name)
    options = dict(METHODS[method])
    out = Diffusion(
        method,  # type: ignore[arg-type]
        normalization_in=normalization_in,
        normalization_out=normalization_out,
        eps=0.013,
        self_loops=True,
        **options,
    )(data)
    if 'coefficients' in options:
        options['coeffs'] = options.pop('coefficients')
    other = GDC(
        1.0,
        normalization_in,
        normalization_out,
        {'method': method, **options},
        {'method': 'threshold', 'eps': 0.013},
    )(_for_gdc(data))
    # GDC is in float32; without columns that sum to one, values exceed 1.
    torch.testing.assert_close(
        dense(out), dense(other, 'edge_attr'), rtol=2e-6, atol=1e-6
    )


@pytest.mark.parametrize('name', TIE_FREE)
@pytest.mark.parametrize(
    'sparsification',
    [
        {'avg_degree': 3},
        {'avg_degree': 5},
        {'k': 1, 'dim': 0},
        {'k': 3, 'dim': 0},
        {'k': 2, 'dim': 1},
    ],
)
def test_sparsification_is_that_of_gdc(
    name: str, sparsification: dict[str, int]
) -> None:
    data = weighted(name)
    out = Diffusion(self_loops=True, **sparsification)(data)  # type: ignore[arg-type]
    method = 'topk' if 'k' in sparsification else 'threshold'
    other = GDC(sparsification_kwargs={'method': method, **sparsification})(
        _for_gdc(data)
    )
    torch.testing.assert_close(
        dense(out), dense(other, 'edge_attr'), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize('name', ['karate', 'petersen', 'gnm-31'])
def test_defaults_are_those_of_gdc(name: str) -> None:
    graph = NETWORKS[name]
    edges, size = edges_of(graph), graph.number_of_nodes()
    data = Data(edge_index=edges, num_nodes=size)
    out, other = Diffusion()(data), GDC()(data.clone())
    # Less than 64 nodes: everything that is connected is kept.
    torch.testing.assert_close(
        dense(out), dense(other, 'edge_attr'), rtol=0, atol=1e-6
    )
    columns = dense(out).sum(0)
    # The weights are in float32.
    torch.testing.assert_close(
        columns, torch.ones_like(columns), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize('name', NETWORKS)
def test_average_degree_up_to_the_number_of_nodes(name: str) -> None:
    graph = NETWORKS[name]
    n, edges = graph.number_of_nodes(), edges_of(graph)
    for degree in (1, n - 1, n, n + 1, 64):
        changes = Diffusion(avg_degree=degree).plan(edges, num_nodes=n)
        out = changes.apply(Data(edge_index=edges, num_nodes=n))
        if degree >= n:
            assert out.edge_index.size(1) == n * n
        # Entries that tie on paper are kept together, those of an edge and
        # of its reverse among them: column sums are only divided by after.
        kept = edge_set(out.edge_index)
        assert all((v, u) in kept for u, v in kept)
        assert len(kept) >= min(degree * n, n * n)


def test_ties_of_the_heaviest_go_to_the_smallest() -> None:
    edges = edges_of(nx.complete_graph(5))
    out = Diffusion(k=2).plan(edges).apply(Data(edge_index=edges, num_nodes=5))
    # The largest entry of a column is its own; the others are equal.
    assert edge_set(out.edge_index) == {
        *((i, i) for i in range(5)),
        *((0, i) for i in range(1, 5)),
        (1, 0),
    }


def test_self_loops_of_causal_graphs_are_those_of_the_input() -> None:
    edges = torch.tensor([[0, 0, 1, 1, 3], [1, 2, 2, 1, 3]])
    data = Data(edge_index=edges, num_nodes=4)
    loops = {(1, 1), (3, 3)}
    out = Diffusion()(data)
    assert edge_set(out.edge_index) == {(0, 1), (0, 2), (1, 2), *loops}
    # The others share the weight of those that are left out.
    assert out.edge_weight[
        out.edge_index[1] == 2
    ].sum().item() == pytest.approx(1)
    everywhere = {(i, i) for i in range(4)}
    assert everywhere <= edge_set(Diffusion(self_loops=True)(data).edge_index)
    both = Data(edge_index=edges_of(NETWORKS['cycle-4']), num_nodes=4)
    assert everywhere <= edge_set(Diffusion()(both).edge_index)
    left = edge_set(Diffusion(self_loops=False)(both).edge_index)
    assert not everywhere & left


def test_attention_that_is_kept_has_rows_of_one() -> None:
    data = sliding_window_graph(40, 5, sinks=2)
    out = Diffusion(k=6)(data)
    row = torch.zeros(40).index_add(0, out.edge_index[1], out.edge_weight)
    torch.testing.assert_close(row, torch.ones(40))
    assert out.edge_index[0].le(out.edge_index[1]).all()


@PROPERTY
@given(causal_data())
def test_causal_graphs_stay_causal(data: Data) -> None:
    before = data.clone()
    out = Diffusion(avg_degree=3)(data)
    assert (out.edge_index[0] <= out.edge_index[1]).all()
    loops = out.edge_index[:, out.edge_index[0] == out.edge_index[1]]
    assert edge_set(loops) <= edge_set(data.edge_index)
    assert len(edge_set(out.edge_index)) == out.edge_index.size(1)
    check_aligned(data, out, reweighted=True)
    assert data.to_dict().keys() == before.to_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in data if torch.is_tensor(v))


@PROPERTY
@given(undirected_data())
def test_nothing_flows_between_parts(data: Data) -> None:
    graph = nx.Graph(data.edge_index.T.tolist())
    graph.add_nodes_from(range(data.num_nodes))
    for method, options in METHODS.items():
        out = Diffusion(method, **options)(data)  # type: ignore[arg-type]
        check_aligned(data, out, reweighted=True)
        for u, v in out.edge_index.T.tolist():
            assert nx.has_path(graph, u, v)


def test_repeated_edges_count_with_their_sum_and_share() -> None:
    once = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    twice = torch.cat([once, once[:, :2]], dim=1)
    weight = torch.tensor([3.0, 3.0, 1.0, 1.0])
    parts = torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    one = Diffusion()(Data(edge_index=once, edge_weight=weight, num_nodes=3))
    two = Diffusion()(Data(edge_index=twice, edge_weight=parts, num_nodes=3))
    torch.testing.assert_close(dense(one), dense(two))
    assert torch.equal(two.edge_weight[:2], two.edge_weight[4:6])


def test_weights_can_be_ignored() -> None:
    data = weighted('karate')
    plain = Data(edge_index=data.edge_index, num_nodes=data.num_nodes)
    one, two = Diffusion(weighted=False)(data), Diffusion()(plain)
    torch.testing.assert_close(one.edge_weight.float(), two.edge_weight)
    assert Diffusion(weighted=False).static
    assert not Diffusion().static


def test_without_added_self_loops() -> None:
    # 0 -> 1 alone: node 0 has no incoming weight, and takes no part.
    edges = torch.tensor([[0], [1]])
    out = Diffusion(
        self_loop_weight=None, normalization_out=None, self_loops=True
    ).plan(edges)
    assert out.added.tolist() == [[0, 1], [0, 1]]
    assert out.removed.tolist() == [[0], [1]]
    assert out.weight[out.is_added].tolist() == pytest.approx([0.15, 0.15])
    kept = Diffusion(
        self_loop_weight=0.0,
        normalization_in='col',
        normalization_out=None,
        self_loops=False,
    ).plan(edges)
    # alpha (1 - alpha) on the one path there is.
    assert kept.kept_weight.tolist() == pytest.approx([0.15 * 0.85])  # type: ignore[attr-defined]


@pytest.mark.parametrize('name', ['sparse-causal', 'gnp-15', 'tree'])
@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_nodes_without_incoming_weight(name: str, normalization: Any) -> None:
    data = weighted(name)
    options: dict[str, Any] = {
        'self_loop_weight': None,
        'normalization_in': normalization,
        'normalization_out': 'sym',
        'eps': 0.0,
        'self_loops': False,
    }
    out = Diffusion(**options)(data)
    S = by_definition(transition(dense(data), normalization), 'ppr', {})
    expected = transition(S.fill_diagonal_(0), 'sym')
    torch.testing.assert_close(dense(out), expected)
    pushed = Diffusion(exact=False, tolerance=1e-14, **options)(data)
    torch.testing.assert_close(dense(pushed), expected)


@pytest.mark.parametrize(
    'name', ['karate', 'gnm-31', 'gnp-15', 'tree', 'causal']
)
@pytest.mark.parametrize('normalization', NORMALIZATIONS)
def test_pushing_is_right_up_to_its_tolerance(
    name: str, normalization: Any
) -> None:
    data = weighted(name)
    A = dense(data) + torch.eye(data.num_nodes, dtype=torch.float64)
    S = by_definition(transition(A, normalization), 'ppr', {})
    degree = A.sum(1 if normalization == 'row' else 0)
    relative = degree / A[A > 0].mean()
    for tolerance in (1e-2, 1e-4):
        out = Diffusion(
            exact=False,
            tolerance=tolerance,
            normalization_in=normalization,
            normalization_out=None,
            eps=0.0,
            self_loops=True,
        )(data)
        # What is left at each place goes on as the exact walk does.
        bound = tolerance * relative[:, None] * torch.ones_like(A)
        if GRAPHS[name].is_directed():
            walk = by_definition(
                transition(A, 'row' if normalization == 'row' else 'col'),
                'ppr',
                {},
            )
            walk = walk if normalization == 'row' else walk.T
            bound = (tolerance * relative @ walk)[:, None] + 0 * A
        if normalization == 'row':
            bound = bound.T
        if normalization == 'sym':
            bound = bound * (degree / degree[:, None]).sqrt()
        error = S - dense(out)
        assert (error >= -1e-14).all()
        assert (error <= bound + 1e-14).all()


def test_pushing_to_the_end_is_exact() -> None:
    data = weighted('karate')
    options: dict[str, Any] = {'k': 5, 'normalization_in': 'col'}
    one = Diffusion(**options)(data)
    two = Diffusion(exact=False, tolerance=1e-12, **options)(data)
    assert torch.equal(one.edge_index, two.edge_index)
    torch.testing.assert_close(one.edge_weight, two.edge_weight)


def test_small_and_empty_graphs() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    for exact in (True, False):
        single = Diffusion(exact=exact)(Data(edge_index=none, num_nodes=1))
        assert single.edge_index.tolist() == [[], []]
        assert single.edge_weight.tolist() == []
        loops = Diffusion(exact=exact, causal=False)(
            Data(edge_index=none, num_nodes=3)
        )
        assert loops.edge_index.tolist() == [[0, 1, 2], [0, 1, 2]]
        assert loops.edge_weight.tolist() == pytest.approx([1, 1, 1])
        assert loops.edge_type.tolist() == [1, 1, 1]


def test_batches_and_pipelines() -> None:
    data = [weighted(name) for name in ('cycle-5', 'gnm-31')]
    transform = Compose([Diffusion(k=3)])
    batch = transform(Batch.from_data_list(data))
    for one, graph in zip(batch.to_data_list(), data, strict=True):
        expected = transform(graph)
        assert torch.equal(one.edge_index, expected.edge_index)
        assert torch.equal(one.edge_weight, expected.edge_weight)


def test_plan_and_apply_are_the_transform() -> None:
    data = weighted('karate')
    transform = Diffusion(k=4)
    changes = transform.plan(data.edge_index, data.edge_weight, data.num_nodes)
    assert torch.equal(
        changes.apply(data).edge_weight, transform(data).edge_weight
    )
    assert changes.first(0).apply(data).edge_index.size(1) == data.num_edges
    assert changes.first(1) is changes
    other = data.clone()
    other.edge_index = torch.cat([other.edge_index, other.edge_index], dim=1)
    other.edge_weight = torch.cat([other.edge_weight, other.edge_weight])
    del other.edge_attr, other.edge_type
    with pytest.raises(ValueError, match='the changes were found for'):
        changes.apply(other)


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'method': 'pagerank'}, "'method'"),
        ({'normalization_in': None}, "'normalization_in'"),
        ({'normalization_out': 'both'}, "'normalization_out'"),
        ({'alpha': 0.0}, "'alpha'"),
        ({'alpha': 1.5}, "'alpha'"),
        ({'t': 0.0}, "'t'"),
        ({'tolerance': 0.0}, "'tolerance'"),
        ({'self_loop_weight': -1.0}, "'self_loop_weight'"),
        ({'eps': -1.0}, "'eps'"),
        ({'eps': 0.1, 'k': 2}, 'at most one'),
        ({'avg_degree': 0}, "'avg_degree'"),
        ({'k': 0}, "'k'"),
        ({'k': 1, 'dim': 2}, "'dim'"),
        ({'method': 'coeff'}, "'coefficients'"),
        ({'coefficients': [1.0]}, "'coefficients'"),
        ({'method': 'coeff', 'coefficients': [-1.0, 2.0]}, 'not negative'),
        ({'method': 'coeff', 'coefficients': [0.0]}, 'one of them positive'),
    ],
)
def test_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Diffusion(**options)


def test_only_pagerank_is_pushed() -> None:
    with pytest.raises(NotImplementedError, match='exact=True'):
        Diffusion('heat', exact=False)
    assert repr(Diffusion(k=3)).startswith("Diffusion(method='ppr', alpha=0.15")


def _for_gdc(data: Data) -> Data:
    return Data(
        edge_index=data.edge_index,
        edge_attr=data.edge_weight.float(),
        num_nodes=data.num_nodes,
    )
