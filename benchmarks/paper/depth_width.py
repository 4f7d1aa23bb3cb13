"""What do depth and width cost: mixing against collapse, and over-squashing?

    python benchmarks/paper/depth_width.py

Decoders on key-value retrieval: depth at one width, width at one depth, and
depth at one number of parameters. Measures answers by number of bindings and
under noise, how alike states become from block to block, and how much the last
token hears of the binding that it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from answering import FEW, NOISE, accuracy, fidelity, influence, questions
from drawing import by_length, lines, palette, plt, save
from experiments import SHAPES, sizes
from mixing import collapse
from running import Case, Experiment, at, cell, main, rate_of, table
from transformers import PreTrainedModel


def measure(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """Everything that is measured of a decoder."""
    asked = questions(FEW.trained, rows=64, seed=9, asking=FEW)
    return {
        **accuracy(model, FEW),
        **fidelity(model, FEW),
        **influence(model, FEW),
        'readable': readable(model),
        **collapse(model, asked.ids, None, 1),
    }


@torch.no_grad()
def readable(model: PreTrainedModel) -> float:
    """Which share of keys and values can still be told under the noise.

    By the nearest embedding, one token at a time: what narrow embeddings lose
    before any attention. A binding and its question take three such tokens.
    """
    table = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(10)
    scale = NOISE * table.std()  # as in `answers`
    found = []
    for first in (FEW.vocabulary.first_key, FEW.vocabulary.first_value):
        own = table[first : first + FEW.vocabulary.num_symbols]
        rows = own.repeat(256, 1)
        noise = scale * torch.randn(rows.shape, generator=generator)
        nearest = torch.cdist(rows + noise, own).argmin(1)
        found.append(nearest == torch.arange(len(own)).repeat(256))
    return torch.cat(found).float().mean().item()


def cases() -> dict[str, list[Case]]:
    """All shapes once; groups share the one in the middle."""
    return {'all': [Case(name, arm, measure) for name, arm in sizes().items()]}


def show(result: dict[str, Any]) -> str:
    """One line for each shape."""
    heads = [
        'layers x width', 'parameters', 'rate', '8 bindings', '16 bindings',
        '8, noise', '16, noise', 'tokens told under noise',
        'nearest neighbour, 8',
        'gold over others (Jacobian)', 'residual to rank one, last',
        'effective rank, last', 'mean cosine, last',
    ]  # fmt: skip
    rows = []
    for group, names in SHAPES.items():
        for name in names:
            f = result['groups']['all'][name]
            cells = [
                f'{f["parameters"]["mean"]:.0f}',
                f'{rate_of(f):g}',
                cell(f['accuracy']['8']),
                cell(f['accuracy']['16']),
                cell(f['under_noise']['8']),
                cell(f['under_noise']['16']),
                cell(f['readable'], 3),
                cell(f['nearest']['8']),
                cell(f['gold_over_others']),
            ]
            for key, digits in (
                ('residual', 2), ('effective_rank', 1), ('mean_cosine', 2)
            ):  # fmt: skip
                cells.append(cell(at(f[key], -1), digits))
            rows.append([f'{group}: {name}', *cells])
    return table(heads, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """A row for each way to change the shape."""
    figure, axes = plt.subplots(
        len(SHAPES), 4, figsize=(17, 4 * len(SHAPES)), layout='constrained'
    )
    for row, (group, names) in zip(axes, SHAPES.items(), strict=True):
        found = {name: result['groups']['all'][name] for name in names}
        colors = palette(len(found))
        by_length(row[0], found, 'accuracy', colors)
        row[0].set_title(group, loc='left')
        row[0].set_ylabel('right answers')
        by_length(row[1], found, 'under_noise', colors)
        row[1].set_ylabel('right answers under noise')
        for axis, key, label in (
            (row[2], 'residual', 'residual to rank one'),
            (row[3], 'effective_rank', 'effective rank'),
        ):
            for name, color in zip(names, colors, strict=True):
                # Blocks as a share of all, so that depths lie together.
                count = len(found[name][key]['mean'])
                share = torch.linspace(0, 1, count).tolist()
                lines(axis, {name: found[name]}, key, [color], share)
            axis.set_xlabel('share of the blocks')
            axis.set_ylabel(label)
    save(figure, path)


if __name__ == '__main__':
    main(Experiment('depth_width', cases(), draw, show), __doc__ or '')
