"""Where should pause tokens stand: before the prompt, after it, or both?

    python benchmarks/paper/pause_placement.py

Decoders that answer one key of a key-value prompt, with four pause tokens
before the prompt, four after it, two and two, or none: trained on with them
from a decoder that retrieves already; frozen but for the pauses; and trained
with them from the first step. Measures answers by number of bindings, by place
and under noise, how far apart the last states of prompts lie that differ in
the last token alone, and the causal resistance between the token that answers
and all others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from answering import USUAL, accuracy, fidelity, influence, questions
from arms import baseline
from drawing import by_length, lines, palette, plt, save
from experiments import (
    PAUSES,
    pauses_continued,
    pauses_from_scratch,
    pauses_frozen,
)
from influence import last_token_resistance
from running import Case, Experiment, cell, main, table
from tasks import RETRIEVAL
from transformers import PreTrainedModel


def measure(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """Everything that is measured of a decoder."""
    return {
        **accuracy(model),
        **fidelity(model),
        **influence(model),
        'resistance': resistance(model),
    }


def resistance(model: PreTrainedModel) -> dict[str, float]:
    """Causal resistance from the token that answers, by number of bindings.

    The harmonic mean over all other tokens that were given, 32 sequences and
    layers: the inverse of the mean conductance, which no single token that is
    out of reach makes infinite.
    """
    found = {}
    for pairs in USUAL.lengths[1:]:
        asked = questions(pairs, rows=32, seed=6)
        each = last_token_resistance(model, asked.ids)[..., :-1]
        found[str(pairs)] = 1 / (1 / each).mean().item()
    return found


def cases() -> dict[str, list[Case]]:
    """All three ways to come by the pauses."""
    groups = {
        'trained on': pauses_continued(),
        'frozen': {'none': baseline(RETRIEVAL), **pauses_frozen()},
        'from scratch': pauses_from_scratch(),
    }
    return {
        group: [Case(name, arm, measure) for name, arm in arms.items()]
        for group, arms in groups.items()
    }


def show(result: dict[str, Any]) -> str:
    """One line for each arm."""
    heads = [
        '', '16 bindings', '31 bindings', '16, noise', '31, noise',
        'first minus last four places, noise', 'nearest neighbour, 16',
        'nearest neighbour, 31', 'resistance, 16', 'resistance, 31',
    ]  # fmt: skip
    rows = []
    for group, found in result['groups'].items():
        for name, f in found.items():
            pairs = [
                f[key][n]
                for key in ('accuracy', 'under_noise')
                for n in ('16', '31')
            ]
            pairs.append(f['first_minus_last'])
            pairs += [f['nearest'][n] for n in ('16', '31')]
            cells = [cell(one) for one in pairs]
            cells += [cell(f['resistance'][n], 0) for n in ('16', '31')]
            rows.append([f'{group}: {name}', *cells])
    return table(heads, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """A row for each way, columns for answers, places, states, resistance."""
    figure, axes = plt.subplots(3, 5, figsize=(19, 11), layout='constrained')
    known = dict(zip(('none', *PAUSES), palette(4), strict=True))
    for row, (group, found) in zip(axes, result['groups'].items(), strict=True):
        colors = [known[name] for name in found]
        by_length(row[0], found, 'accuracy', colors)
        row[0].set_title(group, loc='left')
        row[0].set_ylabel('right answers')
        by_length(row[1], found, 'under_noise', colors)
        row[1].set_ylabel('right answers under noise')
        lines(row[2], found, 'curve', colors)
        row[2].set_ylabel('right answers under noise')
        row[2].set_xlabel('place of the binding, of 16')
        by_length(row[3], found, 'nearest', colors)
        row[3].set_ylabel('distance of last states')
        by_length(row[4], found, 'resistance', colors)
        row[4].set_ylabel('resistance of the answering token')
    save(figure, path)


if __name__ == '__main__':
    main(Experiment('pause_placement', cases(), draw, show), __doc__ or '')
