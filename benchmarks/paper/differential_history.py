"""Should the map that differential attention subtracts know earlier rows?

    python benchmarks/paper/differential_history.py

Softmax attention, differential attention, and differential attention whose
subtracted map holds a decaying mean of earlier rows, the map of the layer
before, or the attention that keys have received so far; at equal numbers of
parameters (but for one or two numbers for each head), steps and batches, on
key-value retrieval and on bytes of prose. Measures retrieval by number of
bindings, by place and under noise, the loss of held-out prose by position, how
far apart last states lie and what they hear of the right binding, and what the
histories have learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from answering import accuracy, fidelity, influence
from drawing import by_length, lines, palette, plt, points, save
from experiments import histories
from running import Case, Experiment, cell, main, table
from tasks import TEXT_TOKENS, VOCABULARY
from torch import Generator
from transformers import PreTrainedModel

from gnnbridge.datasets.text import byte_windows, python_corpus
from gnnbridge.diagnostics.collapse import (
    collapse_slope,
    representation_collapse,
)

COLLAPSE_LENGTHS = (8, 16, 32, 64, 128)


def on_retrieval(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """What is measured of a decoder that retrieves."""
    return {
        **accuracy(model),
        **fidelity(model),
        **influence(model),
        **learned(model),
    }


@torch.no_grad()
def on_text(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """What is measured of a decoder of prose."""
    generator = Generator().manual_seed(7)
    text = python_corpus('held_out').text
    long = 4 * TEXT_TOKENS
    found: dict[str, Any] = {}
    for name, tokens, rows in (('loss', TEXT_TOKENS, 256), ('long', long, 64)):
        ids = byte_windows(
            text, rows, tokens, bos=VOCABULARY.bos, generator=generator
        )
        logits = model(ids, use_cache=False).logits[:, :-1]
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, 1:], reduction='none'
        )
        found[name] = each[:, : TEXT_TOKENS - 1].mean().item()
        if name == 'long':
            found['beyond_training'] = each[:, TEXT_TOKENS:].mean().item()
    return {**found, **last_token(model), **learned(model)}


@torch.no_grad()
def last_token(model: PreTrainedModel) -> dict[str, Any]:
    """How fast last states come together when the last byte is repeated.

    The pairs of Barbero et al., 2024 (https://arxiv.org/abs/2406.04267); the
    distance of final states over their norm.
    """
    generator = Generator().manual_seed(8)
    ids = byte_windows(
        python_corpus('held_out').text, 32, max(COLLAPSE_LENGTHS) + 1,
        bos=VOCABULARY.bos, generator=generator,
    )  # fmt: skip

    def final(ids: torch.Tensor) -> torch.Tensor:
        states = model.model(ids, use_cache=False).last_hidden_state[:, -1]
        return states / states.norm(dim=-1, keepdim=True)

    curve = representation_collapse(
        final, ids, COLLAPSE_LENGTHS, pair='repeat_last'
    )
    mean = curve.l1.mean(0)
    slope, _ = collapse_slope(COLLAPSE_LENGTHS, mean)
    return {
        'repeated': {
            str(n): x
            for n, x in zip(COLLAPSE_LENGTHS, mean.tolist(), strict=True)
        },
        'repeated_slope': slope,
    }


def learned(model: PreTrainedModel) -> dict[str, Any]:
    """The share of history of each layer, mean over heads; and lambda."""
    convs = [
        module
        for module in model.modules()
        if hasattr(module, 'history') and hasattr(module, 'lambda_full')
    ]
    if not convs:
        return {}
    return {
        'rho': [conv.history.rho.mean().item() for conv in convs],
        'lambda': [float(conv.lambda_full) for conv in convs],
    }


def cases() -> dict[str, list[Case]]:
    """Both tasks."""
    return {
        'retrieval': [
            Case(name, arm, on_retrieval)
            for name, arm in histories(retrieval=True).items()
        ],
        'text': [
            Case(name, arm, on_text)
            for name, arm in histories(retrieval=False).items()
        ],
    }


def show(result: dict[str, Any]) -> str:
    """One line for each kind of attention."""
    heads = [
        '', 'parameters', '16 bindings', '31 bindings', '16, noise',
        '31, noise', 'first minus last four places, noise',
        'nearest neighbour, 16', 'gold over others (Jacobian)',
        'prose, nats per byte', 'beyond the trained length',
        'slope of collapse',
    ]  # fmt: skip
    rows = []
    text = result['groups']['text']
    for name, f in result['groups']['retrieval'].items():
        prose = text[name]
        cells = [
            f'{f["parameters"]["mean"]:.0f}',
            cell(f['accuracy']['16']),
            cell(f['accuracy']['31']),
            cell(f['under_noise']['16']),
            cell(f['under_noise']['31']),
            cell(f['first_minus_last']),
            cell(f['nearest']['16']),
            cell(f['gold_over_others']),
            cell(prose['loss'], 3),
            cell(prose['beyond_training'], 3),
            cell(prose['repeated_slope']),
        ]
        rows.append([name, *cells])
    return table(heads, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """Retrieval above, prose below."""
    figure, axes = plt.subplots(2, 4, figsize=(18, 8.5), layout='constrained')
    found = result['groups']['retrieval']
    colors = palette(len(found))
    top, low = axes
    by_length(top[0], found, 'accuracy', colors)
    top[0].set_ylabel('right answers')
    by_length(top[1], found, 'under_noise', colors)
    top[1].set_ylabel('right answers under noise')
    lines(top[2], found, 'curve', colors)
    top[2].set_xlabel('place of the binding, of 16')
    top[2].set_ylabel('right answers under noise')
    by_length(top[3], found, 'nearest', colors)
    top[3].set_ylabel('distance of last states')
    text = result['groups']['text']
    points(low[0], text, 'loss', colors)
    low[0].set_xlabel('prose, nats per byte')
    points(low[1], text, 'beyond_training', colors)
    low[1].set_xlabel('prose beyond the trained length')
    low[1].set_yticklabels([])
    by_length(low[2], text, 'repeated', colors)
    low[2].set(xscale='log', yscale='log', xlabel='tokens')
    low[2].set_ylabel('distance of last states, last byte repeated')
    with_history = {k: v for k, v in text.items() if v.get('rho')}
    lines(low[3], with_history, 'rho', colors[-len(with_history) :])
    low[3].set_xlabel('layer')
    low[3].set_ylabel('learned share of history, prose')
    save(figure, path)


if __name__ == '__main__':
    main(
        Experiment('differential_history', cases(), draw, show),
        __doc__ or '',
    )
