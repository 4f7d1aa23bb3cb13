import math

import numpy as np
import pytest
import torch
from tiny_decoder import tiny_decoder

from gnnbridge.models.convert import convert
from gnnbridge.profiling import measures as module
from gnnbridge.profiling.measures import Found, measure, uniform

IDS = torch.randint(0, 256, (1, 19), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def attention() -> np.ndarray:
    """The model's own attention ``[L, H, N, N]``, row = query."""
    model = tiny_decoder()
    model.set_attn_implementation('eager')
    with torch.no_grad():
        found = model(IDS, output_attentions=True).attentions
    return torch.stack(found)[:, 0].double().numpy()


@pytest.fixture(scope='module')
def found() -> Found:
    return measure(convert(tiny_decoder()), IDS, 11)


def test_sinks_and_entropy_are_those_of_the_models_own_attention(
    found: Found, attention: np.ndarray
) -> None:
    score = attention[:, :, :11, 0].mean(-1)
    logs = np.log(attention, where=attention > 0, out=np.zeros_like(attention))
    entropy = -(attention * logs).sum(-1).mean(-1)
    # Both runs are in float32.
    tight = {'rtol': 1e-4, 'atol': 1e-6}
    np.testing.assert_allclose(found.measures['sink_score'], score, **tight)
    np.testing.assert_allclose(found.measures['entropy'], entropy, **tight)
    rate = (score > 0.3).mean(-1)
    np.testing.assert_allclose(found.measures['sink_rate'], rate)


def test_states_are_those_that_enter_the_layers(found: Found) -> None:
    with torch.no_grad():
        states = tiny_decoder()(IDS, output_hidden_states=True).hidden_states
    for layer in range(2):
        x = states[layer][0].double().numpy()
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        cosine = (unit @ unit.T)[~np.eye(19, dtype=bool)].mean()
        sigma = np.linalg.svd(x, compute_uv=False)
        share = sigma / sigma.sum()
        rank = np.exp(-(share * np.log(share)).sum())
        measured = found.measures
        assert measured['mean_cosine'][layer] == pytest.approx(cosine, abs=1e-5)
        assert measured['effective_rank'][layer] == pytest.approx(
            rank, rel=1e-4
        )


def test_resistance_is_that_of_the_mean_attention(
    found: Found, attention: np.ndarray
) -> None:
    hops = sum(found.measures['mixing'])
    A = attention.mean((0, 1))
    follow = hops / (1 + hops)
    # Independent of the package: visits of the killed walk by inversion.
    visits = np.linalg.inv(np.eye(19) - follow * A)
    hit = visits / np.diag(visits)
    leave = 1 - follow * np.diag(A)
    conductance = leave[:, None] * hit
    resistance = found.resistance
    assert resistance is not None
    assert resistance['hops'] == hops
    np.testing.assert_allclose(
        resistance['last'][:-1], 1 / conductance[-1, :-1], rtol=1e-4
    )
    later = [1 / conductance[j + 1 :, j].mean() for j in range(18)]
    np.testing.assert_allclose(resistance['mean'][:-1], later, rtol=1e-4)
    # No token is later than the last, and it is not a source for itself.
    assert not np.isfinite(
        [resistance['last'][-1], resistance['mean'][-1]]
    ).any()


def test_drawn_edges_are_the_strongest_into_every_token(
    found: Found, attention: np.ndarray
) -> None:
    A = attention.mean(1)
    for layer, graph in enumerate(found.graphs):
        edges = {(j, i): weight for j, i, weight in graph['edges']}
        wanted = {}
        for i in range(19):
            others = [j for j in range(i)]
            best = sorted(others, key=lambda j: A[layer, i, j])[-2:]
            wanted.update({(j, i): A[layer, i, j] for j in best})
        assert edges == pytest.approx(wanted, abs=1e-5)
        assert graph['num_edges'] == 19 * 20 // 2
        assert graph['first_token_share'] == pytest.approx(
            A[layer, :, 0].mean(), abs=1e-5
        )
        assert graph['self_share'] == pytest.approx(
            np.trace(A[layer]) / 19, abs=1e-5
        )


def test_layers_are_captured_in_parts_when_they_are_large(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    capture = module.capture

    def counted(*args, layers: list[int], **options) -> list:
        seen.append(list(layers))
        return capture(*args, layers=layers, **options)

    monkeypatch.setattr(module, 'capture', counted)
    monkeypatch.setattr(module, '_CAPTURE_BYTES', 1)
    again = measure(convert(tiny_decoder()), IDS, 11)
    assert seen == [[0], [1]]
    assert again.measures.keys() == found.measures.keys()
    for name, values in again.measures.items():
        # A layer that is not captured runs on a kernel without weights: the
        # next one differs by float32 rounding.
        np.testing.assert_allclose(
            values, found.measures[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_uniform_attention_has_its_closed_forms(found: Found) -> None:
    null = uniform(found, 19, 11)
    harmonic = [sum(1 / i for i in range(1, n + 1)) / n for n in (11, 19)]
    assert null['name'] == 'uniform causal'
    # Float32 sums of at most 190 terms.
    assert null['sink_score'] == pytest.approx(harmonic[0], rel=1e-5)
    assert null['first_token_share'] == pytest.approx(harmonic[1], rel=1e-5)
    logs = [math.log(i) for i in range(1, 20)]
    assert null['entropy'] == pytest.approx(sum(logs) / 19, rel=1e-5)


def test_uniform_attention_of_an_encoder(found: Found) -> None:
    encoder = Found(found.measures, found.graphs, None, False, 24)
    null = uniform(encoder, 19, 11)
    assert null['name'] == 'uniform'
    assert null['sink_score'] == pytest.approx(1 / 19, rel=1e-5)
    assert null['entropy'] == pytest.approx(math.log(19), rel=1e-5)
    assert null['resistance'] is None
