import math

import pytest
import torch
from architectures import build
from scipy.stats import spearmanr
from torch import Tensor
from transformers import PreTrainedModel

import gnnbridge as gb
from gnnbridge.models.anatomy import Block, read_blocks
from gnnbridge.models.gains import path_gains

MODELS = ['gpt2', 'llama', 'mistral', 'qwen2', 'gpt_neox', 'gpt2_unscaled']
IDS = torch.tensor([[1, 17, 5, 40, 9, 9, 31]])
LONG = torch.tensor([[1, 17, 5, 40, 22, 9, 9, 31, 2, 58, 13]])


def decoder(name: str) -> PreTrainedModel:
    return build(name).eval()


def derivative(block: Block, head: int, part: str) -> Tensor:
    """Of what a head writes in the unit states, by its keys or queries alone.

    Values and the other of the two stay what they were: [N, d, N, d].
    """
    projection = block.to_key if part == 'key' else block.to_query

    def written(unit: Tensor) -> Tensor:
        read = (unit * block.norm1.gain) @ projection[head].T
        turned = torch.einsum('nef,nf->ne', block.rotation, read)
        pair = {'query': block.query[head], 'key': block.key[head]}
        # What a bias adds stays.
        pair[part] = turned + (pair[part] - turned.detach())
        scores = block.scale * pair['query'] @ pair['key'].mT
        hidden = block.attention[head] == 0
        A = scores.masked_fill(hidden, -math.inf).softmax(-1)
        return A @ block.value[head] @ block.to_output[head].T

    J = torch.autograd.functional.jacobian(written, block.norm1.unit)
    assert isinstance(J, Tensor)
    return J


@pytest.mark.parametrize('name', MODELS)
def test_edge_gains_are_derivatives_of_the_softmax(name: str) -> None:
    model = decoder(name).double()
    gains = path_gains(model, IDS)
    for layer, block in enumerate(read_blocks(model, IDS)):
        total = sum(
            derivative(block, head, part).square().sum((1, 3))
            for head in range(len(block.attention))
            for part in ('key', 'query')
        )
        deviation = block.norm1.deviation
        expected = total / len(block.norm1.gain) / deviation.square()
        # Eager attention takes its softmax in float32.
        torch.testing.assert_close(
            gains.edge_gains[layer].square(), expected, rtol=2e-5, atol=1e-12
        )


def around_mlp(
    module: torch.nn.Module, norm: torch.nn.Module, state: Tensor
) -> Tensor:
    """Jacobian of the stream around the MLP of a block at one state."""
    J = torch.autograd.functional.jacobian(
        lambda x: x + module.mlp(norm(x)), state[None, None]
    )
    assert isinstance(J, Tensor)
    return J.squeeze()


@pytest.mark.parametrize('name', MODELS)
def test_token_gains_are_jacobians_of_the_mlp(name: str) -> None:
    model = decoder(name).double()
    gains = path_gains(model, IDS)
    for layer, block in enumerate(read_blocks(model, IDS)):
        base = model.base_model
        module = (base.h if hasattr(base, 'h') else base.layers)[layer]
        norm = getattr(module, 'ln_2', None) or module.post_attention_layernorm
        # The states that the norm was given: from what it made of them.
        states = block.norm2.unit * block.norm2.deviation.unsqueeze(-1)

        J = torch.stack([around_mlp(module, norm, state) for state in states])
        expected = torch.einsum('iab,kab->ik', J, J) / J.size(-1)
        torch.testing.assert_close(
            gains.token_gains[layer], expected, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize('name', MODELS)
def test_gains_of_heads_are_norms_of_their_products(name: str) -> None:
    model = decoder(name)
    gains = path_gains(model, IDS)
    attentions = gb.capture(model, IDS)
    for layer, block in enumerate(read_blocks(model, IDS)):
        torch.testing.assert_close(
            gains.attentions[layer].float(),
            gb.graph.to_attention(attentions[layer], per_head=True),
            rtol=1e-4,
            atol=1e-6,
        )
        for head in range(len(block.attention)):
            product = block.to_output[head] @ block.to_value[head]
            norm = torch.linalg.norm(product * block.norm1.gain)
            expected = norm / block.norm1.deviation / math.sqrt(len(product))
            torch.testing.assert_close(gains.gains[layer, head], expected)
    assert gains.parallel == (name == 'gpt_neox')


def jacobian_norms(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """From the embeddings to the states before the last norm ``[N, N]``."""
    base = model.base_model
    states: dict[str, Tensor] = {}
    last = (base.h if hasattr(base, 'h') else base.layers)[-1]

    def keep(module: torch.nn.Module, args: object, output: object) -> None:
        states['top'] = output[0] if isinstance(output, tuple) else output

    handle = last.register_forward_hook(keep)
    x = model.get_input_embeddings()(ids).detach()

    def top(x: Tensor) -> Tensor:
        model(inputs_embeds=x, use_cache=False)
        return states['top'][0]

    J = torch.autograd.functional.jacobian(top, x)
    handle.remove()
    assert isinstance(J, Tensor)
    return J.squeeze(2).square().sum((1, 3)).sqrt()


@pytest.mark.parametrize('name', ['llama', 'gpt_neox', 'gpt2'])
def test_rollout_follows_the_gradients(name: str) -> None:
    model = decoder(name)
    truth = jacobian_norms(model, LONG)
    gains = path_gains(model, LONG)
    below = torch.ones_like(truth).tril(-1).bool()
    found = spearmanr(gains.rollout()[below], truth[below]).statistic
    plain = gb.spectral.attention_rollout(gains.attentions.mean(1))
    # Random weights and eleven tokens; on trained models see the benchmark.
    assert found > 0.9
    assert found > spearmanr(plain[below], truth[below]).statistic


def test_rows_and_sampling_of_the_rollout() -> None:
    gains = path_gains(decoder('llama'), IDS)
    full = gains.rollout()
    torch.testing.assert_close(gains.rollout(rows=[-1, 3]), full[[-1, 3]])
    drawn = gains.rollout(method='rademacher', num_samples=4096)
    below = torch.ones_like(full).tril().bool()
    # The standard error of 4096 draws is about a percent of most pairs.
    assert ((drawn / full)[below] - 1).abs().median() < 0.03


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(NotImplementedError, match=r'error of .* in its attent'):
        path_gains(decoder('qwen3'), IDS)
    with pytest.raises(NotImplementedError, match="'OPTForCausalLM'"):
        path_gains(decoder('opt'), IDS)
    model = decoder('llama')
    with pytest.raises(ValueError, match=r'shape \[1, N\]'):
        path_gains(model, IDS.expand(2, -1))
    gb.convert(model)
    with pytest.raises(ValueError, match=r'gnnbridge\.restore first'):
        path_gains(model, IDS)


def test_leaves_the_model_as_it_was() -> None:
    model = decoder('gpt2').train()
    usual = model.config._attn_implementation
    hooks = sum(len(m._forward_hooks) for m in model.modules())
    path_gains(model, IDS)
    assert model.training
    assert model.config._attn_implementation == usual
    assert sum(len(m._forward_hooks) for m in model.modules()) == hooks
