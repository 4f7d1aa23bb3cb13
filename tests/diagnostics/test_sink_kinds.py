import math
from typing import Any

import architectures
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnnbridge.diagnostics.sink_kinds import (
    key_norm_ratio,
    sink_kind,
    state_norm_ratio,
    value_norm_ratio,
)
from gnnbridge.models.capture import capture


def graph_of(size: int, heads: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    return Data(
        edge_index=torch.empty(2, 0, dtype=torch.int64),
        value_norm=torch.rand(size, heads, generator=generator) + 0.1,
        key_norm=torch.rand(size, heads, generator=generator) + 0.1,
        x=torch.randn(size, 3, generator=generator),
        num_nodes=size,
    )


def by_loops(norms: Tensor, token: int) -> list[float]:
    rows = norms.tolist()
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return [a / b for a, b in zip(rows[token], means, strict=True)]


@pytest.mark.parametrize('token', [0, 3])
def test_ratios_equal_loops(token: int) -> None:
    graph = graph_of(6, 3, 0)
    for ratio, name in (
        (value_norm_ratio, 'value_norm'),
        (key_norm_ratio, 'key_norm'),
    ):
        expected = by_loops(graph[name], token)
        assert ratio(graph, token=token)[0].tolist() == pytest.approx(expected)
        assert ratio(graph[name], token=token).tolist() == (
            pytest.approx(expected)
        )
    norms = graph.x.square().sum(1, keepdim=True).sqrt()
    expected = by_loops(norms, token)
    assert state_norm_ratio(graph, token=token).tolist() == (
        pytest.approx(expected)
    )
    assert state_norm_ratio(graph.x, token=token).item() == (
        pytest.approx(expected[0])
    )


def test_batches_are_the_mean_of_the_ratios_of_their_sequences() -> None:
    graphs = [graph_of(size, 2, size) for size in (4, 7)]
    batch = Batch.from_data_list(graphs)
    for ratio in (value_norm_ratio, key_norm_ratio, state_norm_ratio):
        parts = torch.cat([ratio(graph) for graph in graphs])
        found = ratio([batch, batch])
        torch.testing.assert_close(found, parts.mean(0).expand_as(found))


def test_leading_dimensions_and_precision() -> None:
    norms = torch.rand(2, 5, 4, 3).half() + 1
    assert value_norm_ratio(norms).shape == (2, 5, 3)
    assert value_norm_ratio(norms).dtype == torch.float32
    assert state_norm_ratio(norms).shape == (2, 5)
    assert math.isnan(value_norm_ratio(torch.zeros(4, 1)).item())


def test_a_value_that_is_switched_off_has_ratio_zero() -> None:
    """On a model: a token whose embedding the value map does not see."""
    model = architectures.build('llama')
    ids = torch.arange(2, 12)
    layer = model.model.layers[0]
    with torch.no_grad():
        x = layer.input_layernorm(model.model.embed_tokens.weight[2])
        for weight in (layer.self_attn.v_proj.weight,):
            weight -= torch.outer(weight @ x, x) / x.square().sum()
    ratio = value_norm_ratio(capture(model, ids, values=True, layers=[0]))
    # float32 projections of norm one.
    assert ratio.max() < 1e-5


def test_kinds() -> None:
    assert sink_kind(0.3, 0.0) == 'none'
    assert sink_kind(0.31, 0.1) == 'no-op'
    assert sink_kind(0.31, 0.3) == 'unclear'
    assert sink_kind(0.9, 0.7) == 'unclear'
    assert sink_kind(0.9, 1.1) == 'broadcast'
    assert sink_kind(0.9, None) == 'unclear'
    assert sink_kind(0.9, math.nan) == 'unclear'
    assert sink_kind(math.nan, 0.1) == 'none'
    assert sink_kind(0.9, 0.25, no_op=0.2) == 'unclear'
    assert sink_kind(0.5, 0.6, epsilon=0.8) == 'none'
    assert sink_kind(0.5, 0.6, broadcast=0.5) == 'broadcast'
    with pytest.raises(ValueError, match="'no_op'"):
        sink_kind(0.5, 0.5, no_op=0.8)


@pytest.mark.parametrize('ratio', [value_norm_ratio, key_norm_ratio])
def test_input_that_does_not_fit(ratio: Any) -> None:
    graph = graph_of(4, 2, 1)
    with pytest.raises(ValueError, match='one of 4 tokens'):
        ratio(graph, token=4)
    with pytest.raises(ValueError, match='one of 4 tokens'):
        ratio(graph.value_norm, token=-1)
    with pytest.raises(ValueError, match=r'\[\.\.\., N, H\]'):
        ratio(torch.ones(3))
    with pytest.raises(TypeError, match='none'):
        ratio([])
    del graph.value_norm, graph.key_norm
    with pytest.raises(ValueError, match='_norm'):
        ratio(graph)
    with pytest.raises(ValueError, match='got'):
        ratio([graph_of(4, 2, 1), graph_of(4, 3, 1)])
