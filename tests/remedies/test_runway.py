"""Attention that knows of paths of two steps."""

from __future__ import annotations

import architectures
import pytest
import torch
from remedied import relative, tokens

import gnnbridge.remedies as R


def runway_model():
    return R.RunwayAware(1.5).apply(architectures.build('llama'))


def test_it_starts_as_the_identity_and_learns():
    remedy, ids = R.RunwayAware(), tokens()
    model = remedy.apply(architectures.build('llama'))
    model(ids, labels=ids).loss.backward()
    for parameter in remedy.parameters(model).values():
        assert (parameter == 0).all()
        assert (parameter.grad != 0).all()


def test_the_memory_is_that_of_the_cache():
    model, ids = runway_model(), tokens()
    with torch.no_grad():
        first = model(ids[:, :6], use_cache=True).past_key_values
        other = model(ids.flip(0)[:, :4], use_cache=True).past_key_values
        out = model(ids[:, 6:], past_key_values=first).logits
        model(ids.flip(0)[:, 4:], past_key_values=other)
    assert relative(out, model(ids).logits[:, 6:]) < 3e-6


def test_a_cache_of_another_past_is_refused():
    ids, plain = tokens(), architectures.build('llama')
    with torch.no_grad():
        cache = plain(ids[:, :5], use_cache=True).past_key_values
        R.RunwayAware(1.5).apply(plain)
        with pytest.raises(NotImplementedError, match='is not known'):
            plain(ids[:, 5:], past_key_values=cache)
        model = runway_model()
        cache = model(ids[:, :5], use_cache=True).past_key_values
        cache.reorder_cache(torch.tensor([1, 0]))
        with pytest.raises(NotImplementedError, match='only grown'):
            model(ids[:, 5:], past_key_values=cache)


def test_a_cache_that_was_filled_in_training_is_refused():
    model, ids = runway_model().train(), tokens()
    cache = model(ids[:, :5], use_cache=True).past_key_values
    with pytest.raises(NotImplementedError, match='evaluation mode'):
        model(ids[:, 5:], past_key_values=cache)


def test_windows_that_drop_keys_are_refused():
    model = R.RunwayAware(1.5).apply(architectures.build('mistral'))
    with pytest.raises(NotImplementedError, match='keeps all keys'):
        model.generate(tokens(), max_new_tokens=9, do_sample=False)
