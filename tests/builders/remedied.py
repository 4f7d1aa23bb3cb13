"""Remedies away from their neutral settings, and models to give them to."""

from __future__ import annotations

from typing import Any

import architectures
import torch
from torch import Tensor, nn

import gnnbridge.remedies as R

CASES: dict[str, R.Remedy] = {
    'sink_logit': R.SinkLogit(0.5),
    'softmax_one': R.SoftmaxOne(),
    'gated': R.GatedAttention(start='paper', std=0.5),
    'gated-head': R.GatedAttention('head', 'paper', 0.5),
    'window_sinks': R.WindowWithSinks(window=3, sinks=2),
    'sigmoid': R.SigmoidAttention(),
    'sigmoid-number': R.SigmoidAttention(bias=-1.0),
    'runway': R.RunwayAware(1.5),
    'temperature': R.CalibratedTemperature(
        target=0.4, length='sqrt_log', reference=4
    ),
    'temperature-resistance': R.CalibratedTemperature(
        rule='resistance', target=1.5
    ),
    'pause': R.PauseTokens(append=0, prepend=2, embedding='random'),
    'sink_tokens': R.SinkTokens(positions=(0, 2), embedding='random'),
    'differential': R.Differential(),
    'differential-decay': R.Differential('decay', rho=0.4),
}
DIFFERENTIAL = {'differential', 'differential-decay'}
IN_ATTENTION = sorted(
    name
    for name, remedy in CASES.items()
    if isinstance(remedy, R.AttentionRemedy)
)
ON = [
    pytest_id
    for name in CASES
    for pytest_id in (
        [(name, 'diffllama')]
        if name in DIFFERENTIAL
        else [(name, 'llama'), (name, 'gpt2')]
    )
]


def model_for(architecture: str) -> Any:
    """A tiny model with attention far from uniform."""
    return architectures.build(architecture)


def tokens(batch: int = 2, size: int = 11, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 61, (batch, size), generator=generator)


def with_remedy(name: str, architecture: str) -> Any:
    """A model with a remedy whose parameters are far from zero."""
    model = CASES[name].apply(model_for(architecture))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in CASES[name].parameters(model).values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * noise)
    return CASES[name].calibrate(model, tokens(1, 12, 9))


def relative(one: Tensor, other: Tensor) -> float:
    error = (one - other).abs().max() / other.abs().max()
    return float(error.detach())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
