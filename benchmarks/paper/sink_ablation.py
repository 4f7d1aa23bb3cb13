"""Are attention sinks harmful, or do they slow over-mixing?

    python benchmarks/paper/sink_ablation.py

Decoders on Bigram-Backcopy, on which sinks form: with a first token that is
always the same; without; with learned sink tokens at several places instead;
and with sinks that are no tokens. Then decoders that were trained with a first
token, from which it is taken away, hidden, or replaced by a learned sink while
all else stays as it was; and decoders of eight layers. Measures the loss, what
is generated, where attention goes, how alike states become from layer to layer,
and how far a change of one token spreads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from drawing import lines, palette, plt, points, save, stacked
from experiments import deep_sinks, sink_ablation, sink_replacement
from mixing import collapse, spread
from reading import prompted
from running import Case, Experiment, at, cell, main, table
from sinks import massive, shares
from tasks import BACKCOPY, BACKCOPY_TOKENS, backcopy_source
from torch import Generator, Tensor
from transformers import PreTrainedModel

import gnnbridge as gb

ROWS = 256
START = 8  # tokens that a generated sequence starts from


def sequences(rows: int = ROWS) -> Tensor:
    """Sequences ``[B, T]`` that no decoder was trained on."""
    generator = Generator().manual_seed(10**6)
    return backcopy_source().draw(rows, BACKCOPY_TOKENS, generator=generator)


def measure(first: bool, prompt: int | None) -> Callable[..., dict[str, Any]]:
    """What is measured of a decoder.

    Args:
        first: Whether it is given the first token.
        prompt: The length of the prompt, for inserted tokens.
    """

    def measured(model: PreTrainedModel, seed: int) -> dict[str, Any]:
        ids = sequences()[:, 0 if first else 1 :]
        skip = int(first)
        few = ids[:64]
        return {
            **losses(model, ids, prompt, skip),
            **generated(model, few, skip),
            **shares(model, few, prompt, skip),
            'massive_ratio': massive(model, few, prompt),
            **collapse(model, few, prompt, skip),
            **spread(model, few, prompt, skip, Generator().manual_seed(0)),
        }

    return measured


@torch.no_grad()
def losses(
    model: PreTrainedModel, ids: Tensor, prompt: int | None, skip: int
) -> dict[str, float]:
    """Mean loss of ordinary tokens, and apart of copies and of the others.

    The first two ordinary tokens are left out: without a first token there is
    nothing to predict the one from, and the other follows it alone.
    """
    logits = model(ids, **prompted(model, prompt)).logits[:, :-1]
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction='none'
    ).view(len(ids), -1)
    whole = sequences(len(ids))
    copied = backcopy_source().copies(whole)[:, whole.size(1) - ids.size(1) :]
    copied, each = copied[:, 2 + skip :], each[:, 1 + skip :]
    right = logits.argmax(-1)[:, 1 + skip :] == ids[:, 2 + skip :]
    return {
        'loss': each.mean().item(),
        'loss_of_copies': each[copied].mean().item(),
        'loss_of_others': each[~copied].mean().item(),
        'right_copies': right[copied].float().mean().item(),
    }


@torch.no_grad()
def generated(
    model: PreTrainedModel, ids: Tensor, skip: int
) -> dict[str, float]:
    """How well sampled continuations follow the rule of the source.

    Returns:
        The share of tokens after a trigger that are copies, as all are in the
        source, and the share of tokens that equal the one before.
    """
    start = ids[:, : START + skip]
    torch.manual_seed(0)
    out = model.generate(
        input_ids=start,
        attention_mask=torch.ones_like(start),
        do_sample=True,
        max_new_tokens=BACKCOPY_TOKENS - START - 1,
        min_new_tokens=BACKCOPY_TOKENS - START - 1,
        pad_token_id=0,
    )
    tokens = out[:, skip:]
    triggers = torch.tensor(backcopy_source().triggers)
    due = torch.isin(tokens[:, START - 1 : -1], triggers)
    copied = tokens[:, START:] == tokens[:, START - 2 : -2]
    repeated = tokens[:, START:] == tokens[:, START - 1 : -1]
    return {
        'generated_copies': copied[due].float().mean().item(),
        'generated_repeats': repeated.float().mean().item(),
    }


def hiding_first(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """With the first token in its place, but no attention to it."""

    def without(layer: int, graph: Any) -> Any:
        graph = graph.clone()
        source, target = graph.edge_index
        # The nodes of a batch are counted on from sequence to sequence.
        first = graph.position[source] == 0
        graph.edge_index = graph.edge_index[:, ~first | (source == target)]
        return graph

    with gb.rewire(model, without):
        return measure(True, None)(model, seed)


def cases() -> dict[str, list[Case]]:
    """Trained with and without, and taken away from trained decoders."""
    base, deep = sink_ablation()['first token'], deep_sinks()
    return {
        'trained': [
            Case(name, arm, measure(arm.task is BACKCOPY, arm.prompt))
            for name, arm in sink_ablation().items()
        ],
        'frozen': [
            Case('as trained', base, measure(True, None)),
            Case('first token hidden', base, hiding_first),
            Case('first token taken away', base, measure(False, None)),
            *(
                Case(name, arm, measure(False, arm.prompt))
                for name, arm in sink_replacement().items()
            ),
        ],
        'eight layers': [
            *(
                Case(name, arm, measure(arm.task is BACKCOPY, None))
                for name, arm in deep.items()
            ),
            Case(
                'first token taken away',
                deep['first token'],
                measure(False, None),
            ),
        ],
    }


_COLUMNS = {
    'loss': ('loss', 3),
    'loss_of_copies': ('loss of copies', 3),
    'generated_copies': ('copies when generating', 3),
    'sink_rate': ('sink rate', 2),
    'massive_ratio': ('largest over median activation', 0),
}
_LAST = {
    'residual': ('residual to rank one', 2),
    'effective_rank': ('effective rank', 1),
    'mean_cosine': ('mean cosine', 2),
    'spread': ('spread of a change', 4),
}


def show(result: dict[str, Any]) -> str:
    """Both groups as one table; ranks and spread after the last block."""
    heads = ['', *(name for name, _ in (*_COLUMNS.values(), *_LAST.values()))]
    rows = []
    for group, found in result['groups'].items():
        for name, figures in found.items():
            cells = [cell(figures[k], n) for k, (_, n) in _COLUMNS.items()]
            for key, (_, digits) in _LAST.items():
                cells.append(cell(at(figures[key], -1), digits))
            rows.append([f'{group}: {name}', *cells])
    return table(heads, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """Losses, where attention goes, and ranks and spread by layer."""
    figure, axes = plt.subplots(
        3, 4, figsize=(17, 12), layout='constrained',
        gridspec_kw={
            'width_ratios': [1.1, 1.4, 1, 1], 'height_ratios': [8, 7, 5],
        },
    )  # fmt: skip
    titles = {
        'trained': 'trained from the start',
        'frozen': 'trained with a first token, then changed',
        'eight layers': 'eight layers, trained from the start',
    }
    for row, (group, found) in zip(axes, result['groups'].items(), strict=True):
        names = list(found)
        colors = palette(len(names))
        points(row[0], found, 'loss', colors)
        row[0].set_title(titles[group], loc='left', fontsize=11)
        row[0].set_xlabel('loss, nats per token')
        stacked(row[1], found, ('first', 'inserted', 'nowhere', 'itself'))
        row[1].set_xlabel('where attention of ordinary tokens goes')
        for axis, key, label in (
            (row[2], 'residual', 'residual to rank one'),
            (row[3], 'spread', "spread of one token's change"),
        ):
            lines(axis, found, key, colors)
            axis.set_xlabel('after block')
            axis.set_ylabel(label)
    save(figure, path)


if __name__ == '__main__':
    main(
        Experiment('sink_ablation', cases(), draw, show),
        __doc__ or '',
    )
