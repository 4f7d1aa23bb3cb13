"""The section says of every state what the diagnostics say of it."""

from __future__ import annotations

from typing import Any

import architectures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data

import gnnbridge as gb
from gnnbridge.diagnostics.oversmoothing import (
    dirichlet_energy,
    effective_rank,
    mean_cosine,
    rank_collapse,
    stable_rank,
)
from gnnbridge.models.ablation import ablated
from gnnbridge.models.stack import block_states
from gnnbridge.models.zoo.tiny import build as build_tiny
from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.sections.smoothing import Smoothing, uniform_energy
from gnnbridge.profiling.settings import ProfileSettings

GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [
    torch.randint(3, 60, shape, generator=GENERATOR)
    for shape in ((2, 20), (1, 20), (1, 9))
]
SEQUENCES = tuple(ids for batch in BATCHES for ids in batch)
KINDS = ('attention_only', 'no_residual', 'no_mlp')
MEASURES = {
    'effective_rank': effective_rank,
    'stable_rank': stable_rank,
    'rank_collapse': rank_collapse,
    'mean_cosine': mean_cosine,
}


def states_of(model: Any, ids: Tensor) -> list[Tensor]:
    return [x[0] for x in block_states(model, ids)]


def subject_of(model: Any) -> Subject:
    return Subject(model, None, ProfileSettings(), 3, True, SEQUENCES, True)


def measured(model: Any, *, outgoing: bool = True) -> Tally:
    """A tally of the corpus, read as the profile reads it."""
    tally = Tally()
    for ids in BATCHES:
        sampler = Smoothing().sampler(ProfileSettings())
        gb.capture(model, ids, device='cpu', on_layer=sampler.add)
        last = [states_of(model, x)[-1] for x in ids] if outgoing else []
        tally.add(sampler.result(last))
    return tally


def do_tasks(tally: Tally, subject: Subject) -> None:
    for task in Smoothing().tasks(subject):
        assert task.key.startswith('smoothing/')
        assert task.passes == 2 * (20 + 20)
        try:
            tally.add(task.run(subject))
        except NotImplementedError as refusal:
            tally.reasons[task.key] = str(refusal)


def uniform(size: int, causal: bool) -> Tensor:
    A = torch.ones(size, size)
    A = A.tril() if causal else A
    return A / A.sum(1, keepdim=True)


@pytest.mark.parametrize('name', ['llama', 'gpt2', 'gpt_oss', 'gpt_neox'])
def test_means_are_those_of_the_states(name: str) -> None:
    model = gb.convert(architectures.build(name))
    found = Smoothing().model(measured(model), subject_of(model))
    assert found is not None
    assert found['state'] == [
        'before layer 0',
        'before layer 1',
        'before layer 2',
        'after the last block',
    ]
    states = [states_of(model, ids) for ids in SEQUENCES]
    A = {n: uniform(n, True) for n in (20, 9)}

    def means(measure: Any) -> list[float]:
        rows = [[measure(x).item() for x in xs] for xs in states]
        return np.mean(rows, axis=0).tolist()

    expected = {
        **{key: means(measure) for key, measure in MEASURES.items()},
        **{
            f'{key}_centered': means(lambda x, m=m: m(x, centered=True))
            for key, m in MEASURES.items()
            if m is not rank_collapse
        },
        'dirichlet_uniform': means(
            lambda x: dirichlet_energy(x, A[len(x)], normalized=True)
        ),
    }
    for key, values in expected.items():
        # States of a batch and of a sequence by other kernels.
        assert found[key] == pytest.approx(values, rel=1e-3, abs=1e-4)
    graphs = [gb.capture(model, ids) for ids in SEQUENCES]
    energy = [dirichlet_energy(g, normalized=True).tolist() for g in graphs]
    mixing = [[g.mixing.mean().item() for g in gs] for gs in graphs]
    assert found['dirichlet_energy'][:3] == pytest.approx(
        np.mean(energy, axis=0), rel=1e-3
    )
    assert np.isnan(found['dirichlet_energy'][3])
    assert found['mixing'] == pytest.approx(np.mean(mixing, axis=0), rel=1e-3)


@pytest.mark.parametrize('name', ['llama', 'gemma2', 'mixtral'])
def test_ablations_are_those_of_the_ablated_model(name: str) -> None:
    model = gb.convert(architectures.build(name))
    tally, subject = measured(model), subject_of(model)
    found = Smoothing().model(tally, subject)
    assert found is not None
    assert found['ablations'] == dict.fromkeys(KINDS)
    do_tasks(tally, subject)
    found = Smoothing().model(tally, subject)
    assert found is not None
    assert found['ablation_reason'] is None
    for kind in KINDS:
        with ablated(model, kind):
            states = [states_of(model, ids) for ids in SEQUENCES[:2]]
        for key, measure in MEASURES.items():
            rows = [[measure(x).item() for x in xs] for xs in states]
            assert found['ablations'][kind][key] == (
                pytest.approx(np.mean(rows, axis=0))
            )


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('bert', 'BertLayer'),
        ('jamba', 'JambaMambaDecoderLayer'),
        ('bloom', 'BloomBlock'),
    ],
)
def test_refused_ablations_leave_the_states(name: str, reason: str) -> None:
    if name == 'bert':
        model = gb.convert(architectures.build(name))
    else:
        mode: Any = 'mask' if name == 'bloom' else 'messages'
        model = gb.convert(build_tiny(name), mode=mode)
    tally, subject = measured(model, outgoing=False), subject_of(model)
    do_tasks(tally, subject)
    found = Smoothing().model(tally, subject)
    assert found is not None
    assert reason in found['ablation_reason']
    assert found['ablations'] == dict.fromkeys(KINDS)
    layers = len(found['mixing'])
    assert len(found['state']) == len(found['effective_rank']) == layers + 1
    assert np.isnan(found['effective_rank'][-1])
    assert np.isfinite(found['effective_rank'][:-1]).all()


@pytest.mark.parametrize('name', ['gemma3n_text', 'hy_v4'])
def test_streams_of_several_vectors_are_left_out(name: str) -> None:
    model = gb.convert(build_tiny(name))
    tally = measured(model, outgoing=False)
    found = Smoothing().model(tally, subject_of(model))
    assert found is not None
    assert found['effective_rank'] is found['dirichlet_energy'] is None


def test_outgoing_states_of_another_form_are_left_out() -> None:
    model = gb.convert(architectures.build('llama'))
    sampler = Smoothing().sampler(ProfileSettings())
    gb.capture(model, BATCHES[0], on_layer=sampler.add)
    samples = sampler.result(list(torch.ones(20, 2, 32)))
    assert samples['smoothing/effective_rank'].shape == (2, 4)
    assert np.isnan(samples['smoothing/effective_rank'][:, 3]).all()


def test_half_precision_is_measured() -> None:
    model = gb.convert(architectures.build('llama').bfloat16())
    tally, subject = measured(model), subject_of(model)
    do_tasks(tally, subject)
    found = Smoothing().model(tally, subject)
    assert found is not None
    assert np.isfinite(found['effective_rank']).all()
    assert np.isfinite(found['ablations']['no_mlp']['stable_rank']).all()


def test_the_null_is_what_equal_tokens_give() -> None:
    null = Smoothing().null(Tally(), subject_of(None))
    x = torch.ones(5, 3)
    for name, measure in MEASURES.items():
        # Singular values of zero come out as rounding.
        assert measure(x).item() == pytest.approx(null[name], abs=1e-4)
    assert dirichlet_energy(x, uniform(5, True)).item() == 0
    assert null['dirichlet_energy'] == 0
    assert Smoothing().model(Tally(), subject_of(None)) is None


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    size=st.integers(1, 9),
    channels=st.integers(1, 5),
    seed=st.integers(0, 99),
    causal=st.booleans(),
    shift=st.floats(-1000, 1000),
)
def test_uniform_energy_is_the_dirichlet_energy_of_uniform_attention(
    size: int, channels: int, seed: int, causal: bool, shift: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, channels, generator=generator).double() + shift
    expected = dirichlet_energy(
        x, uniform(size, causal).double(), normalized=True
    )
    found = uniform_energy(x, causal=causal)
    # What is left of states 1000 times larger.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_uniform_energy_of_equal_and_of_zero_states() -> None:
    for x in (torch.zeros(4, 2), torch.full((4, 2), 0.1)):
        for causal in (True, False):
            assert uniform_energy(x, causal=causal).item() == (
                pytest.approx(0, abs=1e-30)
            )


def test_a_mean_operator_collapses_in_one_layer() -> None:
    """Through the sampler: token graphs whose states become equal."""
    sampler = Smoothing().sampler(ProfileSettings())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, generator=generator)
    edges = torch.ones(6, 6).nonzero().T.flip(0)
    weight = torch.full((36,), 1 / 6)
    for layer, states in enumerate((x, x.mean(0).expand(6, 4))):
        sampler.add(
            Data(x=states, edge_index=edges, edge_weight=weight, layer=layer)
        )
    tally = Tally()
    tally.add(sampler.result([x]))
    found = Smoothing().model(tally, subject_of(None))
    assert found is not None
    assert found['rank_collapse'][1] == pytest.approx(0, abs=1e-6)
    assert found['effective_rank_centered'][1] == 0
    assert found['mean_cosine'][1] == pytest.approx(1, abs=1e-6)
    # All tokens alike to all: both energies are the same.
    assert found['dirichlet_energy'][0] == pytest.approx(
        found['dirichlet_uniform'][0]
    )
    assert found['dirichlet_uniform'][0] == found['dirichlet_uniform'][2]
    assert found['mixing'] is None
