"""Pause and sink tokens by the interface of remedies."""

from __future__ import annotations

import architectures
import pytest
import torch
from remedied import tokens

import gnnbridge as gb
import gnnbridge.remedies as R


def test_they_are_those_of_add_tokens():
    ids = tokens()
    for remedy, options in (
        (
            R.PauseTokens(prepend=1, append=2, shared=False),
            {'prepend': 1, 'append': 2, 'shared': False},
        ),
        (R.SinkTokens(positions=(0, 'middle')), {'sink': [0, 'middle']}),
        (R.PauseTokens(embedding=7), {'append': 4, 'embedding': 7}),
    ):
        model = remedy.apply(architectures.build('llama'))
        expected = gb.add_tokens(architectures.build('llama'), **options)
        assert torch.equal(model(ids).logits, expected(ids).logits)


def test_appended_pauses_are_loaded(tmp_path):
    remedy = R.PauseTokens(prepend=1, append=3, embedding='random', seed=3)
    model, ids = remedy.apply(architectures.build('llama')), tokens()
    model.save_pretrained(tmp_path)
    loaded = R.load(tmp_path)
    assert R.applied(loaded) == [remedy]
    error = loaded(ids).logits - model(ids).logits
    assert error.abs().max() < 1e-5


def test_bad_settings():
    with pytest.raises(ValueError, match="'append'"):
        R.PauseTokens(append=-1)
    with pytest.raises(ValueError, match="'sink'"):
        R.SinkTokens(positions=('start',))
    with pytest.raises(ValueError, match="'embedding'"):
        R.PauseTokens(embedding='zeros')
    with pytest.raises(ValueError, match="'frozen'"):
        R.PauseTokens(embedding=3, frozen=True)
    model = gb.add_tokens(architectures.build('llama'), append=1)
    with pytest.raises(ValueError, match='without inserted tokens'):
        R.PauseTokens().apply(model)
    assert not R.applied(model)
