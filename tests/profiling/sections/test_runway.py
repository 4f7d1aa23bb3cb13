import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from tiny_decoder import byte_tokenizer, tiny_decoder
from torch import Tensor
from torch_geometric.data import Batch, Data

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.diagnostics.runway import (
    birth_influence,
    path_counts,
    runway_asymmetry,
)
from gnnbridge.graph.causal import causal_graph, complete_graph
from gnnbridge.graph.dense import from_attention, to_attention
from gnnbridge.models.capture import capture
from gnnbridge.models.loading import reinitialize
from gnnbridge.profiling.plain import plain
from gnnbridge.profiling.sampling import Samples, Subject, Tally
from gnnbridge.profiling.sections import runway
from gnnbridge.profiling.sections.runway import InfluenceSampler, Runway
from gnnbridge.profiling.settings import ProfileSettings
from gnnbridge.spectral.rollout import attention_rollout

SECTION = Runway()


def subject_of(model: Any = None, **changes: Any) -> Subject:
    settings = ProfileSettings(
        **{'pairs': 5, 'questions': 6, 'noise': (0.5, 2.0), **changes}
    )
    text = torch.tensor([256, *sample_text().encode()[:30]])
    model = tiny_decoder() if model is None else model
    return Subject(
        gb.convert(model), byte_tokenizer(), settings, 2, True, (text,), True
    )


def listened(model: Any, ids: Tensor) -> Samples:
    sampler = InfluenceSampler()
    capture(model, ids, device='cpu', on_layer=sampler.add)
    return sampler.result([])


def uniform(size: int, mixing: float | None) -> Data:
    graph = causal_graph(size)
    target = graph.edge_index[1]
    graph.edge_weight = 1 / torch.bincount(target)[target]
    if mixing is not None:
        graph.mixing = torch.full((size,), mixing)
    return graph


@pytest.mark.parametrize('name', ['llama', 'gpt_oss', 'gemma2'])
def test_rollout_and_received_attention_are_those_of_the_graphs(
    name: str,
) -> None:
    model = build(name)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(2, 61, (3, 17), generator=generator)
    samples = listened(model, ids)
    assert samples['runway/rollout/17'].shape == (3, 17)
    assert samples['runway/mixing'].shape == (3, 3)
    for row in range(3):
        graphs = capture(model, ids[row])
        A = torch.stack([to_attention(graph) for graph in graphs])
        mixing = torch.stack([graph.mixing for graph in graphs])
        last = attention_rollout(A, mixing)[-1]
        expected = (last / last.sum()).numpy()
        found = samples['runway/rollout/17'][row]
        # One product in float32, the other in float64.
        np.testing.assert_allclose(found, expected, atol=1e-6)
        received = A.sum((0, 1)) / A.sum()
        np.testing.assert_allclose(
            samples['runway/received_attention/17'][row], received, atol=1e-6
        )
        assert samples['runway/asymmetry/rollout'][row] == pytest.approx(
            runway_asymmetry(torch.from_numpy(found))
        )
        np.testing.assert_allclose(
            samples['runway/mixing'][row], mixing.mean(1), rtol=1e-5
        )


def test_uniform_attention_has_the_influence_at_birth() -> None:
    sampler = InfluenceSampler()
    shares = (0.3, 0.8, 0.5)
    for share in shares:
        sampler.add(
            Batch.from_data_list([uniform(40, share), uniform(25, share)])
        )
    samples = sampler.result([])
    for size in (40, 25):
        expected = birth_influence(size, 3, torch.tensor(shares))
        np.testing.assert_allclose(
            samples[f'runway/rollout/{size}'], expected[None], atol=1e-6
        )
        # Every query gives each of its sources the same.
        harmonic = [sum(1 / i for i in range(j, size + 1)) / size
                    for j in range(1, size + 1)]  # fmt: skip
        np.testing.assert_allclose(
            samples[f'runway/received_attention/{size}'][0],
            harmonic,
            atol=1e-6,
        )
    assert samples['runway/asymmetry/rollout'].shape == (2,)


def test_without_mixing_there_is_no_rollout() -> None:
    sampler = InfluenceSampler()
    sampler.add(uniform(12, 0.5))
    sampler.add(uniform(12, None))
    sampler.add(uniform(12, 0.5))
    samples = sampler.result([])
    assert 'runway/received_attention/12' in samples
    assert not [name for name in samples if 'rollout' in name]
    assert 'runway/mixing' not in samples
    tally = Tally()
    tally.add(samples)
    found = SECTION.model(tally, subject_of())
    assert found is not None
    assert found['influence']['rollout'] is None
    assert found['influence']['birth'] is None
    assert found['asymmetry']['rollout'] is None
    assert SECTION.null(tally, subject_of()) == {
        'birth': None,
        'asymmetry': None,
    }


def test_what_is_not_causal_is_refused() -> None:
    graph = complete_graph(5)
    graph.edge_weight = torch.full((25,), 0.2)
    with pytest.raises(NotImplementedError, match='causal model'):
        InfluenceSampler().add(graph)
    subject = dataclasses.replace(subject_of(), causal=False)
    with pytest.raises(NotImplementedError, match='causal model'):
        SECTION.tasks(subject)
    assert SECTION.model(Tally(), subject) is None


def test_a_source_out_of_reach_has_no_asymmetry() -> None:
    # Two layers of a window of two reach two tokens back.
    A = torch.eye(20) / 2 + torch.ones(20, 20).tril(-1).triu(-1) / 2
    A[0, 0] = 1
    sampler = InfluenceSampler()
    for _ in range(2):
        graph = from_attention(A)
        graph.mixing = torch.full((20,), 0.5)
        sampler.add(graph)
    tally = Tally()
    tally.add(sampler.result([]))
    found = plain(SECTION.model(tally, subject_of()))
    assert found['asymmetry']['rollout'] is None
    assert found['influence']['rollout'][:17] == [0.0] * 17


def test_curves_are_of_the_commonest_length() -> None:
    tally = Tally()
    for size, count in ((12, 2), (15, 3), (30, 1)):
        sampler = InfluenceSampler()
        for _ in range(2):
            sampler.add(Batch.from_data_list([uniform(size, 0.5)] * count))
        tally.add(sampler.result([]))
    # The longest of equally common ones.
    assert runway._commonest_length(tally.under('runway/')) == 15
    norms = np.array([[3.0, 1.0, np.nan, 4.0]])
    tally.add({'squashing/jacobian_last': norms})
    subject = subject_of()
    found = plain(SECTION.model(tally, subject))
    json.dumps(found, allow_nan=False)
    assert found['tokens'] == 15
    counts = path_counts(15, 2)
    assert found['path_count_log10'] == pytest.approx(
        [math.log10(count) for count in counts]
    )
    assert found['asymmetry']['path_count'] == pytest.approx(
        runway_asymmetry(counts)
    )
    assert found['influence']['jacobian'] == pytest.approx(
        [3 / 8, 1 / 8, 1 / 2]
    )
    assert found['asymmetry']['jacobian'] == pytest.approx(math.log(3))
    assert found['weakest_position']['jacobian'] == 1
    birth = birth_influence(15, 2, 0.5)
    assert found['influence']['birth'] == pytest.approx(birth.tolist())
    assert found['weakest_position']['birth'] == 13
    # Asymmetries are of all lengths: the mean of six sequences.
    each = [
        runway_asymmetry(birth_influence(size, 2, 0.5))
        for size in (12, 12, 15, 15, 15, 30)
    ]
    assert found['asymmetry']['rollout'] == pytest.approx(
        np.mean(each), abs=1e-4
    )
    assert found['asymmetry_deviation']['rollout'] == pytest.approx(
        np.std(each, ddof=1), abs=1e-4
    )
    null = SECTION.null(tally, subject)
    np.testing.assert_allclose(null['birth'], birth)
    assert null['asymmetry'] == pytest.approx(runway_asymmetry(birth))
    assert found['duplicate_key'] is None
    assert found['noise'] is None


def test_tasks_are_named_and_counted() -> None:
    subject = subject_of()
    tasks = SECTION.tasks(subject)
    assert [task.key for task in tasks] == [
        'runway/duplicate keys',
        'runway/noise 0.5',
        'runway/noise 2',
    ]
    # Behind the first token five bindings, and the key that is asked for;
    # then five questions with their answers.
    seen: list[int] = []
    handle = subject.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(
            kwargs['attention_mask'].numel()
        ),
        with_kwargs=True,
    )
    for task, tokens in zip(tasks, (18 * 12, 6 * 21, 6 * 21), strict=True):
        seen.clear()
        first, second = task.run(subject), task.run(subject)
        assert sum(seen) == 2 * tokens <= 2 * task.passes
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name])
    handle.remove()


def test_sections_of_small_models_are_plain() -> None:
    subject = subject_of()
    tally = Tally()
    tally.add(listened(subject.model, subject.sequences[0][None]))
    for task in SECTION.tasks(subject):
        tally.add(task.run(subject))
    found = plain(SECTION.model(tally, subject))
    json.dumps(found, allow_nan=False)
    both = found['duplicate_key']
    assert both['places'] == [0, 2, 4]
    assert set(both['preferred']) == {
        'first_last',
        'first_middle',
        'middle_last',
    }
    assert both['answered'] == 'the bound values'
    assert found['noise']['sigmas'] == [0.5, 2.0]
    assert np.shape(found['noise']['accuracy']) == (2, 5)
    assert len(found['noise']['spearman']) == 2
    assert found['noise']['chance'] == 0.2
    assert max(tally.count('runway/noise/accuracy').max(), 1) == 1


def test_the_embedded_model_prefers_what_came_first() -> None:
    model, tokenizer = gb.load_embedded()
    settings = ProfileSettings(questions=48, noise=(1.0,))
    ids = torch.tensor([256, 1, 2, 3])
    found = {}
    for name, own in (('trained', model), ('new', reinitialize(model))):
        subject = Subject(
            gb.convert(own), tokenizer, settings, 3, True, (ids,), True
        )
        tally = Tally()
        for task in SECTION.tasks(subject):
            tally.add(task.run(subject))
        found[name] = plain(SECTION.model(tally, subject))
    both = found['trained']['duplicate_key']
    assert both['answered'] == 'all tokens'
    assert both['answered_share'] > 0.9
    # Measured with 256 sequences each: 0.79 and 0.73.
    assert both['preferred']['first_last'] > 0.5
    assert both['preferred']['middle_last'] > 0.4
    noise = found['trained']['noise']
    # -0.96 over 768 questions for each place; some of it drowns in 48.
    assert noise['spearman'][0] < -0.5
    assert np.mean(noise['accuracy'][0]) > 0.6
    new = found['new']
    assert new['duplicate_key']['answered_share'] < 0.1
    assert np.mean(new['noise']['accuracy'][0]) < 0.1
