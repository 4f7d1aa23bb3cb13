"""Architectures from before the attention interface: overridden, or masked."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformers as hf
from torch_geometric.data import Data

import gnnbridge as gb
from gnnbridge.graph import sliding_window_graph, to_attention
from gnnbridge.models.convert import conversion_mode
from gnnbridge.models.slots import slots_of
from gnnbridge.models.zoo.tiny import VOCABULARY, build

OVERRIDDEN = ['gptj', 'codegen', 'gpt_neo', 'openai-gpt']
MASKED = ['bloom', 'falcon', 'mpt', 'xglm', 'megatron-bert', 'xlnet']
# Those of them that understand a mask [B, 1, Q, K] given to the model.
FOUR_D = ['gptj', 'codegen', 'gpt_neo', 'falcon', 'mpt', 'xglm']
LENGTH, WINDOW = 11, 3
# Logits relative to the largest, float32: sums of some tens of products in
# another order.
TOLERANCE = 1e-5


def mode_of(name):
    return 'messages' if name in OVERRIDDEN else 'mask'


def ids_of(length=LENGTH):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, VOCABULARY, (2, length), generator=generator)


def error(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def window_mask(length):
    """The window as a mask that transformers adds to scores."""
    i = torch.arange(length)
    near = (i[:, None] >= i) & (i[:, None] - i < WINDOW)
    mask = torch.zeros(2, 1, length, length)
    return mask.masked_fill(~near, torch.finfo(torch.float32).min)


@pytest.mark.parametrize('name', OVERRIDDEN + MASKED)
@torch.no_grad()
def test_captured_attention_is_the_model_s_own(name):
    model = build(name)
    ids = ids_of()
    mask = torch.ones_like(ids)
    expected = model(
        ids, attention_mask=mask, output_attentions=True, return_dict=True
    ).attentions
    graphs = gb.capture(model, ids)
    assert conversion_mode(model) is None
    assert len(graphs) == len(expected) == 2
    for graph, attention in zip(graphs, expected, strict=True):
        for one, truth in zip(graph.to_data_list(), attention, strict=True):
            found = to_attention(one, per_head=True)
            # Scores that are not divided by a root (GPT-Neo) reach some tens:
            # rounding them changes a weight by as many times 1e-7.
            assert (found - truth).abs().max() < 4e-6


ENCODERS = {
    'DebertaV2Model': hf.DebertaV2Config, 'MPNetModel': hf.MPNetConfig,
    'IBertModel': hf.IBertConfig, 'UMT5EncoderModel': hf.UMT5Config,
}  # fmt: skip


@pytest.mark.parametrize('name', ENCODERS)
@torch.no_grad()
def test_encoders_are_captured_as_they_attend(name):
    sizes = {
        'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 4,
        'intermediate_size': 48, 'vocab_size': VOCABULARY,
    }  # fmt: skip
    if name == 'UMT5EncoderModel':
        sizes = {
            'd_model': 32, 'num_layers': 2, 'num_heads': 4, 'd_kv': 8,
            'd_ff': 48, 'vocab_size': VOCABULARY,
        }  # fmt: skip
    torch.manual_seed(0)
    model = getattr(hf, name)._from_config(
        ENCODERS[name](**sizes), attn_implementation='eager'
    ).eval()  # fmt: skip
    ids = ids_of(8)
    expected = model(ids, output_attentions=True).attentions
    graphs = gb.capture(model, ids)
    assert len(graphs) == len(expected) == 2
    for graph, attention in zip(graphs, expected, strict=True):
        for one, truth in zip(graph.to_data_list(), attention, strict=True):
            found = to_attention(one, per_head=True)
            assert (found - truth).abs().max() < 1e-6


@pytest.mark.parametrize('name', FOUR_D)
@torch.no_grad()
def test_a_rewired_model_equals_one_with_a_mask_for_all_layers(name):
    model, ids = build(name), ids_of()
    if name == 'gpt_neo':
        # Its second layer has a window of its own, of five tokens.
        assert model.config.window_size > WINDOW
    truth = model(ids, attention_mask=window_mask(LENGTH)).logits
    graph = sliding_window_graph(LENGTH, WINDOW)
    with gb.rewire(model, graph, mode=mode_of(name)):
        ours = model(ids, attention_mask=torch.ones_like(ids)).logits
    plain = model(ids, attention_mask=torch.ones_like(ids)).logits
    assert error(ours, truth) < TOLERANCE
    assert error(ours, plain) > 1e-2


@pytest.mark.parametrize('name', FOUR_D)
@torch.no_grad()
def test_generation_in_a_rewired_model_equals_full_passes(name):
    model, ids, new = build(name), ids_of(), 4

    def window(layer, data):
        source, target = data.edge_index
        data.edge_index = data.edge_index[:, target - source < WINDOW]
        return data

    truth = ids
    for _ in range(new):
        logits = model(
            truth, attention_mask=window_mask(truth.size(1)), use_cache=False
        ).logits
        truth = torch.cat([truth, logits[:, -1:].argmax(dim=-1)], dim=1)
    with gb.rewire(model, window, mode=mode_of(name)):
        ours = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new,
            min_new_tokens=new, do_sample=False, pad_token_id=0,
        )  # fmt: skip
    assert torch.equal(ours, truth)


@pytest.mark.parametrize('implementation', ['eager', 'sdpa'])
@torch.no_grad()
def test_fused_attention_is_masked_too(implementation):
    """Falcon calls torch's fused attention from its own code."""
    model, ids = build('falcon'), ids_of()
    model.config._attn_implementation = implementation
    model = type(model)._from_config(
        model.config, attn_implementation=implementation
    ).eval()  # fmt: skip
    model.load_state_dict(build('falcon').state_dict())
    truth = model(ids, attention_mask=window_mask(LENGTH)).logits
    plain = model(ids).logits
    gb.convert(model, mode='mask')
    assert error(model(ids).logits, plain) < TOLERANCE
    with gb.rewire(model, sliding_window_graph(LENGTH, WINDOW)):
        ours = model(ids, attention_mask=torch.ones_like(ids)).logits
    assert error(ours, truth) < TOLERANCE
    gb.restore(model)
    assert torch.equal(model(ids).logits, plain)


@pytest.mark.parametrize('name', MASKED)
@torch.no_grad()
def test_masks_are_not_taken_for_message_passing(name):
    model, ids = build(name), ids_of()
    before = model(ids).logits
    with pytest.raises(NotImplementedError, match="mode='mask' imposes"):
        gb.convert(model)
    with (
        pytest.raises(NotImplementedError, match="mode='mask' imposes"),
        gb.rewire(model, sliding_window_graph(LENGTH, WINDOW)),
    ):
        pass
    assert gb.convert(model, mode='mask') is model
    assert conversion_mode(model) == 'mask'
    assert torch.equal(model(ids).logits, before)
    with pytest.raises(ValueError, match="converted with mode 'mask'"):
        gb.convert(model)
    gb.restore(model)
    assert torch.equal(model(ids).logits, before)
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize('name', ['bloom', 'gptj'])
@torch.no_grad()
def test_some_heads_and_layers_are_rewired(name):
    model, ids = build(name), ids_of()
    mask, graph = torch.ones_like(ids), sliding_window_graph(LENGTH, WINDOW)
    own = gb.capture(model, ids)
    gb.convert(model, mode=mode_of(name))
    with gb.rewire(model, graph, heads=[0, -1], layers=[1]):
        found = gb.capture(model, ids)
        logits = model(ids, attention_mask=mask).logits
    assert error(logits, model(ids, attention_mask=mask).logits) > 1e-3
    torch.testing.assert_close(found[0].edge_attr, own[0].edge_attr)
    first, second = (
        to_attention(x.to_data_list()[0], per_head=True)
        for x in (own[1], found[1])
    )
    far = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH) >= WINDOW
    assert (second[[0, 3]][:, far] == 0).all()
    assert (first[[0, 3]][:, far.tril()] > 0).any()
    torch.testing.assert_close(second[[1, 2]], first[[1, 2]])
    # What is kept is normalised again.
    torch.testing.assert_close(second.sum(-1), torch.ones(4, LENGTH))


@pytest.mark.parametrize('name', ['mpt', 'gpt_neo'])
@torch.no_grad()
def test_rows_without_edges_are_zero(name):
    model, ids = build(name), ids_of()
    nothing = Data(
        edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=LENGTH
    )
    seen = []
    with gb.rewire(model, nothing, mode=mode_of(name)):
        attention = next(iter(slots_of(model)))
        attention.register_forward_hook(lambda m, a, out: seen.append(out[0]))
        assert model(ids).logits.isfinite().all()
    # What is left of attention is the same for every token: a bias.
    assert (seen[0] - seen[0][:, :1]).abs().max() < 1e-6


@pytest.mark.parametrize('name', ['gptj', 'bloom'])
@torch.no_grad()
def test_converted_models_are_copied_and_pickled(name):
    model, ids = build(name), ids_of()
    expected = model(ids).logits
    gb.convert(model, mode=mode_of(name))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        # A copy has parts of its own: restoring one leaves the other alone.
        assert conversion_mode(other) == mode_of(name)
        assert error(other(ids).logits, expected) < TOLERANCE
        gb.restore(other)
        assert torch.equal(other(ids).logits, expected)
        with gb.rewire(model, sliding_window_graph(LENGTH, 1)):
            assert error(model(ids).logits, expected) > 1e-2


@pytest.mark.parametrize('name', ['gpt_neo', 'bloom'])
def test_gradients_of_rewired_old_architectures(name):
    """The derivative along a direction is that of the logits' differences."""
    model, ids = build(name).double(), ids_of()
    embedding = model.get_input_embeddings().weight
    direction = torch.randn(
        embedding.shape,
        dtype=torch.double,
        generator=torch.Generator().manual_seed(0),
    )

    def value():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits
        return logits.sin().sum()

    graph = sliding_window_graph(LENGTH, WINDOW)
    with gb.rewire(model, graph, mode=mode_of(name)):
        (grad,) = torch.autograd.grad(value(), [embedding])
        with torch.no_grad():
            step = 1e-4
            values = []
            for sign in (1, -1):
                embedding += sign * step * direction
                values.append(value())
                embedding -= sign * step * direction
    expected = (values[0] - values[1]) / (2 * step)
    # Both compute their attention in float32 even in a double model.
    assert torch.isclose((grad * direction).sum(), expected, rtol=5e-3)


def test_keys_that_are_no_tokens_are_refused():
    """Eager sinks are a column of the scores, which no graph could mask."""
    model = build('gpt_oss')
    with pytest.raises(NotImplementedError, match='8 queries and 9 keys'):
        gb.convert(model, mode='mask')
    assert not any(m._forward_pre_hooks for m in model.modules())
    with pytest.raises(ValueError, match=r"'messages' or 'mask' \(got 'no'"):
        gb.convert(model, mode='no')
