"""What inserted tokens can be, and what is refused."""

from __future__ import annotations

from typing import Any

import architectures
import pytest
import torch

from gnnbridge.models.tokens.add import add_tokens, remove_tokens
from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.tokens.nodes import token_layout
from gnnbridge.models.tokens.settings import TokenSettings


# Gemma scales its embeddings behind the module, Gemma 3 within.
@pytest.mark.parametrize('name', ['llama', 'gemma2', 'gemma3', 'opt'])
def test_embeddings_start_as_asked(name):
    model = architectures.build(name)
    embedding = model.get_input_embeddings()
    every = embedding(torch.arange(embedding.weight.size(0))).detach()
    add_tokens(model, prepend=2, append=1, sink=[0, 3])
    tokens = tokens_of(model)
    assert tokens.pause.shape == (1, 32)
    mean = every.mean(0).expand(2, -1)
    assert torch.allclose(tokens.sink, mean, atol=1e-6)
    remove_tokens(model)
    pauses = []
    for seed in (0, 0, 1):
        add_tokens(
            model, prepend=30, append=10, sink=0, embedding='random',
            shared=False, seed=seed,
        )  # fmt: skip
        pauses.append(tokens_of(model).pause.detach())
        remove_tokens(model)
    assert pauses[0].shape == (40, 32)
    assert torch.equal(pauses[0], pauses[1])
    assert not torch.equal(pauses[0], pauses[2])
    ratio = pauses[0].std(0).mean() / every.std(0).mean()
    assert 0.8 < ratio < 1.2
    add_tokens(model, append=2, embedding=9)
    assert tokens_of(model).pause is None
    assert tokens_of(model).settings.ids == (9, 9)


def test_a_tensor_is_copied():
    value = torch.randn(1, 32)
    model = add_tokens(architectures.build('llama'), append=2, embedding=value)
    before = tokens_of(model).pause.clone()
    value.add_(1)
    assert torch.equal(tokens_of(model).pause, before)


def test_settings_survive_their_bytes():
    settings = TokenSettings(1, 2, (0, 'middle', -3), None, 7, False)
    assert TokenSettings.from_tensor(settings.to_tensor()) == settings
    assert settings.kinds == ('sink',) * 3 + ('prepend',) + ('append',) * 2
    assert settings.ids == (7, 7, 7, -1, -1, -1)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({'prepend': -1}, ValueError, "'prepend' to be a number of tokens"),
    ({'append': 1.5}, ValueError, "'append' to be a number of tokens"),
    ({'append': True}, ValueError, "'append' to be a number of tokens"),
    ({'sink': 'start'}, ValueError, "'sink' to be positions"),
    ({'sink': [0, 1.5]}, ValueError, "'sink' to be positions"),
    ({'sink': 128}, ValueError, 'fit the context of 128'),
    ({'sink': -128}, ValueError, 'fit the context of 128'),
    ({'prepend': 128}, ValueError, 'fit the context of 128'),
    ({'append': 1, 'embedding': 61}, ValueError, 'one of 61 tokens'),
    ({'append': 1, 'embedding': -1}, ValueError, 'one of 61 tokens'),
    ({'append': 1, 'embedding': 'zero'}, TypeError, "'mean', 'random'"),
    ({'append': 1, 'embedding': {'pauses': 1}}, ValueError, "'pauses'"),
    ({'append': 1, 'embedding': torch.ones(31)}, ValueError, r'or \[32\]'),
    ({'append': 1, 'embedding': torch.ones(2, 32)}, ValueError, r'\[1, 32\]'),
    (
        {'append': 1, 'embedding': torch.full((32,), torch.nan)},
        ValueError,
        'finite',
    ),
    ({'append': 1, 'embedding': 3, 'freeze': True}, ValueError, 'learned'),
    ({'freeze': True}, ValueError, 'learned tokens to train'),
]


@pytest.mark.parametrize(('options', 'error', 'message'), BAD)
def test_bad_options_are_refused_and_leave_no_trace(options, error, message):
    model = architectures.build('llama')
    with pytest.raises(error, match=message):
        add_tokens(model, **options)
    assert tokens_of(model) is None
    assert all(p.requires_grad for p in model.parameters())
    assert not any(
        m._forward_pre_hooks or m._forward_hooks for m in model.modules()
    )
    add_tokens(model, append=1)


def test_tokens_are_added_and_removed_once():
    model = add_tokens(architectures.build('llama'), append=1)
    with pytest.raises(ValueError, match='without inserted tokens'):
        add_tokens(model, append=1)
    remove_tokens(model)
    with pytest.raises(ValueError, match='with inserted tokens'):
        remove_tokens(model)
    with pytest.raises(ValueError, match='with inserted tokens'):
        token_layout(model, torch.ones(3, dtype=torch.long))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('bert', 'causal language model'),
        ('vit', 'causal language model'),
        ('t5', 'causal language model'),
        ('bart', 'causal language model'),
    ],
)
def test_models_that_are_no_causal_language_models_are_refused(name, message):
    model = architectures.build(name)
    with pytest.raises(NotImplementedError, match=message):
        add_tokens(model, append=1)
    with pytest.raises(TypeError, match='PreTrainedModel'):
        add_tokens(torch.nn.Linear(2, 2), append=1)


def test_calls_that_do_not_fit_are_refused():
    model = add_tokens(architectures.build('llama'), append=2, sink=[4, -5])
    ids = torch.full((2, 13), 3)
    padded = torch.ones_like(ids)
    padded[1, :9] = 0
    with pytest.raises(ValueError, match=r'at least 5 tokens.*4 in sequence 1'):
        model(ids, attention_mask=padded)
    with pytest.raises(ValueError, match=r'at least 5 tokens.*\(got 4'):
        model(ids, prompt_length=4)
    for bad in (0, 14, torch.tensor([9, 14])):
        with pytest.raises(ValueError, match='between 1 and the 13 tokens'):
            model(ids, prompt_length=bad)
    for bad in (torch.ones(3), torch.tensor([9.0, 9.0])):
        with pytest.raises(ValueError, match="'prompt_length' to be an int"):
            model(ids, prompt_length=bad)
    with pytest.raises(ValueError, match='shape of the tokens'):
        model(ids, labels=ids[:, 1:])
    with pytest.raises(ValueError, match='at most 128 tokens'):
        model(torch.full((1, 125), 3))
    model(torch.full((1, 124), 3))
    mask = torch.ones(2, 1, 13, 13, dtype=torch.bool)
    with pytest.raises(NotImplementedError, match="'attention_mask' of shape"):
        model(ids, attention_mask=mask)
    model(ids)  # errors leave nothing behind
