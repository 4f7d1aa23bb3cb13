"""The section says of every sequence what the diagnostics say of it."""

from __future__ import annotations

from typing import Any

import architectures
import numpy as np
import pytest
import torch
from torch import Tensor

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.diagnostics.attention import (
    attention_entropy,
    sink_rate,
    sink_score,
    uniform_sink_score,
)
from gnnbridge.diagnostics.massive import massive_activations
from gnnbridge.diagnostics.sink_kinds import (
    key_norm_ratio,
    state_norm_ratio,
    value_norm_ratio,
)
from gnnbridge.diagnostics.sinks import (
    first_attention_rate,
    sink_edge_rate,
    sink_excess,
    sink_rates_by_token,
)
from gnnbridge.diagnostics.spread import (
    attention_span,
    inverse_participation,
    uniform_entropy,
    uniform_span,
)
from gnnbridge.graph.causal import causal_graph
from gnnbridge.models.loading import reinitialize
from gnnbridge.models.zoo.tiny import build as build_tiny
from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.sections.sinks import Sinks
from gnnbridge.profiling.settings import ProfileSettings

GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [
    torch.randint(3, 60, shape, generator=GENERATOR)
    for shape in ((2, 20), (1, 20), (1, 9))
]
TOKENS = 12


def subject_of(model: Any, causal: bool = True) -> Subject:
    return Subject(
        model, None, ProfileSettings(sink_tokens=TOKENS), 3, causal, (), True
    )


def measured(model: Any, batches: list[Tensor], tokens: int = TOKENS) -> Tally:
    tally, settings = Tally(), ProfileSettings(sink_tokens=tokens)
    for ids in batches:
        sampler = Sinks().sampler(settings)
        gb.capture(model, ids, values=True, device='cpu', on_layer=sampler.add)
        tally.add(sampler.result([]))
    return tally


def expected_of(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """One sequence by the functions, all layers at once."""
    graphs = gb.capture(model, ids, values=True)
    tokens = min(TOKENS, len(ids))
    return {
        'sink_score': sink_score(graphs, tokens=tokens),
        'sink_excess': sink_excess(graphs, tokens=tokens),
        'sink_rate': sink_rate(graphs, tokens=tokens),
        'sink_rate_strict': sink_rate(graphs, tokens=tokens, epsilon=0.8),
        'sink_edge_rate': sink_edge_rate(graphs, tokens=tokens),
        'first_attention_rate': first_attention_rate(graphs, tokens=tokens),
        'sink_rate_by_token': sink_rates_by_token(graphs, tokens=tokens).mean(
            0
        ),
        'first_token_share': sink_score(graphs, tokens=None).mean(1),
        'entropy': attention_entropy(graphs),
        'span': attention_span(graphs),
        'inverse_participation': inverse_participation(graphs),
        'value_norm_ratio': value_norm_ratio(graphs),
        'key_norm_ratio': key_norm_ratio(graphs),
        'query_key_cosine': torch.stack(
            [graph.query_key_cosine[1:].mean(0) for graph in graphs]
        ),
        'state_norm_ratio': state_norm_ratio(graphs),
        'massive_ratio': torch.tensor(
            [massive_activations(graph.x).ratio for graph in graphs]
        ),
        'massive_count': torch.tensor(
            [massive_activations(graph.x).count for graph in graphs]
        ),
    }


@pytest.mark.parametrize('name', ['llama', 'gpt2', 'gpt_oss', 'gemma2'])
def test_means_are_those_of_the_sequences(name: str) -> None:
    model = gb.convert(architectures.build(name))
    tally = measured(model, BATCHES)
    found = Sinks().model(tally, subject_of(model))
    assert found is not None
    parts = [expected_of(model, ids) for batch in BATCHES for ids in batch]
    for key in parts[0]:
        rows = [part[key].double().numpy() for part in parts]
        longest = max(len(row) for row in rows)
        # The shortest sequence has fewer tokens that could be sinks.
        padded = [
            np.pad(
                row,
                [(0, longest - len(row)), *[(0, 0)] * (row.ndim - 1)],
                constant_values=np.nan,
            )
            for row in rows
        ]
        np.testing.assert_allclose(
            np.array(found[key]),
            np.nanmean(padded, axis=0),
            # Weights of a batch and of a sequence by other kernels.
            rtol=1e-4,
            atol=1e-5,
            err_msg=key,
        )
    assert found['sink_tokens'] == TOKENS
    assert found['shorter_sequences'] == 1
    assert found['layer'] == [0, 1, 2]
    assert tally.count('sinks/sink_score').max() == 4
    assert len(found['head_kind'][0]) == 4


def test_the_null_is_uniform_attention_over_the_same_sequences() -> None:
    model = gb.convert(architectures.build('llama'))
    null = Sinks().null(measured(model, BATCHES), subject_of(model))
    sizes = [20, 20, 20, 9]
    harmonic = [uniform_sink_score(n) for n in sizes]
    score = [uniform_sink_score(min(n, TOKENS)) for n in sizes]
    assert null == pytest.approx(
        {
            'sink_score': np.mean(score),
            'first_token_share': np.mean(harmonic),
            'inverse_participation': np.mean(harmonic),
            'entropy': np.mean([uniform_entropy(n) for n in sizes]),
            'span': np.mean([uniform_span(n) for n in sizes]),
        }
    )
    # The same by attention that is uniform.
    sampler = Sinks().sampler(ProfileSettings(sink_tokens=TOKENS))
    graph = causal_graph(20)
    degree = torch.bincount(graph.edge_index[1])[graph.edge_index[1]]
    graph.edge_attr = (1 / degree).unsqueeze(1).expand(-1, 2)
    graph.layer = 0
    sampler.add(graph)
    tally = Tally()
    tally.add(sampler.result([]))
    found = Sinks().model(tally, subject_of(model))
    null = Sinks().null(tally, subject_of(model))
    assert found is not None
    for name in ('sink_score', 'entropy', 'span', 'inverse_participation'):
        assert found[name][0] == pytest.approx([null[name]] * 2)
    assert found['first_token_share'] == pytest.approx(
        [null['first_token_share']]
    )
    assert found['value_norm_ratio'] is found['massive_ratio'] is None
    assert found['head_kind'] == [['none', 'none']]


def test_attention_both_ways_is_measured_against_all_tokens() -> None:
    model = gb.convert(architectures.build('bert'))
    tally = measured(model, BATCHES)
    found = Sinks().model(tally, subject_of(model, causal=False))
    null = Sinks().null(tally, subject_of(model, causal=False))
    assert found is not None
    share = (3 / 20 + 1 / 9) / 4
    assert null['sink_score'] == pytest.approx(share)
    assert null['entropy'] == pytest.approx((3 * np.log(20) + np.log(9)) / 4)
    np.testing.assert_allclose(
        np.array(found['sink_excess']), np.array(found['sink_score']) - share
    )


def test_what_is_not_seen_is_left_out() -> None:
    model = gb.convert(build_tiny('bloom'), mode='mask')
    tally = measured(model, BATCHES)
    found = Sinks().model(tally, subject_of(model))
    assert found is not None
    assert found['value_norm_ratio'] is found['key_norm_ratio'] is None
    assert found['query_key_cosine'] is None
    assert found['state_norm_ratio'] is not None
    kinds = {kind for row in found['head_kind'] for kind in row}
    assert kinds <= {'none', 'unclear'}
    assert Sinks().model(Tally(), subject_of(model)) is None
    assert Sinks().tasks(subject_of(model)) == []


@pytest.mark.parametrize('name', ['jamba', 'gemma3n_text', 'hy_v4'])
def test_hybrids_and_other_streams(name: str) -> None:
    model = gb.convert(build_tiny(name))
    found = Sinks().model(measured(model, BATCHES), subject_of(model))
    assert found is not None
    assert len(found['layer']) == len(found['sink_score'])
    has_states = found['state_norm_ratio'] is not None
    assert has_states == (name == 'jamba')


def test_layers_may_differ_in_heads() -> None:
    sampler = Sinks().sampler(ProfileSettings(sink_tokens=4))
    for layer, heads in enumerate((2, 3)):
        graph = causal_graph(6)
        graph.layer = layer
        graph.edge_attr = torch.full((graph.num_edges, heads), 0.1)
        graph.value_norm = torch.ones(6, heads)
        graph.key_norm = torch.ones(6, heads)
        graph.query_key_cosine = torch.ones(6, heads)
        sampler.add(graph)
    tally = Tally()
    tally.add(sampler.result([]))
    found = Sinks().model(tally, subject_of(None))
    assert found is not None
    for name in ('sink_score', 'value_norm_ratio', 'head_kind', 'entropy'):
        assert [len(row) for row in found[name]] == [2, 3]


def test_the_embedded_model_has_its_sinks_at_the_first_token() -> None:
    model, tokenizer = gb.load_embedded()
    gb.convert(model)
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids[:, :256]
    found = Sinks().model(measured(model, [ids], 64), subject_of(model))
    assert found is not None
    assert max(found['sink_rate']) == 1
    by_token = found['sink_rate_by_token']
    assert by_token[0] == max(by_token) > 0.3
    layer = int(np.argmax(found['sink_rate']))
    assert 'none' not in found['head_kind'][layer]
    baseline = reinitialize(gb.restore(model))
    found = Sinks().model(measured(baseline, [ids], 64), subject_of(model))
    assert found is not None
    assert max(found['sink_rate']) == 0
    assert np.abs(found['sink_excess']).max() < 0.05
