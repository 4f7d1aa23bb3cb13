"""Ablated models compute what their weights say without the missing parts."""

from __future__ import annotations

import types

import architectures
import pytest
import torch
from torch.nn import functional as F

import gnnbridge as gb
from gnnbridge.diagnostics.oversmoothing import rank_collapse
from gnnbridge.models.ablation import ablated
from gnnbridge.models.blocks import first_of
from gnnbridge.models.stack import block_states
from gnnbridge.models.zoo.tiny import build as build_tiny

KINDS = ('attention_only', 'no_residual', 'no_mlp')
IDS = torch.randint(2, 61, (11,), generator=torch.Generator().manual_seed(3))
# transformers computes rotations and some norms in float32 whatever the model.
TOLERANCE = 2e-5


def states_of(model, ids):
    return [x[0] for x in block_states(model, ids)]


def heads_of(x, heads):
    """``[N, H * D]`` as ``[H, N, D]``."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def turned(x, theta, width):
    """Rotary embedding of the first ``width`` dimensions ``[H, N, D]``."""
    speed = theta ** (-torch.arange(0, width, 2).double() / width)
    angle = torch.arange(x.size(1)).double().unsqueeze(1) * speed
    angle = angle.to(x.dtype)
    cos, sin = (torch.cat([f, f], 1) for f in (angle.cos(), angle.sin()))
    first, second = x[..., : width // 2], x[..., width // 2 : width]
    swapped = torch.cat([-second, first], dim=-1)
    return torch.cat([x[..., :width] * cos + swapped * sin, x[..., width:]], -1)


def attend(query, key, value, scale, window=None, softcap=None):
    """Causal attention of ``[H, N, D]`` as ``[N, H * D]``."""
    groups = query.size(0) // key.size(0)
    key, value = (x.repeat_interleave(groups, 0) for x in (key, value))
    score = query @ key.mT * scale
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    apart = torch.arange(query.size(1))
    apart = apart.unsqueeze(1) - apart
    hidden = apart < 0
    if window is not None:
        hidden |= apart >= window
    weight = score.masked_fill(hidden, float('-inf')).softmax(-1)
    return (weight @ value).transpose(0, 1).flatten(1)


def rms(x, norm, shift=0.0):
    size = (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return x / size * (shift + norm.weight)


def layer_norm(x, norm):
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def llama_attention(part, x, scale, theta=10000.0, **options):
    query, key, value = (
        F.linear(x, p.weight) for p in (part.q_proj, part.k_proj, part.v_proj)
    )
    query, key, value = (
        heads_of(z, z.size(-1) // 8) for z in (query, key, value)
    )
    query, key = (turned(z, theta, 8) for z in (query, key))
    out = attend(query, key, value, scale, **options)
    return F.linear(out, part.o_proj.weight)


def gated(mlp, x, activation):
    gate, up = (F.linear(x, p.weight) for p in (mlp.gate_proj, mlp.up_proj))
    return F.linear(activation(gate) * up, mlp.down_proj.weight)


def gpt2_parts(model):
    x = model.transformer.wte.weight[IDS]
    x = x + model.transformer.wpe.weight[: len(IDS)]

    def attention(block, x):
        x = layer_norm(x, block.ln_1) @ block.attn.c_attn.weight
        x = x + block.attn.c_attn.bias
        query, key, value = (heads_of(z, 4) for z in x.split(32, -1))
        out = attend(query, key, value, 8**-0.5)
        return out @ block.attn.c_proj.weight + block.attn.c_proj.bias

    def mlp(block, x):
        x = layer_norm(x, block.ln_2) @ block.mlp.c_fc.weight
        x = F.gelu(x + block.mlp.c_fc.bias, approximate='tanh')
        return x @ block.mlp.c_proj.weight + block.mlp.c_proj.bias

    return x, model.transformer.h, attention, mlp


def llama_parts(model):
    def attention(block, x):
        x = rms(x, block.input_layernorm)
        return llama_attention(block.self_attn, x, 8**-0.5)

    def mlp(block, x):
        x = rms(x, block.post_attention_layernorm)
        return gated(block.mlp, x, F.silu)

    x = model.model.embed_tokens.weight[IDS]
    return x, model.model.layers, attention, mlp


def mixtral_parts(model):
    def attention(block, x):
        x = rms(x, block.input_layernorm)
        return llama_attention(block.self_attn, x, 8**-0.5, 1e6, window=5)

    def mlp(block, x):
        x = rms(x, block.post_attention_layernorm)
        experts = getattr(block, 'mlp', None) or block.block_sparse_moe
        return first_of(experts(x.unsqueeze(0)))[0]

    x = model.model.embed_tokens.weight[IDS]
    return x, model.model.layers, attention, mlp


def gemma2_parts(model):
    def attention(block, x):
        layer = block.self_attn.layer_idx
        window = 5 if layer % 2 == 0 else None
        x = rms(x, block.input_layernorm, 1.0)
        x = llama_attention(
            block.self_attn, x, 4**-0.5, window=window, softcap=2.0
        )
        return rms(x, block.post_attention_layernorm, 1.0)

    def mlp(block, x):
        x = rms(x, block.pre_feedforward_layernorm, 1.0)
        x = gated(block.mlp, x, lambda z: F.gelu(z, approximate='tanh'))
        return rms(x, block.post_feedforward_layernorm, 1.0)

    # The model rounds the factor to the dtype that it was made in.
    factor = torch.tensor(32**0.5)
    x = model.model.embed_tokens.weight[IDS] * factor.double()
    return x, model.model.layers, attention, mlp


def neox_parts(model):
    def attention(block, x):
        part = block.attention
        x = layer_norm(x, block.input_layernorm)
        x = F.linear(x, part.query_key_value.weight, part.query_key_value.bias)
        # Query, key and value of each head lie together.
        query, key, value = heads_of(x, 4).split(8, -1)
        query, key = (turned(z, 10000.0, 4) for z in (query, key))
        out = attend(query, key, value, 8**-0.5)
        return F.linear(out, part.dense.weight, part.dense.bias)

    def mlp(block, x):
        x = layer_norm(x, block.post_attention_layernorm)
        up, down = block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h
        x = F.gelu(F.linear(x, up.weight, up.bias))
        return F.linear(x, down.weight, down.bias)

    x = model.gpt_neox.embed_in.weight[IDS]
    return x, model.gpt_neox.layers, attention, mlp


CASES = {
    'gpt2': (gpt2_parts, {}),
    'llama': (llama_parts, {}),
    'mixtral': (mixtral_parts, {'rms_norm_eps': 1e-6}),
    'gemma2': (gemma2_parts, {}),
    'gpt_neox': (neox_parts, {'use_parallel_residual': True}),
    'gpt_neox in a row': (neox_parts, {'use_parallel_residual': False}),
}


def by_hand(case, model, kind):
    """States from the weights, with what is missing left out."""
    x, blocks, attention, mlp = CASES[case][0](model)
    states = [x]
    for block in blocks:
        a, parallel = attention(block, x), case == 'gpt_neox'
        if kind is None:
            x = x + a + mlp(block, x if parallel else x + a)
        elif kind == 'no_mlp':
            x = x + a
        elif kind == 'attention_only':
            x = a
        else:
            x = a + mlp(block, x) if parallel else mlp(block, a)
        states.append(x)
    return states


def build(case):
    name = case.split()[0]
    model = architectures.build(name, **CASES[case][1])
    # Grouped products of experts have no float64.
    return model if name == 'mixtral' else model.double()


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('prepare', [lambda model: model, gb.convert])
@torch.no_grad()
def test_states_are_those_of_the_weights(case, prepare):
    model = prepare(build(case))
    for kind in (None, *KINDS):
        expected = by_hand(case, model, kind)
        if kind is None:
            found = states_of(model, IDS)
        else:
            with ablated(model, kind) as inside:
                assert inside is model
                found = states_of(model, IDS)
        assert len(found) == len(expected) == 4
        for one, other in zip(found, expected, strict=True):
            scale = other.abs().max()
            assert (one - other).abs().max() < TOLERANCE * scale


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ['llama', 'gpt_oss', 'opt', 'deepseek_v2'])
def test_the_model_is_left_as_it_was(name, kind):
    model = architectures.build(name).train()
    inputs = architectures.inputs_for(model)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        expected = model(**inputs).logits
    model.train()
    with ablated(model, kind):
        pass
    with pytest.raises(KeyError), ablated(model, kind):
        raise KeyError(kind)
    assert model.training
    for module in model.modules():
        assert 'forward' not in module.__dict__
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for key, x in model.state_dict().items():
        assert torch.equal(x, before[key])
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)


def test_a_forward_of_its_own_is_kept():
    """Libraries that move weights around set one on the module."""
    model = gb.convert(architectures.build('llama'))
    block = model.model.layers[1]
    calls = []

    def forward(*args, **kwargs):
        calls.append(1)
        return type(block).forward(block, *args, **kwargs)

    block.forward = forward
    with ablated(model, 'no_mlp'):
        calls.clear()
        states_of(model, IDS)
        assert calls == [1]
    assert block.forward is forward


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ['llama', 'gemma2'])
def test_a_cache_grows_once(name, kind):
    model = architectures.build(name).double()
    with ablated(model, kind), torch.no_grad():
        whole = model(IDS.unsqueeze(0)).logits[0]
        cache, steps = None, []
        for token in IDS:
            out = model(
                token.reshape(1, 1), past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            steps.append(out.logits[0])
    assert cache.get_seq_length() == len(IDS)
    # Keys of a cache in another order of sums; gemma2's softmax is float32,
    # whatever the model is.
    tolerance = {'rtol': 1e-8, 'atol': 1e-8}
    if name == 'gemma2':
        tolerance = {'rtol': 1e-3, 'atol': 2e-5}
    torch.testing.assert_close(torch.cat(steps), whole, **tolerance)


@pytest.mark.parametrize('prepare', [lambda model: model, gb.convert])
def test_graphs_are_captured_from_inside(prepare):
    model = prepare(architectures.build('llama'))
    plain = gb.capture(model, IDS)
    with ablated(model, 'attention_only'):
        states = states_of(model, IDS)
        graphs = gb.capture(model, IDS, values=True)
    for graph, x in zip(graphs, states, strict=False):
        torch.testing.assert_close(graph.x, x, rtol=1e-4, atol=1e-5)
    # The first layer reads the same embeddings, the second other states.
    torch.testing.assert_close(graphs[0].edge_attr, plain[0].edge_attr)
    assert not torch.allclose(graphs[1].edge_attr, plain[1].edge_attr)


def test_gradients_flow_through_what_is_left():
    model = architectures.build('llama')
    with ablated(model, 'attention_only'):
        model(IDS.unsqueeze(0)).logits.sum().backward()
    block = model.model.layers[1]
    assert block.self_attn.v_proj.weight.grad.abs().max() > 0
    assert (
        block.mlp.down_proj.weight.grad is None
        or (block.mlp.down_proj.weight.grad == 0).all()
    )


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
def test_attention_alone_collapses(name):
    """Residual connections are what keeps tokens apart."""
    depth = {'gpt2': 'n_layer'}.get(name, 'num_hidden_layers')
    model = gb.convert(architectures.build(name, **{depth: 12}).double())
    ids = torch.randint(
        3, 60, (24,), generator=torch.Generator().manual_seed(0)
    )

    def residuals(kind):
        with ablated(model, kind):
            states = states_of(model, ids)
        return torch.stack([rank_collapse(x) for x in states])

    alone, with_residual = residuals('attention_only'), residuals('no_mlp')
    assert (alone.diff() < 0).all()
    assert (alone[2:] < with_residual[2:]).all()
    # Measured 5e-4 and 3e-3, against 0.3 and 0.5.
    assert alone[-1] < 0.01
    assert with_residual[-1] > 0.1


def test_full_attention_without_norms_collapses_doubly_exponentially():
    """Each layer takes the residual to its third power (Dong et al., 2021)."""
    model = architectures.build('vit', num_hidden_layers=6).double()
    for block in model.modules():
        if not hasattr(block, 'layernorm_before'):
            continue
        block.layernorm_before = torch.nn.Identity()
        for linear in block.modules():
            if isinstance(linear, torch.nn.Linear):
                torch.nn.init.zeros_(linear.bias)
                # Values keep their size, and scores become no larger.
                if linear.in_features == linear.out_features:
                    torch.nn.init.orthogonal_(linear.weight)
    generator = torch.Generator().manual_seed(1)
    pixels = 0.3 * torch.randn(1, 3, 12, 12, generator=generator).double()
    logs = {}
    for kind in ('attention_only', 'no_mlp'):
        with ablated(model, kind):
            graphs = gb.capture(model, pixels)
        logs[kind] = torch.stack([rank_collapse(g.x) for g in graphs]).log()
    alone = logs['attention_only']
    # Measured: 0.2, 4e-3, 1e-8.
    assert (alone[4:] < 3 * alone[3:5]).all()
    assert alone[5] < torch.tensor(1e-7).log()
    assert (logs['no_mlp'] > torch.tensor(0.1).log()).all()


@pytest.mark.parametrize(
    ('name', 'match'),
    [
        ('bert', r"'bert\.encoder\.layer\.0' \('BertLayer'\).*away from that"),
        ('t5', 'EncDecAttention'),
        ('bart', 'encoder_attn'),
    ],
)
def test_other_blocks_are_refused(name, match):
    model = architectures.build(name)
    with (
        pytest.raises(NotImplementedError, match=match),
        ablated(model, 'no_mlp'),
    ):
        pass
    assert all('forward' not in m.__dict__ for m in model.modules())


@pytest.mark.parametrize(
    ('name', 'match'),
    [
        ('jamba', "'JambaMambaDecoderLayer'. without"),
        ('bamba', "'BambaDecoderLayer'. without"),
        ('falcon_h1', 'FalconH1DecoderLayer.*away from that'),
        ('bloom', 'BloomBlock.*away from that'),
        ('hy_v4', 'HYV4DecoderLayer.*away from that'),
        ('xlm', 'in no block'),
    ],
)
def test_other_ways_between_tokens_are_refused(name, match):
    model = build_tiny(name)
    with (
        pytest.raises(NotImplementedError, match=match),
        ablated(model, 'attention_only'),
    ):
        pass


def test_an_mlp_before_attention_is_refused():
    model = architectures.build('llama')

    def forward(self, hidden_states, **kwargs):
        x = hidden_states
        x = x + self.mlp(self.post_attention_layernorm(x))
        given = self.input_layernorm(x)
        return x + self.self_attn(hidden_states=given, **kwargs)[0]

    block = model.model.layers[2]
    block.forward = types.MethodType(forward, block)
    with (
        pytest.raises(NotImplementedError, match='reads what the MLP gave'),
        ablated(model, 'no_mlp'),
    ):
        pass


def test_a_block_without_mlp_is_refused():
    model = architectures.build('llama')
    block = model.model.layers[0]
    block.mlp = torch.nn.Identity()
    with (
        pytest.raises(NotImplementedError, match='no MLP beside attention'),
        ablated(model, 'no_mlp'),
    ):
        pass


def test_half_precision_is_told_from_another_form():
    for name, fits in (('llama', True), ('bert', False)):
        model = architectures.build(name).bfloat16()
        if fits:
            with ablated(model, 'no_residual'):
                assert states_of(model, IDS)[-1].dtype == torch.bfloat16
            continue
        with (
            pytest.raises(NotImplementedError, match='BertLayer'),
            ablated(model, 'no_residual'),
        ):
            pass


def test_bad_uses_are_named():
    model = architectures.build('llama')
    with (
        pytest.raises(ValueError, match="'attention'"),
        ablated(model, 'attention'),
    ):
        pass
    with (
        ablated(model, 'no_mlp'),
        pytest.raises(ValueError, match='not ablated'),
        ablated(model, 'no_mlp'),
    ):
        pass
