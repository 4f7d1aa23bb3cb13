import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from torch import Tensor

import gnnbridge as gb
from gnnbridge.diagnostics.jacobian import jacobian_norms
from gnnbridge.models.convert import converted, is_converted
from gnnbridge.models.loading import reinitialize
from gnnbridge.models.slots import self_attention_slots
from gnnbridge.models.stack import block_stack
from gnnbridge.models.zoo.tiny import build as build_tiny
from gnnbridge.profiling.assembling import assemble
from gnnbridge.profiling.plain import plain
from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.sections import squashing
from gnnbridge.profiling.sections.squashing import BOUNDS, Squashing
from gnnbridge.profiling.settings import ProfileSettings
from gnnbridge.profiling.work import sample_graphs

SECTION = Squashing()
GENERATOR = torch.Generator().manual_seed(0)
SEQUENCES = tuple(
    torch.randint(2, 61, (size,), generator=GENERATOR) for size in (18, 9, 20)
)
TOKENS, WIDTH = 16, 32
PROXIES = {
    'rollout',
    'path gains',
    'token visits V',
    'envelope h*',
    'conductance',
    'path count',
    'uniform rollout',
    '-distance',
}


def subject_of(model: Any, **changes: Any) -> Subject:
    settings = ProfileSettings(
        **{'jacobian_tokens': TOKENS, 'probes': 8, **changes}
    )
    layers = len(self_attention_slots(model))
    return Subject(model, None, settings, layers, True, SEQUENCES, True)


def measured(subject: Subject) -> Tally:
    tally = Tally()
    for ids in subject.sequences:
        samples, reasons = sample_graphs(subject, ids.unsqueeze(0), [SECTION])
        tally.add(samples)
        assert not reasons
    for task in SECTION.tasks(subject):
        assert task.passes > 0
        assert task.memory > 0
        try:
            tally.add(task.run(subject))
        except NotImplementedError as refusal:
            tally.reasons[task.key] = str(refusal)
    return tally


@pytest.fixture(scope='module')
def subject() -> Subject:
    return subject_of(gb.convert(build('llama')))


@pytest.fixture(scope='module')
def tally(subject: Subject) -> Tally:
    with pytest.MonkeyPatch.context() as patch:
        # Pairs are estimated, as those of more tokens are.
        patch.setattr('gnnbridge.diagnostics.jacobian._EXACT_PASSES', 0)
        return measured(subject)


@pytest.fixture(scope='module')
def model(tally: Tally, subject: Subject) -> dict[str, Any]:
    found = plain(SECTION.model(tally, subject))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope='module')
def whole() -> list[Tensor]:
    """All of the norms of both sequences, over the root of the width."""
    found = []
    with converted(build('llama')) as model:
        for ids in (SEQUENCES[0], SEQUENCES[2]):
            with block_stack(model, ids[:TOKENS]) as stack:
                norm = jacobian_norms(*stack, method='exact').norm
                found.append(norm / WIDTH**0.5)
    return found


def test_tasks_are_of_the_longest_sequences(subject: Subject) -> None:
    keys = [task.key for task in SECTION.tasks(subject)]
    assert keys == [
        f'squashing/{part} {number}'
        for number in (0, 1)
        for part in ('last receiver', 'bounds', 'pairs')
    ]
    sequences = squashing._sequences(subject)
    assert [len(ids) for ids in sequences] == [TOKENS, TOKENS]
    torch.testing.assert_close(sequences[1], SEQUENCES[2][:TOKENS])
    more = subject_of(subject.model, jacobian_sequences=3)
    assert [len(ids) for ids in squashing._sequences(more)] == [9, 9, 9]


def test_the_last_receiver_is_exact(
    model: dict[str, Any], tally: Tally, whole: list[Tensor]
) -> None:
    rows = torch.stack([norm[-1] for norm in whole])
    # A prefix and a whole, in float32.
    np.testing.assert_allclose(
        model['jacobian_last'], rows.mean(0), rtol=1e-4, atol=1e-6
    )
    deviation = tally.deviation('squashing/jacobian_last')
    np.testing.assert_allclose(deviation, rows.std(0), rtol=1e-3, atol=1e-5)
    assert model['tokens'] == TOKENS
    layers = np.array(model['jacobian_last_in_layer'])
    assert layers.shape == (3, TOKENS)
    means = torch.zeros(3, TOKENS).double()
    with converted(build('llama')) as decoder:
        for ids in (SEQUENCES[0], SEQUENCES[2]):
            for layer in range(3):
                with block_stack(
                    decoder, ids[:TOKENS], first=layer, last=layer + 1
                ) as stack:
                    norm = jacobian_norms(*stack, receivers=-1).norm[0]
                means[layer] += norm / WIDTH**0.5 / 2
    np.testing.assert_allclose(layers, means, rtol=1e-4, atol=1e-6)


def test_curves_of_all_pairs(
    model: dict[str, Any], whole: list[Tensor]
) -> None:
    by_distance = np.zeros(TOKENS)
    by_source = np.zeros(TOKENS - 1)
    logs = np.zeros((TOKENS, TOKENS))
    for norm in whole:
        N = norm.numpy()
        for k in range(TOKENS):
            square = [N[i, i - k] ** 2 for i in range(k, TOKENS)]
            by_distance[k] += np.mean(square) ** 0.5 / 2
        for j in range(TOKENS - 1):
            by_source[j] += np.mean(N[j + 1 :, j] ** 2) ** 0.5 / 2
        with np.errstate(divide='ignore'):
            logs += np.log10(N) / 2
    # Estimates of 8 probes: a few percent of each pair.
    np.testing.assert_allclose(
        model['jacobian_by_distance'], by_distance, rtol=0.1
    )
    np.testing.assert_allclose(model['jacobian_mean'][:-1], by_source, rtol=0.1)
    assert model['jacobian_mean'][-1] is None
    assert 0.01 < model['jacobian_error'] < 0.15
    # No more tokens than fit into the picture: a pixel is a pair.
    found = model['jacobian_map']
    for i in range(TOKENS):
        assert all(value is None for value in found[i][i + 1 :])
        np.testing.assert_allclose(
            found[i][: i + 1], logs[i, : i + 1], atol=0.1
        )


def test_the_picture_of_many_pairs() -> None:
    size = 100
    norm = np.tril(np.full((size, size), 10.0))
    norm[60, 30] = 0.0  # has no logarithm
    norm[99, 98] = 1000.0
    found = squashing._map(norm)
    assert found.shape == (48, 48)
    assert np.isnan(found[np.triu_indices(48, 1)]).all()
    lower = found[np.tril_indices(48)]
    assert (lower[:-1] == 1.0).all()
    # Three of the pairs of the last block of two to three tokens.
    assert 1.0 < found[47, 47] <= 3.0
    assert np.isfinite(lower).all()


def test_scores_and_bounds_stand_beside_the_norms(
    model: dict[str, Any],
) -> None:
    assert set(model['proxies']) == PROXIES
    for name, figures in model['proxies'].items():
        assert len(figures['last']) == TOKENS
        assert -1 <= figures['all'] <= 1
        assert -1 <= figures['per_receiver'] <= 1
        if name not in ('-distance', 'path count'):
            assert sum(figures['last']) == pytest.approx(1)
    proxies = model['proxies']
    assert proxies['path gains']['all'] > 0.85
    assert proxies['path gains']['all'] > proxies['uniform rollout']['all']
    assert proxies['-distance']['partial'] == pytest.approx(0, abs=1e-6)
    assert tuple(model['bounds']) == BOUNDS
    for figures in model['bounds'].values():
        assert figures['violations'] == 0
        assert figures['rigorous'] is True
        assert 0 < figures['least_log10'] <= min(figures['last']) + 1e-9
        assert figures['least_log10'] < figures['median_log10'] < 10
        assert figures['constant_log10'] > 0
    medians = [model['bounds'][name]['median_log10'] for name in BOUNDS[:3]]
    assert medians == sorted(medians)


def test_a_bound_that_fails_is_counted(
    monkeypatch: pytest.MonkeyPatch, subject: Subject
) -> None:
    usual = squashing._bounds_of
    monkeypatch.setattr(
        squashing,
        '_bounds_of',
        lambda c: {
            name: (bound - 20, constant)
            for name, (bound, constant) in usual(c).items()
        },
    )
    tally = Tally()
    for number in (0, 1):
        tally.add(squashing._bounds(number, subject))
    found = squashing._bound_figures(tally.under('squashing/'))
    for figures in found.values():
        assert figures['violations'] == 2 * TOKENS
        assert figures['least_log10'] < 0


def test_graphs_of_the_corpus(model: dict[str, Any]) -> None:
    assert model['resistance']['tokens'] == 20
    assert len(model['resistance']['last']) == 20
    reach = model['under_reach']
    assert reach['depth'] == 3
    assert reach['diameter'] == 1
    assert reach['unreachable_share'] == reach['beyond_depth_share'] == 0


def test_null(tally: Tally, subject: Subject, model: dict[str, Any]) -> None:
    null = plain(SECTION.null(tally, subject))
    assert isinstance(null, dict)
    assert sum(null['jacobian_last']) == pytest.approx(
        sum(model['jacobian_last'])
    )
    # Uniform attention: the first token counts most, but for the last.
    assert null['jacobian_last'][:-1] == sorted(
        null['jacobian_last'][:-1], reverse=True
    )
    assert null['resistance']['hops'] == pytest.approx(
        model['resistance']['hops']
    )


def test_the_baseline_is_another_model(subject: Subject) -> None:
    again = subject_of(gb.convert(reinitialize(build('llama'), seed=1)))
    task = SECTION.tasks(again)[0]
    found = task.run(again)['squashing/jacobian_last']
    same = SECTION.tasks(subject)[0].run(subject)['squashing/jacobian_last']
    assert not np.allclose(found, same, rtol=0.01)
    assert is_converted(subject.model)


@pytest.mark.parametrize('name', ['gpt2', 'gemma2', 'gpt_oss', 'qwen3'])
def test_other_decoders(name: str) -> None:
    check(build(name), {'gpt2'})


@pytest.mark.parametrize('name', ['jamba', 'bamba', 'bloom'])
def test_hybrids_and_attention_that_only_masks_reach(name: str) -> None:
    check(build_tiny(name), set())


def check(model: Any, known: set[str]) -> None:
    """All but bounds and gains is there, and says why these are not."""
    with converted(model, None):
        subject = subject_of(model, jacobian_sequences=1)
        tally = measured(subject)
        tally = Tally(
            {f'model/{key}': x for key, x in tally.moments.items()},
            {f'model/{key}': x for key, x in tally.reasons.items()},
        )
        section = assemble(SECTION, tally, subject, None)
    json.dumps(section, allow_nan=False)
    found = section['model']
    blocks = len(found['jacobian_last_in_layer'])
    assert blocks == model.config.num_hidden_layers
    assert all(math.isfinite(x) for x in found['jacobian_last'])
    if model.config.model_type in known:
        assert section['status'] == 'measured'
        assert set(found['proxies']) == PROXIES
        assert len(found['bounds']) == len(BOUNDS)
        return
    assert section['status'] == 'partly'
    assert len(section['reasons']) == 1
    assert section['reasons'][0].startswith('Expected a')
    assert set(found['proxies']) == PROXIES - {'path gains'}
    assert found['bounds'] == {}


def test_what_cannot_be_measured_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build('bert')
    subject = Subject(
        model, None, ProfileSettings(), 3, False, SEQUENCES, False
    )
    with pytest.raises(NotImplementedError, match='causal model'):
        SECTION.tasks(subject)
    with converted(model):
        _, reasons = sample_graphs(subject, SEQUENCES[0][None], [SECTION])
    assert 'tokens attend to later ones' in reasons['squashing']
    one = Subject(
        build('llama'), None, ProfileSettings(), 3, True,
        (SEQUENCES[0][:1],), True,
    )  # fmt: skip
    with pytest.raises(NotImplementedError, match='at least two tokens'):
        SECTION.tasks(one)
    with converted(build('llama')) as decoder:
        monkeypatch.setattr(squashing, '_MOST_WORK', 1e3)
        with pytest.raises(NotImplementedError, match="'jacobian_tokens'"):
            squashing._bounds(0, subject_of(decoder))
        assert is_converted(decoder)
    assert SECTION.model(Tally(), one) is None


def test_a_model_that_looks_at_all_keys_is_measured_as_a_whole(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = squashing._pairs(0, subject)

    def refuse(self: Any, length: int) -> Any:
        raise NotImplementedError('Expected a causal model.')

    monkeypatch.setattr('gnnbridge.models.stack.Stack.prefix', refuse)
    found = squashing._pairs(0, subject)
    np.testing.assert_allclose(
        found['squashing/jacobian_by_distance'],
        expected['squashing/jacobian_by_distance'],
        rtol=1e-4,
    )
