"""Inserted tokens enter a KV cache once, and generation equals one forward."""

from __future__ import annotations

import copy
from typing import Any

import architectures
import pytest
import torch
from inserted import REQUIRED
from torch import Tensor
from transformers import DynamicCache, StaticCache

from gnnbridge.models.tokens.add import add_tokens, remove_tokens
from gnnbridge.models.tokens.nodes import token_layout
from gnnbridge.models.zoo import tiny

# float32 on both sides, sums in another order; measured at most 2e-6.
TOLERANCE = 1e-5
NEW = 6
TOKENS: dict[str, Any] = {
    'prepend': 2,
    'append': 3,
    'sink': [0, 'middle', -2, 'end'],
}


def generate(model: Any, inputs: dict[str, Any], **options: Any) -> Any:
    return model.generate(
        **inputs,
        max_new_tokens=NEW,
        output_logits=True,
        return_dict_in_generate=True,
        **{'do_sample': False, **options},
    )


def batch(model: Any, *, padded: bool) -> dict[str, Any]:
    make = architectures.left_padded if padded else architectures.inputs_for
    return make(model)


def whole(out: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The sequences that were generated, as the inputs of one forward."""
    new = torch.ones(len(out.sequences), NEW, dtype=torch.long)
    mask = torch.cat([inputs['attention_mask'], new], dim=1)
    return {'input_ids': out.sequences, 'attention_mask': mask}


@pytest.mark.parametrize('padded', [True, False])
@pytest.mark.parametrize('name', [*REQUIRED, 'opt', 'mistral', 'deepseek_v2'])
def test_cached_generation_equals_one_forward(name, padded):
    model = architectures.build(name)
    add_tokens(model, embedding='random', shared=False, **TOKENS)
    inputs = batch(model, padded=padded)
    out = generate(model, inputs)
    prompts = inputs['attention_mask'].sum(1)
    with torch.no_grad():
        expected = model(**whole(out, inputs), prompt_length=prompts).logits
    expected = expected[:, 12:-1]
    found = torch.stack(out.logits, dim=1)
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()
    assert torch.equal(out.sequences[:, 13:], expected.argmax(-1))
    # They were generated from the prompt with its tokens.
    remove_tokens(model)
    plain = torch.stack(generate(model, inputs).logits, dim=1)
    assert (found - plain).abs().max() > 0.1


WAYS: dict[str, dict[str, Any]] = {
    'greedy': {},
    'beams': {'num_beams': 3},
    'beams_returned': {'num_beams': 4, 'num_return_sequences': 2},
    'samples': {'do_sample': True, 'num_return_sequences': 2, 'top_k': 20},
    'prompt_lookup': {'prompt_lookup_num_tokens': 3},
}


@pytest.mark.parametrize('way', list(WAYS))
@pytest.mark.parametrize('name', ['llama', 'gpt2', 'gemma2'])
def test_every_way_to_generate_equals_that_from_ids(name, way):
    model, plain = (architectures.build(name) for _ in range(2))
    add_tokens(model, embedding=5, **TOKENS)
    inputs = batch(model, padded=way != 'prompt_lookup')
    if way == 'prompt_lookup':
        inputs = {key: value[:1] for key, value in inputs.items()}
    layout = token_layout(model, **inputs)
    five = torch.full_like(inputs['input_ids'][:, :1], 5).expand(-1, 9)
    ids = layout.extend(five, inputs['input_ids'])
    with_ids = {'input_ids': ids, 'attention_mask': layout.real.long()}
    found, expected = [], []
    for one, given, out in (
        (model, inputs, found),
        (plain, with_ids, expected),
    ):
        torch.manual_seed(0)
        out.append(generate(one, given, **WAYS[way]).sequences[:, -NEW:])
    assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize('model_type', ['bloom', 'mpt'])
def test_models_without_positions_count_inserted_tokens_too(model_type):
    model, plain = (tiny.build(model_type) for _ in range(2))
    add_tokens(model, embedding=5, **TOKENS)
    inputs = architectures.left_padded(model)
    layout = token_layout(model, **inputs)
    five = torch.full_like(inputs['input_ids'][:, :1], 5).expand(-1, 9)
    with_ids = {
        'input_ids': layout.extend(five, inputs['input_ids']),
        'attention_mask': layout.real.long(),
    }
    found, expected = (
        generate(one, given, use_cache=True)
        for one, given in ((model, inputs), (plain, with_ids))
    )
    assert torch.equal(found.sequences[:, -NEW:], expected.sequences[:, -NEW:])
    logits = torch.stack(expected.logits)
    error = (torch.stack(found.logits) - logits).abs().max()
    assert error < TOLERANCE * logits.abs().max()


def step(model: Any, ids: Tensor, cache: Any, **options: Any) -> Any:
    with torch.no_grad():
        return model(ids, past_key_values=cache, use_cache=True, **options)


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
def test_a_cache_is_continued_by_hand(name):
    model = add_tokens(architectures.build(name), **TOKENS)
    inputs = architectures.left_padded(model)
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    prompts = mask[:, :8].sum(1)
    with torch.no_grad():
        expected = model(**inputs, prompt_length=prompts).logits
    first = step(model, ids[:, :8], None, attention_mask=mask[:, :8])
    cache = first.past_key_values
    assert cache.get_seq_length() == 8 + 9
    position = mask.cumsum(1) - 1
    second = step(
        model, ids[:, 8:10], copy.deepcopy(cache), attention_mask=mask[:, :10]
    )
    third = step(
        model,
        ids[:, 10:],
        second.past_key_values,
        attention_mask=mask,
        position_ids=position[:, 10:],
    )
    found = torch.cat([x.logits for x in (first, second, third)], dim=1)
    error = (found - expected)[mask.bool()].abs().max()
    assert error < TOLERANCE * expected.abs().max()


def test_a_cache_is_filled_in_place_and_reused_after_a_reset():
    model = add_tokens(architectures.build('llama'), **TOKENS)
    ids = architectures.inputs_for(model)['input_ids']
    cache = DynamicCache(config=model.config)
    first = step(model, ids, cache).logits
    assert cache.get_seq_length() == 22
    cache.reset()
    assert torch.equal(step(model, ids, cache).logits, first)


def test_a_conversation_goes_on_from_its_cache():
    model = add_tokens(architectures.build('llama'), **TOKENS)
    inputs = architectures.left_padded(model)
    out = generate(model, inputs)
    more = torch.full((2, 3), 7)
    mask = torch.cat([whole(out, inputs)['attention_mask'], more > 0], dim=1)
    cache = copy.deepcopy(out.past_key_values)
    # What was generated last is not in the cache yet.
    new = torch.cat([out.sequences[:, -1:], more], dim=1)
    again = model.generate(
        new, attention_mask=mask, past_key_values=cache, max_new_tokens=4,
        do_sample=False, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    ids = torch.cat([out.sequences, again.sequences[:, 1:]], dim=1)
    mask = torch.cat([mask, torch.ones(2, 4, dtype=torch.long)], dim=1)
    prompts = inputs['attention_mask'].sum(1)
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, prompt_length=prompts)
    expected = expected.logits[:, -5:-1]
    found = torch.stack(again.logits, dim=1)
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


def test_what_would_move_the_tokens_is_refused():
    model = add_tokens(architectures.build('llama'), append=2)
    inputs = architectures.inputs_for(model)
    with pytest.raises(NotImplementedError, match="'use_cache=False'"):
        generate(model, inputs, use_cache=False)
    with pytest.raises(NotImplementedError, match='read in one piece'):
        generate(model, inputs, prefill_chunk_size=6)
    with pytest.raises(NotImplementedError, match="'cache_implementation'"):
        generate(model, inputs, cache_implementation='static')
    cache = StaticCache(config=model.config, max_cache_len=40)
    with pytest.raises(NotImplementedError, match="'StaticCache'"):
        step(model, inputs['input_ids'], cache)


@pytest.mark.parametrize(
    'options', [{'use_cache': False}, {'prefill_chunk_size': 6}]
)
def test_tokens_before_the_prompt_do_not_move(options):
    model = add_tokens(architectures.build('llama'), prepend=2, sink=[0, 3])
    inputs = architectures.left_padded(model)
    inputs['attention_mask'][1, 2:] = 1
    expected = generate(model, inputs)
    found = generate(model, inputs, **options)
    assert torch.equal(found.sequences, expected.sequences)


def test_caches_and_calls_that_do_not_fit_are_refused():
    model, plain = (architectures.build('llama') for _ in range(2))
    add_tokens(model, prepend=2, append=1)
    ids = architectures.inputs_for(model)['input_ids']
    foreign = step(plain, ids, None).past_key_values
    with pytest.raises(ValueError, match='3 inserted tokens'):
        step(model, ids, foreign)
    cache = step(model, ids, None).past_key_values
    with pytest.raises(ValueError, match="'attention_mask' of shape"):
        step(model, ids[:, :1], cache, attention_mask=torch.ones_like(ids))
    with pytest.raises(ValueError, match="'prompt_length' with an empty"):
        step(model, ids[:, :1], cache, prompt_length=3)
    # generate() would cut off too much of ids that are in the cache already.
    longer = torch.cat([ids, ids[:, :5]], dim=1)
    padding = torch.ones_like(longer)
    for mask in (padding, padding.index_fill(1, torch.tensor([0]), 0)):
        with pytest.raises(ValueError, match='Pass the new tokens only'):
            model.generate(
                longer, attention_mask=mask, past_key_values=cache,
                max_new_tokens=2,
            )  # fmt: skip
    with pytest.raises(ValueError, match='at most 128 tokens'):
        step(model, torch.full((2, 113), 3), cache)


def test_a_model_without_end_dependent_tokens_runs_without_any_cache():
    model = add_tokens(architectures.build('gpt2'), prepend=2)
    inputs = architectures.left_padded(model)
    with torch.no_grad():
        one = model(**inputs, use_cache=False).logits
        other = model(**inputs, use_cache=True).logits
    assert torch.equal(one, other)


def test_a_failed_prefill_leaves_nothing_to_later_steps():
    model = add_tokens(architectures.build('llama'), **TOKENS)
    ids = architectures.inputs_for(model)['input_ids']
    cache = step(model, ids, None).past_key_values
    expected = step(model, ids[:, :1], copy.deepcopy(cache)).logits
    handle = model.model.norm.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(ids)
    handle.remove()
    assert torch.equal(step(model, ids[:, :1], cache).logits, expected)
