"""Inserted tokens: outputs, losses and gradients are those made by hand."""

from __future__ import annotations

import copy
import io
from typing import Any

import architectures
import pytest
import torch
from inserted import REQUIRED, Places, by_hand, loss_by_hand
from torch import Tensor

from gnnbridge.models.loading import reinitialize
from gnnbridge.models.tokens.add import add_tokens, remove_tokens
from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.tokens.nodes import token_layout

# float32 on both sides, sums in another order; measured at most 4e-7.
TOLERANCE = 1e-5
VOCABULARY = 61
# Thirteen tokens, and nine of them in the padded sequence.
LENGTHS = [13, 9]


def close(found: Tensor, expected: Tensor) -> bool:
    scale = expected.abs().max()
    return bool((found - expected).abs().max() <= TOLERANCE * scale)


def drawn(rows: int, seed: int, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator) / 2


def real_rows(x: Tensor, mask: Tensor) -> list[Tensor]:
    return [row[m.bool()] for row, m in zip(x, mask, strict=True)]


@pytest.fixture(params=REQUIRED)
def name(request):
    return request.param


def with_tokens(
    name: str, *, seed: int = 0, **options: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """A model with tokens, the same without, and a padded batch."""
    model = architectures.build(name, seed)
    add_tokens(model, **options)
    return (
        model,
        architectures.build(name, seed),
        architectures.left_padded(model),
    )


def test_outputs_equal_those_of_embeddings_put_together_by_hand(name):
    pause, sink = drawn(5, 1), drawn(3, 2)
    model, plain, inputs = with_tokens(
        name,
        prepend=2,
        append=3,
        sink=[0, 4, 7],
        embedding={'pause': pause, 'sink': sink},
        shared=False,
    )
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    places = Places(2, 3, [0, 4, 7])
    expected = by_hand(plain, ids, mask, places, pause=pause, sink=sink)
    with torch.no_grad():
        found = model(**inputs).logits
        wanted = expected.logits(plain)
    assert found.shape == (2, 13, VOCABULARY)
    for one, other in zip(real_rows(found, mask), wanted, strict=True):
        assert close(one, other)
    # The tokens matter at all.
    assert not close(found, plain(**inputs).logits)


@pytest.mark.parametrize('how', ['prompt_length', 'labels'])
def test_losses_and_gradients_equal_those_made_by_hand(name, how):
    prompts = [6, 5]
    pause, sink = drawn(1, 1), drawn(1, 2)
    model, plain, inputs = with_tokens(
        name,
        prepend=2,
        append=3,
        sink=3,
        embedding={'pause': pause, 'sink': sink},
    )
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    labels = ids.masked_fill(mask == 0, -100)
    # transformers reads the prediction of a first token at the padding.
    labels[1, 4] = -100
    if how == 'labels':
        labels[0, :6] = labels[1, : 4 + 5] = -100
        loss = model(**inputs, labels=labels).loss
    else:
        length = torch.tensor(prompts)
        loss = model(**inputs, labels=labels, prompt_length=length).loss
    loss.backward()
    rows = real_rows(labels, mask)
    pause.requires_grad_(True)
    sink.requires_grad_(True)
    places = Places(2, 3, [3])
    expected = by_hand(
        plain, ids, mask, places, pause=pause, sink=sink, prompts=prompts
    )
    wanted = loss_by_hand(expected.logits(plain), rows)
    wanted.backward()
    assert close(loss, wanted)
    tokens = tokens_of(model)
    assert close(tokens.pause.grad, pause.grad)
    assert close(tokens.sink.grad, sink.grad)
    own = dict(plain.named_parameters())
    scale = max(p.grad.abs().max() for p in own.values() if p.grad is not None)
    for key, parameter in model.named_parameters():
        if key in own and own[key].grad is not None:
            error = (parameter.grad - own[key].grad).abs().max()
            assert error <= TOLERANCE * scale, key


def test_nothing_inserted_changes_no_bit(name):
    model, plain, inputs = with_tokens(name)
    with torch.no_grad():
        labels = inputs['input_ids']
        found, expected = (
            m(**inputs, labels=labels, use_cache=True) for m in (model, plain)
        )
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)
    options = {'max_new_tokens': 4, 'do_sample': False}
    assert torch.equal(
        model.generate(**inputs, **options), plain.generate(**inputs, **options)
    )
    with torch.no_grad():
        found = model(inputs['input_ids'], prompt_length=3).logits
    assert torch.equal(found, plain(inputs['input_ids']).logits)


def test_removing_restores_every_bit(name):
    model, plain, inputs = with_tokens(
        name, prepend=1, append=1, sink='middle', freeze=True
    )
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {key.rpartition('.')[2] for key in trained} == {'pause', 'sink'}
    assert remove_tokens(model) is model
    assert set(model.state_dict()) == set(plain.state_dict())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        found, expected = (m(**inputs).logits for m in (model, plain))
    assert torch.equal(found, expected)
    add_tokens(model, prepend=1)


def test_parameters_frozen_before_stay_so():
    model = architectures.build('llama')
    model.lm_head.weight.requires_grad_(False)
    remove_tokens(add_tokens(model, append=1, freeze=True))
    assert not model.lm_head.weight.requires_grad
    assert model.model.norm.weight.requires_grad


# Sinks as list.insert takes them: (position, its place among 13 and 9).
POSITIONS: list[tuple[Any, list[int]]] = [
    (0, [0, 0]),
    (5, [5, 5]),
    (9, [9, 9]),
    (-1, [12, 8]),
    (-9, [4, 0]),
    ('middle', [6, 4]),
    ('end', [13, 9]),
]


@pytest.mark.parametrize(('position', 'places'), POSITIONS)
@pytest.mark.parametrize('append', [0, 2])
def test_a_sink_stands_where_list_insert_would_put_it(position, places, append):
    sink = drawn(1, 3)
    model, plain, inputs = with_tokens(
        'llama',
        prepend=1,
        append=append,
        sink=position,
        embedding={'sink': sink, 'pause': sink + 1},
    )
    found = model(**inputs).logits
    for row, place in enumerate(places):
        real = inputs['attention_mask'][row].bool()
        ids = inputs['input_ids'][row, real].unsqueeze(0)
        expected = by_hand(
            plain,
            ids,
            torch.ones_like(ids),
            Places(1, append, [place]),
            pause=sink + 1,
            sink=sink,
        )
        assert close(found[row, real], expected.logits(plain)[0])


def test_rows_of_a_batch_padded_on_the_right_equal_the_rows_alone(name):
    model, _, inputs = with_tokens(
        name, prepend=1, append=2, sink='middle', embedding='random'
    )
    ids, mask = inputs['input_ids'].roll(-4, 1), torch.ones(2, 13).long()
    ids[0] = inputs['input_ids'][0]
    mask[1, 9:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :7] = labels[1, :4] = -100
    found = model(ids, attention_mask=mask, labels=labels)
    losses = []
    for row, size in enumerate(LENGTHS):
        alone = model(
            ids[row : row + 1, :size], labels=labels[row : row + 1, :size]
        )
        assert close(found.logits[row, :size], alone.logits[0])
        count = (labels[row, 1:size] != -100).sum()
        losses.append((alone.loss * count, count))
    total = sum(x for x, _ in losses) / sum(n for _, n in losses)
    assert close(found.loss, total)


def test_appended_tokens_leave_earlier_predictions_alone():
    model, plain, inputs = with_tokens('qwen3', append=3, embedding='random')
    found = model(**inputs, prompt_length=torch.tensor([8, 6])).logits
    inputs['position_ids'] = (inputs['attention_mask'].cumsum(1) - 1).clamp(0)
    expected = plain(**inputs).logits
    for row, (padding, prompt) in enumerate([(0, 8), (4, 6)]):
        last = padding + prompt - 1
        assert close(found[row, padding:last], expected[row, padding:last])
        assert not close(found[row, last], expected[row, last])
        assert not close(found[row, last + 1 :], expected[row, last + 1 :])


def test_a_loss_over_whole_sequences_does_not_see_appended_tokens():
    model, plain, inputs = with_tokens('llama', append=3, embedding='random')
    ids = inputs['input_ids'][:1]
    assert close(model(ids, labels=ids).loss, plain(ids, labels=ids).loss)
    model.train()
    with pytest.warns(UserWarning, match='learn nothing'):
        model(ids, labels=ids)


@pytest.mark.parametrize('form', ['dict', 'tuple'])
def test_all_positions_are_returned_on_demand(name, form):
    pause, sink = drawn(1, 1), drawn(1, 2)
    model, plain, inputs = with_tokens(
        name, prepend=1, append=2, sink=4, embedding={'pause': pause, 'sink': 7}
    )
    sink = plain.get_input_embeddings()(torch.tensor([7]))
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    expected = by_hand(
        plain, ids, mask, Places(1, 2, [4]), pause=pause, sink=sink
    )
    with torch.no_grad():
        out = model(**inputs, all_positions=True, return_dict=form == 'dict')
        wanted = plain(**expected.inputs).logits
    found = out[0]
    assert found.shape == (2, 17, VOCABULARY)
    layout = token_layout(model, ids, attention_mask=mask)
    assert torch.equal(layout.real, expected.inputs['attention_mask'].bool())
    assert close(found[layout.real], wanted[layout.real])
    kinds = {'sink': 'sink', 'prepend': 'pause', 'append': 'pause'}
    for row in range(2):
        slots = [
            expected.slot(row, what)
            for what in [('sink', 0), *[('pause', k) for k in range(3)]]
        ]
        assert layout.inserted[row].tolist() == slots
        nodes = layout.nodes(layout.inserted)[row].tolist()
        assert [expected.sequences[row][n][0] for n in nodes] == [
            kinds[kind] for kind in layout.kinds
        ]
    with pytest.raises(ValueError, match='all_positions'):
        model(**inputs, labels=ids, all_positions=True)


def test_logits_to_keep_counts_original_positions():
    model, _, inputs = with_tokens('llama', prepend=2, append=2, sink=-3)
    whole = model(**inputs).logits
    assert close(model(**inputs, logits_to_keep=4).logits, whole[:, -4:])
    out = model(**inputs, output_hidden_states=True)
    assert {x.size(1) for x in out.hidden_states} == {13 + 5}


def test_positions_and_embeddings_of_the_caller_are_extended():
    model, _, inputs = with_tokens('llama', prepend=2, append=1, sink=5)
    ids = inputs['input_ids'][:1]
    expected = model(ids).logits
    position = torch.arange(13).unsqueeze(0)
    # Rotation knows differences of positions only.
    assert close(model(ids, position_ids=position + 9).logits, expected)
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=embeds).logits, expected)
    packed = torch.cat([position[:, :6], position[:, :7]], dim=1)
    with pytest.raises(NotImplementedError, match='one sequence in each row'):
        model(ids, position_ids=packed)
    gpt2 = add_tokens(architectures.build('gpt2'), append=1)
    with pytest.raises(NotImplementedError, match='token_type_ids'):
        gpt2(ids, token_type_ids=ids)


def test_the_part_without_a_head_has_the_tokens_too():
    model, _, inputs = with_tokens('gpt2', prepend=2, append=2, sink='middle')
    states = model.transformer(**inputs, prompt_length=5).last_hidden_state
    expected = model(**inputs, prompt_length=5).logits
    assert close(model.lm_head(states), expected)
    alone = architectures.build('gpt2').transformer
    add_tokens(alone, prepend=2, append=2, sink='middle')
    found = alone(**inputs, prompt_length=5).last_hidden_state
    assert close(found, states)
    opt = add_tokens(architectures.build('opt'), append=2)
    found = opt.model(**inputs, prompt_length=5).last_hidden_state
    assert close(opt.lm_head(found), opt(**inputs, prompt_length=5).logits)


def test_copies_and_casts_of_a_model_have_their_tokens():
    model, _, inputs = with_tokens('llama', prepend=1, append=1, sink=0)
    before = model(**inputs).logits
    other = copy.deepcopy(model)
    assert torch.equal(other(**inputs).logits, before)
    with torch.no_grad():
        tokens_of(other).pause.add_(1)
    assert not close(other(**inputs).logits, before)
    assert torch.equal(model(**inputs).logits, before)
    remove_tokens(other)
    assert torch.equal(model(**inputs).logits, before)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    assert torch.equal(other(**inputs).logits, before)
    assert tokens_of(model.bfloat16()).sink.dtype == torch.bfloat16
    assert model(**inputs).logits.dtype == torch.bfloat16


@torch.no_grad()
def test_compiled_models_and_parts_give_the_same_outputs():
    model, _, inputs = with_tokens('llama', prepend=1, append=1, sink=0)
    expected = model(**inputs).logits
    after_five = model(**inputs, prompt_length=5).logits
    torch._dynamo.reset()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    assert torch.equal(compiled(**inputs).logits, expected)
    # What is asked of the whole model reaches a part that is compiled alone.
    model.model.compile(backend='eager')
    found = model(**inputs, prompt_length=5).logits
    assert torch.equal(found, after_five)


def test_a_reinitialised_model_has_the_tokens():
    model, _, inputs = with_tokens('llama', prepend=1, append=2, sink=-2)
    fresh = reinitialize(model, seed=3)
    assert tokens_of(fresh).settings == tokens_of(model).settings
    assert not torch.equal(tokens_of(fresh).pause, tokens_of(model).pause)
    assert fresh(**inputs, all_positions=True).logits.size(1) == 17


def test_an_error_inside_of_a_model_leaves_nothing_behind():
    model = add_tokens(architectures.build('llama'), append=2)
    ids = torch.full((2, 13), 3)
    expected = model.model(ids).last_hidden_state
    early = model.model.register_forward_pre_hook
    late = model.model.layers[0].register_forward_hook
    for register, options in ((early, {'prepend': True}), (late, {})):
        handle = register(lambda *_: 1 / 0, **options)
        with pytest.raises(ZeroDivisionError):
            model(ids, prompt_length=4)
        handle.remove()
        assert torch.equal(model.model(ids).last_hidden_state, expected)
