"""Windows with sinks, for good."""

from __future__ import annotations

import architectures
import pytest
import torch
from remedied import relative, tokens

import gnnbridge as gb
import gnnbridge.remedies as R
import gnnbridge.transforms as T
from gnnbridge.graph import causal_graph, sliding_window_graph
from gnnbridge.remedies import window


def edges(graph):
    return set(map(tuple, graph.edge_index.T.tolist()))


@pytest.mark.parametrize(('width', 'sinks'), [(1, 0), (3, 1), (2, 4), (99, 0)])
def test_the_edges_are_those_of_the_paper(width, sinks):
    remedy, ids = R.WindowWithSinks(width, sinks), tokens(1)
    model = remedy.apply(architectures.build('llama'))
    expected = edges(sliding_window_graph(11, width, sinks))
    for graph in gb.capture(model, ids):
        assert edges(graph) == expected
    # The same numbers as by rewiring for the time being.
    with gb.rewire(
        architectures.build('llama'), sliding_window_graph(11, width, sinks)
    ) as rewired:
        out = rewired(ids).logits
    assert relative(model(ids).logits, out) < 1e-6


def test_long_sequences_are_listed(monkeypatch):
    ids = tokens(2, 40)
    model = R.WindowWithSinks(5, 2).apply(architectures.build('llama'))
    expected = model(ids).logits
    monkeypatch.setattr(window, '_SMALL', 0)
    window._known.clear()
    model = R.WindowWithSinks(5, 2).apply(architectures.build('llama'))
    assert relative(model(ids).logits, expected) < 1e-6


@pytest.mark.parametrize('architecture', ['llama', 'mistral', 'gemma2'])
def test_padding_is_no_sink(architecture):
    """Also where the model's own window has left the padding behind."""
    remedy = R.WindowWithSinks(3, 2)
    model = remedy.apply(architectures.build(architecture))
    ids = tokens(1, 7)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1)
    padded = torch.cat([padded, tokens(1, 10, 8)])
    mask = torch.ones_like(padded)
    mask[0, :3] = 0
    options = {'max_new_tokens': 12, 'do_sample': False}
    both = model.generate(padded, attention_mask=mask, **options)
    assert torch.equal(both[0, 3:], model.generate(ids, **options)[0])
    whole = both[1:]
    best = model(whole).logits.argmax(dim=-1)
    assert torch.equal(best[0, 9:-1], whole[0, 10:])


def test_windows_of_the_model_stay():
    model = architectures.build('mistral')
    own = [edges(graph) for graph in gb.capture(model, tokens(1))]
    R.WindowWithSinks(3, 1).apply(model)
    wanted = edges(sliding_window_graph(11, 3, 1))
    found = [edges(graph) for graph in gb.capture(model, tokens(1))]
    assert found == [one & wanted for one in own]


def test_a_rewiring_may_not_open_the_window():
    model = R.WindowWithSinks(3, 1).apply(architectures.build('llama'))
    with (
        gb.rewire(model, causal_graph(11)),
        pytest.raises(ValueError, match='that the mask of layer 0'),
    ):
        model(tokens(1))


def test_a_cache_of_another_past_is_refused():
    model, ids = architectures.build('llama'), tokens(2, 8)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with torch.no_grad():
        out = model(ids[:, :6], attention_mask=mask[:, :6], use_cache=True)
    R.WindowWithSinks(3, 1).apply(model)
    with pytest.raises(NotImplementedError, match='another past'):
        model(
            ids[:, 6:], attention_mask=mask, past_key_values=out.past_key_values
        )


@pytest.mark.parametrize('bad', [0, -1, 1.5, True])
def test_bad_windows(bad):
    with pytest.raises(ValueError, match="'window'"):
        R.WindowWithSinks(bad)
    with pytest.raises(ValueError, match="'sinks'"):
        R.WindowWithSinks(3, -1)


def test_keys_outside_of_the_window_are_no_padding():
    model, ids = architectures.build('llama'), tokens(1)
    R.WindowWithSinks(3, 0).apply(model)
    with torch.no_grad():
        cache = model(ids[:, :10], use_cache=True).past_key_values
        with gb.rewire(model, T.SlidingWindow(2)):
            out = model(ids[:, 10:], past_key_values=cache).logits
    assert relative(out[:, 0], model(ids).logits[:, -1]) > 1e-3
