"""What the backend remembers: offsets of caches, pairs of masks."""

from __future__ import annotations

import copy

import architectures
import pytest
import torch
from transformers import DynamicCache, StaticCache

import gnnbridge as gb
from gnnbridge.models.pairs import mask_pairs
from gnnbridge.models.slots import Shared, self_attention_slots

CPU = torch.device('cpu')


def frames(name, make_cache):
    """Offsets of layer 1 at the steps of a run of 7 + 1 + 1 tokens."""
    model = gb.convert(architectures.build(name))
    slot = self_attention_slots(model, [1]).popitem()[1]
    seen = []

    def note(call, alpha):
        frame = call.slot.frame
        first = int(frame.first_query)
        seen.append((first, frame.first_key, call.shape[3]))

    slot.recorder = note
    cache = make_cache(model.config)
    ids = torch.arange(2, 11).unsqueeze(0)
    with torch.no_grad():
        for start, stop in ((0, 7), (7, 8), (8, 9)):
            model(ids[:, start:stop], past_key_values=cache)
    return seen


def test_a_dynamic_cache_grows():
    found = frames('llama', lambda config: DynamicCache(config=config))
    assert found == [(0, 0, 7), (7, 0, 8), (8, 0, 9)]


def test_a_static_cache_is_as_long_as_it_will_be():
    found = frames('llama', lambda c: StaticCache(config=c, max_cache_len=12))
    assert found == [(0, 0, 12), (7, 0, 12), (8, 0, 12)]


def test_a_sliding_cache_forgets_the_first_keys():
    # The window is 5: one new query and the four keys before it.
    found = frames('mistral', lambda config: DynamicCache(config=config))
    assert found == [(0, 0, 7), (7, 3, 5), (8, 4, 5)]


def test_pairs_are_found_for_the_same_unchanged_mask_only():
    shared, shape = Shared('Model'), (1, 1, 2, 2)
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    pairs = mask_pairs(mask, shape, causal=False, device=CPU)
    shared.remember(mask, (shape,), pairs)
    assert shared.cached(mask, (shape,)) is pairs
    assert shared.cached(mask.clone(), (shape,)) is None
    assert shared.cached(mask, ((1, 1, 2, 3),)) is None
    assert shared.cached(None, (shape,)) is None
    mask[0, 0, 0, 1] = False
    assert shared.cached(mask, (shape,)) is None
    shared.remember(mask, (shape,), pairs)
    # A mask that is gone is not taken for a missing one.
    del mask
    assert shared.cached(None, (shape,)) is None
    shared.remember(None, (shape,), pairs)
    assert shared.cached(None, (shape,)) is pairs
    assert copy.deepcopy(shared).cache == []


def test_inference_mode_is_allowed():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.inputs_for(model)
    with torch.no_grad():
        expected = model(**inputs)[0]
    with torch.inference_mode():
        assert torch.equal(model(**inputs)[0], expected)


def test_layers_are_counted_from_both_ends():
    model = gb.convert(architectures.build('llama'))

    def chosen(layers):
        return [s.layer for s in self_attention_slots(model, layers).values()]

    assert chosen(None) == [0, 1, 2]
    assert chosen([-1, 0]) == [0, 2]
    with pytest.raises(ValueError, match=r'\[0, 1, 2\]'):
        chosen([5])


def test_a_converted_model_refuses_other_attention():
    model = gb.convert(architectures.build('llama'))
    model.set_attn_implementation('sdpa')
    with pytest.raises(RuntimeError, match=r"on its graph \(got 'sdpa'"):
        model(torch.arange(2, 9).unsqueeze(0))
    gb.restore(model).set_attn_implementation('sdpa')
    assert model(torch.arange(2, 9).unsqueeze(0)).logits.isfinite().all()
