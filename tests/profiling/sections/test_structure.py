from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from torch_geometric.data import Batch, Data

from gnnbridge.diagnostics.reach import under_reach
from gnnbridge.graph.causal import (
    causal_graph,
    complete_graph,
    sliding_window_graph,
)
from gnnbridge.graph.dense import to_attention
from gnnbridge.models.capture import capture
from gnnbridge.profiling.sampling import Samples, Tally
from gnnbridge.profiling.sections.structure import (
    StructureSampler,
    structure_of,
    uniform_resistance,
)
from gnnbridge.spectral.resistance import effective_resistance

GENERATOR = torch.Generator().manual_seed(0)


def even(graph: Data, mixing: float | None = 0.5) -> Data:
    """Attention that is even over what each token sees."""
    target = graph.edge_index[1]
    graph.edge_weight = 1 / torch.bincount(target)[target]
    if mixing is not None:
        graph.mixing = torch.full((int(graph.num_nodes or 0),), mixing)
    return graph


def listened(layers: list[Data]) -> Samples:
    sampler = StructureSampler()
    for graph in layers:
        sampler.add(graph)
    return sampler.result([])


def tally_of(*batches: list[Data]) -> Tally:
    tally = Tally()
    for layers in batches:
        tally.add(listened(layers))
    return tally.under('squashing/')


@pytest.mark.parametrize('name', ['llama', 'gpt_oss', 'mistral'])
def test_curves_are_those_of_the_mean_attention(name: str) -> None:
    model = build(name)
    ids = torch.randint(2, 61, (2, 15), generator=GENERATOR)
    samples = listened(capture(model, ids, device='cpu'))
    for row in range(2):
        graphs = capture(model, ids[row])
        A = torch.stack([to_attention(graph).double() for graph in graphs])
        A = (A / A.sum(-1, keepdim=True)).mean(0)
        hops = sum(float(graph.mixing.mean()) for graph in graphs)
        R = effective_resistance(A, hops=hops)
        # Sums of layers in float32.
        np.testing.assert_allclose(
            samples['squashing/hops/15'][row], hops, rtol=1e-5
        )
        np.testing.assert_allclose(
            samples['squashing/resistance_last/15'][row, :-1],
            R[-1, :-1],
            rtol=1e-4,
        )
        mean = [1 / (1 / R[j + 1 :, j]).mean() for j in range(14)]
        np.testing.assert_allclose(
            samples['squashing/resistance_mean/15'][row, :-1], mean, rtol=1e-4
        )
        # Nobody is later than the last.
        assert np.isnan(samples['squashing/resistance_last/15'][row, -1])
        assert np.isnan(samples['squashing/resistance_mean/15'][row, -1])
        reach = under_reach(graphs)
        for what in ('depth', 'diameter', 'beyond_depth_share'):
            found = samples[f'squashing/{what}/15'][row]
            assert found == getattr(reach, what)


def test_curves_are_kept_by_length() -> None:
    short, long = even(causal_graph(5)), even(causal_graph(9))
    batch = Batch.from_data_list([short, long, short])
    own = tally_of([batch, batch], [long])
    found = structure_of(own)
    # Two of each: the longer.
    assert found['resistance']['tokens'] == 9
    assert found['resistance']['last'].shape == (9,)
    assert own.count('depth/5') == 2
    found = structure_of(tally_of([batch, batch]))
    assert found['under_reach']['tokens'] == 5
    assert found['under_reach']['depth'] == 2


def test_uniform_attention_is_its_own_null() -> None:
    own = tally_of([even(causal_graph(7), 0.4)] * 3)
    found = structure_of(own)['resistance']
    null = uniform_resistance(own)
    assert null is not None
    assert null['hops'] == found['hops'] == pytest.approx(1.2)
    for name in ('last', 'mean'):
        np.testing.assert_allclose(null[name], found[name], rtol=1e-6)


def test_windows_and_layers_without_known_mixing() -> None:
    layers = [even(sliding_window_graph(8, 3), None), even(causal_graph(8))]
    own = tally_of(layers)
    found: dict[str, Any] = structure_of(own)
    # Infinite depth, where the number of hops is not known.
    assert np.isnan(found['resistance']['hops'])
    A = (to_attention(layers[0]) + to_attention(layers[1])).double() / 2
    np.testing.assert_allclose(
        found['resistance']['last'][:-1],
        effective_resistance(A)[-1, :-1],
        rtol=1e-5,
    )
    assert found['under_reach']['beyond_depth_share'] == 0
    own = tally_of([even(sliding_window_graph(8, 3))])
    reach = structure_of(own)['under_reach']
    assert reach['beyond_depth_share'] == pytest.approx(15 / 28)
    assert reach['diameter'] == 4


def test_where_nothing_arrives_there_is_no_resistance() -> None:
    graph = even(causal_graph(4))
    kept = graph.edge_index[0] == graph.edge_index[1]
    graph.edge_weight = kept.float()
    own = tally_of([graph])
    assert np.isnan(structure_of(own)['resistance']['last']).all()
    assert structure_of(own)['under_reach']['unreachable_share'] == 1


def test_nothing_seen_and_nothing_causal() -> None:
    assert structure_of(Tally()) == {'resistance': None, 'under_reach': None}
    assert uniform_resistance(Tally()) is None
    with pytest.raises(NotImplementedError, match='causal'):
        StructureSampler().add(even(complete_graph(4)))
