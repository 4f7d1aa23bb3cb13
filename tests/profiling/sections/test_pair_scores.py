import math
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from scipy import stats
from torch import Tensor

import gnnbridge as gb
from gnnbridge.diagnostics.runway import path_counts
from gnnbridge.graph.dense import to_attention
from gnnbridge.models.capture import capture
from gnnbridge.models.convert import converted, is_converted
from gnnbridge.models.gains import path_gains
from gnnbridge.profiling.sampling import Subject
from gnnbridge.profiling.sections import pair_scores as module
from gnnbridge.profiling.sections.pair_scores import pair_scores, score_samples
from gnnbridge.profiling.settings import ProfileSettings
from gnnbridge.spectral import (
    attention_rollout,
    effective_resistance,
    envelope_hitting,
    layered_influence,
)

IDS = torch.randint(2, 61, (14,), generator=torch.Generator().manual_seed(0))


def scores_of(model: Any) -> dict[str, Tensor]:
    subject = Subject(model, None, ProfileSettings(), 3, True, (IDS,), True)
    return pair_scores(subject, IDS)


def test_scores_are_those_of_the_spectral_package() -> None:
    model = gb.convert(build('llama'))
    scores = scores_of(model)
    assert is_converted(model)
    graphs = capture(model, IDS)
    A = torch.stack([to_attention(graph).double() for graph in graphs])
    A = A / A.sum(-1, keepdim=True)
    mixing = torch.stack([graph.mixing.double() for graph in graphs])
    T, V = layered_influence(A, mixing)
    hops = float(mixing.mean(1).sum())
    uniform = torch.ones(14, 14).double().tril()
    uniform = uniform / uniform.sum(1, keepdim=True)
    expected = {
        'rollout': T,
        'token visits V': V,
        'conductance': effective_resistance(
            A.mean(0), hops=hops, conductance=True
        ),
        'uniform rollout': attention_rollout([uniform] * 3, mixing.mean(1)),
        'envelope h*': envelope_hitting(A),
        'path gains': path_gains(build('llama'), IDS[None]).rollout(),
    }
    for name, score in expected.items():
        # The gains of two runs in float32.
        torch.testing.assert_close(scores[name], score, rtol=1e-4, atol=1e-6)
    for i in range(14):
        for j in range(i + 1):
            count = path_counts(i - j + 1, 3)[0]
            assert scores['path count'][i, j] == pytest.approx(
                math.log10(count)
            )
            assert scores['-distance'][i, j] == j - i
    assert len(scores) == 8


@pytest.mark.parametrize('name', ['gpt_oss', 'gemma2'])
def test_other_blocks_have_no_gains(name: str) -> None:
    with converted(build(name)) as model:
        scores = scores_of(model)
        assert is_converted(model)
    assert 'path gains' not in scores
    assert len(scores) == 7
    # Of rows that sum to one, with learned sinks as well.
    torch.testing.assert_close(
        scores['rollout'].sum(1), torch.ones(14).double()
    )


def test_long_sequences_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = scores_of(build('llama'))['path gains']
    monkeypatch.setattr(module, '_EXACT', 10)
    drawn = scores_of(build('llama'))['path gains']
    below = torch.ones(14, 14).tril().bool()
    # 64 draws of the signs of a few strong paths.
    assert (drawn / exact)[below].log().abs().median() < 0.4
    order = stats.spearmanr(drawn[below], exact[below]).statistic
    assert 0.8 < order < 1


def test_layers_without_known_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*args: Any, **kwargs: Any) -> Any:
        graphs = capture(*args, **kwargs)
        del graphs[1].mixing
        return graphs

    monkeypatch.setattr(module, 'capture', without)
    scores = scores_of(build('gemma2'))
    assert set(scores) == {'envelope h*', 'path count', '-distance'}


def test_samples_of_scores() -> None:
    generator = np.random.default_rng(0)
    norm = np.tril(generator.random((14, 14)))
    score = torch.from_numpy(np.tril(norm + generator.random((14, 14))))
    found = score_samples({'rollout': score, '-distance': -score}, norm)
    row = found['squashing/proxy/rollout/last']
    assert row.shape == (1, 14)
    np.testing.assert_allclose(row[0], score[-1] / score[-1].sum())
    np.testing.assert_allclose(
        found['squashing/proxy/-distance/last'][0], -score[-1]
    )
    i, j = np.tril_indices(14, -1)
    i, j = i[j > 0], j[j > 0]
    expected = stats.spearmanr(score[i, j], norm[i, j]).statistic
    for name, sign in (('rollout', 1), ('-distance', -1)):
        all_pairs = found[f'squashing/proxy/{name}/all']
        np.testing.assert_allclose(all_pairs, [sign * expected])
        assert found[f'squashing/proxy/{name}/per_receiver'].shape == (1,)
        assert found[f'squashing/proxy/{name}/partial'].shape == (1,)
