"""Theorems C and D on the blocks of a GPT-2: resistance bounds Jacobians."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from gnnbridge.spectral.green import hitting_probability
from gnnbridge.spectral.laplacian import leave_rate
from gnnbridge.spectral.layered import envelope_hitting, layered_influence
from gnnbridge.spectral.resistance import effective_resistance

LAYERS, HEADS, WIDTH, SIZE = 3, 2, 16, 11
# The largest slope of the tanh form of GELU is 1.1290.
GELU_SLOPE = 1.13


def random_model(peaky: bool, seed: int) -> GPT2Model:
    torch.manual_seed(seed)
    config = GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=SIZE,
        vocab_size=8,
        attn_implementation='eager',
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2Model(config).double().eval()
    with torch.no_grad():
        for block in model.h:
            # Freshly drawn attention is uniform: make it choose, or exactly
            # uniform.
            block.attn.c_attn.weight[:, : 2 * WIDTH] *= 40.0 if peaky else 0.0
            block.attn.c_attn.bias.normal_(std=0.2)
            if not peaky:
                block.attn.c_attn.bias[: 2 * WIDTH] = 0
            block.ln_1.weight.uniform_(0.5, 1.5)
            block.ln_2.bias.normal_(std=0.2)
    return model


def run(model: GPT2Model, x: Tensor) -> dict[str, Any]:
    """The stream before each layer and after the last, and the attention."""
    streams: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(
            lambda module, args, kwargs: streams.append(
                args[0] if args else kwargs['hidden_states']
            ),
            with_kwargs=True,
        )
        for module in [*model.h, model.ln_f]
    ]
    position = model.wpe(torch.arange(SIZE))
    out = model(
        inputs_embeds=(x - position).unsqueeze(0),
        output_attentions=True,
        use_cache=False,
    )
    for handle in handles:
        handle.remove()
    return {
        'streams': [stream.squeeze(0) for stream in streams],
        'attention': [A.squeeze(0).detach() for A in out.attentions],
    }


def spectral(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, ord=2)


def norm_gain(norm: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    """||g||_inf / sigma, the largest over the tokens."""
    sigma = (x.var(-1, unbiased=False) + norm.eps).sqrt()
    return norm.weight.abs().max() / sigma.min()


@torch.no_grad()
def constants(
    block: Any, x: Tensor, A: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The omega of each head, kappa and lambda of one block, at its input."""
    n = block.ln_1(x)
    query, key, value = block.attn.c_attn(n).split(WIDTH, dim=-1)
    weights = block.attn.c_attn.weight.split(WIDTH, dim=-1)
    each, scale = WIDTH // HEADS, math.sqrt(WIDTH // HEADS)
    gamma = norm_gain(block.ln_1, x)
    omega, kappa = [], torch.zeros((), dtype=x.dtype)
    mixed = torch.zeros_like(x)
    for h in range(HEADS):
        own = slice(h * each, (h + 1) * each)
        W_Q, W_K, W_V = (weight[:, own] for weight in weights)
        W_O = block.attn.c_proj.weight[own]
        v = value[:, own] @ W_O  # what each source gives, [source, WIDTH]
        mean = A[h] @ v
        mixed = mixed + mean
        spread = (v.unsqueeze(0) - mean.unsqueeze(1)).norm(dim=-1)
        spread = spread.tril().amax()
        asked = query[:, own].norm(dim=-1).max()
        product = spread * spectral(W_K) * asked / scale
        omega.append(gamma * (spectral(W_V @ W_O) + product))
        # sum_k A_ik (v_k - mean_i) (W_Q k_k / sqrt d)^T of each receiver
        slope = key[:, own] @ W_Q.T / scale
        gaps = v.unsqueeze(0) - mean.unsqueeze(1)
        answer = torch.einsum('ik,ikd,ke->ide', A[h], gaps, slope)
        kappa = kappa + spectral(answer).max()
    u = x + mixed + block.attn.c_proj.bias
    lift = spectral(block.mlp.c_proj.weight) * spectral(block.mlp.c_fc.weight)
    lam = 1 + GELU_SLOPE * lift * norm_gain(block.ln_2, u)
    return torch.stack(omega), gamma * kappa, lam


def jacobian_norms(model: GPT2Model, x: Tensor) -> Tensor:
    """||d x_i^(L) / d x_j^(0)|| of all pairs."""
    x = x.clone().requires_grad_()
    top = run(model, x)['streams'][-1]
    rows = [
        torch.autograd.grad(value, x, retain_graph=True)[0]
        for value in top.flatten()
    ]
    J = torch.stack(rows).reshape(SIZE, WIDTH, SIZE, WIDTH)
    return spectral(J.transpose(1, 2))


def block_bounds(model: GPT2Model, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C_L, the matrices A-hat and the shares alpha of all layers."""
    found = run(model, x)
    total, matrices, shares = torch.ones((), dtype=x.dtype), [], []
    for block, stream, A in zip(
        model.h, found['streams'], found['attention'], strict=False
    ):
        omega, kappa, lam = constants(block, stream.detach(), A)
        matrices.append(torch.einsum('h,hij->ij', omega / omega.sum(), A))
        shares.append(omega.sum() / (1 + kappa + omega.sum()))
        total = total * lam * (1 + kappa + omega.sum())
    return total, torch.stack(matrices), torch.stack(shares)


def inputs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SIZE, WIDTH, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize('seed', [0, 1])
def test_one_block(seed: int) -> None:
    # Theorem C: lambda ((1 + kappa) delta_ij + sum_h omega_h A^h_ij).
    model, x = random_model(True, seed), inputs(seed)
    found = run(model, x)
    block, stream = model.h[0], found['streams'][0].detach()
    A = found['attention'][0]
    omega, kappa, lam = constants(block, stream, A)
    bound = torch.einsum('h,hij->ij', omega, A)
    bound = lam * (bound + (1 + kappa) * torch.eye(SIZE))
    del model.h[1:]
    norms = jacobian_norms(model, x)
    assert (norms <= bound + 1e-12).all()
    # The bound knows which pairs are far apart: no constant would do.
    below = torch.ones(SIZE, SIZE).tril(-1).bool()
    assert bound[below].max() > 10 * bound[below].min()
    assert not norms[~below & ~torch.eye(SIZE, dtype=torch.bool)].any()


@pytest.mark.parametrize('seed', [0, 1])
def test_a_model_with_attention_that_differs_by_layer(seed: int) -> None:
    model, x = random_model(True, seed), inputs(seed)
    scale, A, shares = block_bounds(model, x)
    # Attention is peaky indeed: far from uniform in every layer.
    assert (A.amax(-1)[:, -1] > 2 / SIZE).all()
    T, V = layered_influence(A, shares)
    h = envelope_hitting(A)
    norms = jacobian_norms(model, x)
    assert (norms <= scale * T + 1e-12).all()
    assert (T <= V + 1e-14).all()
    assert (h + 1e-14 >= V).all()
    # Sensitivity is there to be bounded.
    assert (norms.tril().diagonal() > 0.1).all()
    assert norms[-1, 0] > 0


def test_a_model_whose_layers_share_their_attention() -> None:
    # Without queries and keys attention is uniform in every layer and head.
    model, x = random_model(False, 2), inputs(2)
    scale, A, shares = block_bounds(model, x)
    torch.testing.assert_close(A[1], A[0])
    norms = jacobian_norms(model, x)
    T, _ = layered_influence(A, shares)
    h = hitting_probability(A[0])
    below = torch.ones(SIZE, SIZE).tril(-1).bool()
    assert (norms <= scale * T + 1e-12).all()
    assert (norms <= scale * h + 1e-12).all()
    # The same as a conductance, and affine in the metric.
    flow = effective_resistance(A[0], conductance=True)
    by_rate = flow / leave_rate(A[0]).unsqueeze(1)
    torch.testing.assert_close(by_rate[below], h[below])
    R = effective_resistance(A[0], kind='restart')
    b = h.mean(0)
    affine = b * (1 / b.unsqueeze(1) + 1 / b - R)
    assert (norms <= scale * affine + 1e-12)[below].all()


def test_layers_of_attention_alone_are_bounded_tightly() -> None:
    # x_i + a sum_k A_ik x_k has the Jacobian c M_ij itself: no slack.
    A = torch.rand(6, 6, generator=torch.Generator().manual_seed(3)).double()
    A = A.tril() / A.tril().sum(1, keepdim=True)
    gain, depth = 0.6, 4
    J = torch.linalg.matrix_power(torch.eye(6) + gain * A, depth)
    T, V = layered_influence([A] * depth, gain / (1 + gain))
    torch.testing.assert_close(J, (1 + gain) ** depth * T)
    assert ((1 + gain) ** depth * V >= J - 1e-12).all()
