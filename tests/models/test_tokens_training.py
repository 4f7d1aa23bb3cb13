"""Inserted tokens learn, alone or with the model, under the Trainer too."""

from __future__ import annotations

from typing import Any

import architectures
import pytest
import torch
from inserted import REQUIRED

import gnnbridge as gb
from gnnbridge.models.tokens.add import add_tokens, remove_tokens
from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.training import Stream, StreamMixture, train

TOKENS: dict[str, Any] = {'prepend': 2, 'append': 2, 'sink': ['middle', 0]}
SETTINGS: dict[str, Any] = {
    'learning_rate': 3e-2,
    'lr_scheduler_type': 'constant',
    'logging_steps': 1000,
    'disable_tqdm': True,
    'save_steps': 3,
}


pytestmark = pytest.mark.usefixtures('quiet_transformers')


def answering(step, generator):
    """Six random tokens, and one answer whatever they are."""
    ids = torch.randint(2, 61, (4, 9), generator=generator)
    ids[:, 6:] = torch.tensor([11, 12, 13])
    labels = ids.clone()
    labels[:, :6] = -100
    return {'input_ids': ids, 'labels': labels}


def placed(step, generator):
    """Plain text, with tokens after a random part of it."""
    ids = torch.arange(10).expand(3, -1) + step % 7 + 2
    length = torch.randint(2, 9, (3,), generator=generator)
    return {'input_ids': ids, 'labels': ids, 'prompt_length': length}


def mixture():
    return StreamMixture(
        [Stream('answers', answering), Stream('text', placed, weight=0.5)], 0
    )


def loss_of(model):
    with torch.no_grad():
        batch = answering(0, torch.Generator().manual_seed(9))
        return float(model(**batch).loss)


def weights(model):
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def changed(model, before):
    return {n for n, p in model.named_parameters() if not p.equal(before[n])}


@pytest.mark.parametrize('name', REQUIRED)
def test_frozen_models_train_their_tokens_alone(name, tmp_path):
    model = architectures.build(name)
    add_tokens(model, freeze=True, **TOKENS)
    inputs = architectures.inputs_for(model)
    before, first = weights(model), loss_of(model)
    train(model, mixture(), tmp_path, steps=12, **SETTINGS)
    assert loss_of(model) < first - 0.3
    names = {name.rpartition('.')[2] for name in changed(model, before)}
    assert names == {'pause', 'sink'}
    remove_tokens(model)
    plain = architectures.build(name)
    assert torch.equal(model(**inputs).logits, plain(**inputs).logits)


def test_whole_models_train_with_their_tokens(tmp_path):
    model = add_tokens(architectures.build('llama'), **TOKENS)
    before, first = weights(model), loss_of(model)
    settings = {**SETTINGS, 'learning_rate': 3e-3}
    train(model, mixture(), tmp_path, steps=8, **settings)
    assert loss_of(model) < first - 1
    assert changed(model, before) == set(before)


@pytest.mark.parametrize('name', ['llama', 'gpt_neox'])
def test_a_killed_run_goes_on_with_the_tokens_it_had(name, tmp_path):
    def fresh():
        return add_tokens(architectures.build(name), freeze=True, **TOKENS)

    whole = train(fresh(), mixture(), tmp_path / 'a', steps=6, **SETTINGS)
    train(fresh(), mixture(), tmp_path / 'b', steps=3, **SETTINGS)
    resumed = train(fresh(), mixture(), tmp_path / 'b', steps=6, **SETTINGS)
    finished = train(fresh(), mixture(), tmp_path / 'b', steps=6, **SETTINGS)
    for kind in ('pause', 'sink'):
        expected = getattr(tokens_of(whole), kind)
        assert torch.equal(getattr(tokens_of(resumed), kind), expected)
        assert torch.equal(getattr(tokens_of(finished), kind), expected)
        assert not torch.equal(getattr(tokens_of(fresh()), kind), expected)


def test_converted_models_and_recomputed_layers_train_alike():
    batch = answering(0, torch.Generator().manual_seed(1))
    gradients = []
    for how in ('plain', 'converted', 'recomputed'):
        model = add_tokens(architectures.build('llama'), freeze=True, **TOKENS)
        model.train()
        if how == 'converted':
            gb.convert(model)
        if how == 'recomputed':
            model.activation_checkpointing_enable()
        model(**batch).loss.backward()
        gradients.append(tokens_of(model).pause.grad)
        assert tokens_of(model).sink.grad.abs().max() > 0
    scale = gradients[0].abs().max()
    for other in gradients[1:]:
        assert (other - gradients[0]).abs().max() < 1e-5 * scale


def test_tokens_of_the_vocabulary_train_as_the_vocabulary_does():
    model = add_tokens(architectures.build('llama'), append=2, embedding=60)
    batch = answering(0, torch.Generator().manual_seed(1))
    batch['input_ids'][batch['input_ids'] == 60] = 3
    model(**batch).loss.backward()
    gradient = model.model.embed_tokens.weight.grad
    assert gradient[60].abs().max() > 0
    assert gradient[59].abs().max() == 0 or (batch['input_ids'] == 59).any()
