import itertools
import math

import pytest
import torch
from architectures import build
from torch import Tensor
from transformers import PreTrainedModel

import gnnbridge as gb
from gnnbridge.diagnostics.bounds import sensitivity_bound
from gnnbridge.models.anatomy import Block, read_blocks
from gnnbridge.models.lipschitz import (
    BlockConstants,
    block_constants,
    constants_of,
)
from gnnbridge.models.stack import Stack, block_stack

IDS = torch.tensor([[1, 17, 5, 40, 9, 9, 31]])
SIZE = 7
MODELS = ['gpt2', 'llama', 'gpt_neox', 'mistral', 'qwen2', 'gpt2_unscaled']
# Rounding of norms, products and softmaxes in float64 and, of the softmax of
# eager attention, float32.
SLACK = 1 + 1e-5


def decoder(name: str, peaky: bool) -> PreTrainedModel:
    """Random weights, small as at the start or with attention that chooses."""
    model = build(name).double().eval()
    if not peaky:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() >= 2:
                    parameter.mul_(0.1)
    return model


def spectral(stack: Stack) -> Tensor:
    """The norms of all blocks of the Jacobian ``[N, N]``."""
    J = torch.autograd.functional.jacobian(*stack)
    return torch.linalg.matrix_norm(J.transpose(1, 2), ord=2)


@pytest.mark.parametrize('peaky', [False, True])
@pytest.mark.parametrize('name', MODELS)
def test_no_block_passes_on_more(name: str, peaky: bool) -> None:
    model = decoder(name, peaky)
    constants = block_constants(model, IDS)
    below = torch.ones(SIZE, SIZE).tril().bool()
    with block_stack(model, IDS) as stack:
        for layer, K in enumerate(constants.matrices):
            norms = spectral(stack.between(layer, layer + 1))
            assert (norms <= SLACK * K + 1e-12).all()
            assert not K[~below].any()
            # Near for tokens that see themselves alone, and nowhere absurd.
            ratio = (K / norms)[below & (norms > 0)]
            assert ratio.min() < 5
            assert ratio.median() < 30


@pytest.mark.parametrize('peaky', [False, True])
@pytest.mark.parametrize('name', MODELS)
def test_no_stack_passes_on_more(name: str, peaky: bool) -> None:
    model = decoder(name, peaky)
    c = block_constants(model, IDS)
    stay, pull = c.uniform
    largest = torch.maximum(stay, pull)
    with block_stack(model, IDS) as stack:
        norms = spectral(stack)
    walk = {'constants': c.factor, 'mixing': c.share}
    ours = [
        sensitivity_bound(c.weighted, kind=kind, **walk)
        for kind in ('layers', 'visits', 'envelope')
    ]
    theirs = [
        sensitivity_bound(c.attention, kind=kind, **given)
        for kind, given in (
            ('di_giovanni', {'weights': (stay, pull)}),
            ('barbero', {'constants': largest}),
            ('black', {'constants': largest}),
        )
    ]
    for bounds in (ours, theirs):
        for bound in bounds:
            assert (norms <= SLACK * bound + 1e-12).all()
        for lower, upper in itertools.pairwise(bounds):
            assert (lower <= upper * (1 + 1e-12)).all()
    # With numbers of pairs and tokens the first is the tightest of all.
    assert (ours[0] <= theirs[0] * (1 + 1e-12)).all()


def test_layers_that_share_uniform_attention() -> None:
    model = build('gpt2').double()
    with torch.no_grad():
        for block in model.transformer.h:
            # Without queries and keys every head attends to all alike.
            block.attn.c_attn.weight[:, :64] = 0
            block.attn.c_attn.bias[:64] = 0
    c = block_constants(model, IDS)
    uniform = torch.ones(SIZE, SIZE).double().tril()
    uniform = uniform / uniform.sum(1, keepdim=True)
    torch.testing.assert_close(
        c.attention, uniform.expand(3, SIZE, SIZE), rtol=1e-6, atol=0
    )
    with block_stack(model, IDS) as stack:
        norms = spectral(stack)
    stay, pull = c.uniform
    # One graph and two numbers for each layer: the bound by resistance.
    row = stay + pull
    bound = sensitivity_bound(
        uniform.expand(3, SIZE, SIZE), kind='resistance', constants=row
    )
    assert (norms <= SLACK * bound + 1e-12).all()
    expected = row.prod() / torch.arange(1, SIZE + 1)
    below = torch.ones(SIZE, SIZE).tril(-1).bool()
    torch.testing.assert_close(bound[below], expected.expand(SIZE, SIZE)[below])


def test_factors_shares_and_weighted_attention_make_the_matrices() -> None:
    c = block_constants(decoder('llama', True), IDS)
    share = c.share.unsqueeze(-1)
    M = torch.diag_embed(1 - c.share) + share * c.weighted
    torch.testing.assert_close(c.factor.unsqueeze(-1) * M, c.matrices)
    torch.testing.assert_close(c.weighted.sum(-1), torch.ones(3, SIZE).double())
    stay, pull = c.uniform
    most = stay.reshape(-1, 1, 1) * torch.eye(SIZE)
    most = most + pull.reshape(-1, 1, 1) * c.attention
    assert (c.matrices <= most * (1 + 1e-12)).all()


def token_norms(block: Block) -> Tensor:
    r""":math:`||I + \partial F(n'(u))||` by finite differences of the parts."""
    norm, width = block.norm2, block.norm2.gain.size(0)
    found = []
    for i, unit in enumerate(norm.unit):
        centre = torch.eye(width).double()
        if norm.centred:
            centre = centre - 1 / width
        inner = centre - torch.outer(unit, unit) / width
        D = norm.gain.unsqueeze(1) * inner / norm.deviation[i]
        J = torch.zeros(width, width).double()
        for branch in block.branches:
            J = J + block.down @ torch.diag(branch.slope[i]) @ branch.weight @ D
        values = torch.linalg.svdvals(torch.eye(width) + J)
        found.append(values[0])
    return torch.stack(found)


@pytest.mark.parametrize('name', ['gpt2', 'llama', 'gpt_neox'])
def test_terms_of_a_block_are_exact_norms(name: str) -> None:
    blocks = read_blocks(decoder(name, True), IDS)
    c = constants_of(blocks)
    for layer, block in enumerate(blocks):
        width, norm = block.norm1.gain.size(0), block.norm1
        token = token_norms(block)
        edges = torch.zeros(SIZE, SIZE).double()
        query = torch.zeros(SIZE).double()
        centre = torch.eye(width).double()
        if norm.centred:
            centre = centre - 1 / width
        D = norm.gain.unsqueeze(1) * centre
        for h, A in enumerate(block.attention):
            out = block.to_output[h]
            v = block.value[h] @ out.T
            mean = A @ v
            W = torch.linalg.matrix_norm(out @ block.to_value[h] @ D, ord=2)
            for i in range(SIZE):
                turn, q = block.rotation, block.query[h, i]
                asked = torch.zeros(width, width).double()
                for j in range(i + 1):
                    slope = D.T @ block.to_key[h].T @ turn[j].T @ q
                    apart = v[j] - mean[i]
                    rank_one = torch.outer(apart, slope) * block.scale
                    key = torch.linalg.matrix_norm(rank_one, ord=2)
                    edges[i, j] += A[i, j] * (W + key) / norm.deviation[j]
                    back = block.to_query[h].T @ turn[i].T @ block.key[h, j]
                    asked += A[i, j] * torch.outer(apart, D.T @ back)
                query[i] += torch.linalg.matrix_norm(asked, ord=2)
        query = block.scale * query / norm.deviation
        if block.parallel:
            expected = edges, token + query
        else:
            expected = token.unsqueeze(1) * edges, token * (1 + query)
        torch.testing.assert_close(
            (c.through[layer], c.stay[layer]), expected, rtol=1e-8, atol=1e-10
        )


def test_tokens_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder('llama', True)
    whole = block_constants(model, IDS)
    monkeypatch.setattr('gnnbridge.models.lipschitz._CHUNK', 1)
    torch.testing.assert_close(block_constants(model, IDS).stay, whole.stay)


def test_a_token_without_attention_weight_counts_for_nothing() -> None:
    attention = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    c = BlockConstants(2 * attention, torch.ones(1, 2), attention)
    stay, pull = c.uniform
    assert (stay.item(), pull.item()) == (1.0, 2.0)
    assert math.isfinite(c.matrices.sum())


def test_refuses_other_blocks() -> None:
    with pytest.raises(NotImplementedError, match='unknown norm'):
        block_constants(build('gemma2'), IDS)
    with pytest.raises(NotImplementedError, match="'OPTForCausalLM'"):
        block_constants(build('opt'), IDS)
    with pytest.raises(ValueError, match='restore first'):
        block_constants(gb.convert(build('llama')), IDS)
