"""Inserted tokens by hand: a list for each sequence, and no code of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

REQUIRED = ['gpt2', 'llama', 'gpt_neox', 'gemma2', 'qwen3', 'gpt_oss']


@dataclass
class Places:
    """Tokens ``('sink', 0)``, ``('pause', 0)``, ... before each real token.

    The last list holds what stands at the end of the prompt.
    """

    prepend: int = 0
    append: int = 0
    sinks: list[int] = field(default_factory=list)

    def sequence(self, size: int, prompt: int) -> list[tuple[str, int]]:
        """What a sequence of ``size`` real tokens becomes."""
        out: list[tuple[str, int]] = []
        pauses = [('pause', k) for k in range(self.prepend + self.append)]
        sinks = list(enumerate(self.sinks))
        for place in range(size + 1):
            out += [('sink', k) for k, where in sinks if where == place]
            out += pauses[: self.prepend] if place == 0 else []
            out += pauses[self.prepend :] if place == prompt else []
            out += [('token', place)] if place < size else []
        return out


@dataclass
class ByHand:
    """A batch with tokens in it, as a plain model takes it."""

    inputs: dict[str, Any]
    sequences: list[list[tuple[str, int]]]
    padding: list[int]
    prompts: list[int]
    places: Places

    def slot(self, row: int, what: tuple[str, int]) -> int:
        return self.padding[row] + self.sequences[row].index(what)

    def logits(self, model: Any) -> list[Tensor]:
        """Logits of the real tokens of each sequence."""
        out = model(**self.inputs).logits
        found = []
        for row, sequence in enumerate(self.sequences):
            size = sum(kind == 'token' for kind, _ in sequence)
            read = [('token', k) for k in range(size)]
            if self.places.append:
                last = self.places.prepend + self.places.append - 1
                read[self.prompts[row] - 1] = ('pause', last)
            index = torch.tensor([self.slot(row, what) for what in read])
            found.append(out[row, index])
        return found


def by_hand(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    places: Places,
    *,
    pause: Tensor,
    sink: Tensor,
    prompts: list[int] | None = None,
) -> ByHand:
    """A left-padded batch with ``pause [rows, d]`` and ``sink [rows, d]``."""
    embedded = model.get_input_embeddings()(ids)
    counts = mask.sum(1).tolist()
    prompts = counts if prompts is None else prompts
    rows, sequences, positions = [], [], []
    for row, count in enumerate(counts):
        first = ids.size(1) - count
        one_of = {
            'pause': pause.expand(places.prepend + places.append, -1),
            'sink': sink,
            'token': embedded[row, first:],
        }
        sequence = places.sequence(count, prompts[row])
        vectors = [one_of[kind][k] for kind, k in sequence]
        rows.append(torch.stack([*embedded[row, :first], *vectors]))
        sequences.append(sequence)
        positions.append([0] * first + list(range(len(sequence))))
    full = torch.stack(rows)
    new_mask = torch.ones(full.shape[:2], dtype=torch.long)
    padding = [ids.size(1) - count for count in counts]
    for row, count in enumerate(padding):
        new_mask[row, :count] = 0
    inputs = {
        'inputs_embeds': full,
        'attention_mask': new_mask,
        'position_ids': torch.tensor(positions),
    }
    return ByHand(inputs, sequences, padding, prompts, places)


def loss_by_hand(logits: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Mean loss over all labels of all sequences but the first of each."""
    scores = torch.cat([row[:-1] for row in logits])
    return cross_entropy(scores.float(), torch.cat([x[1:] for x in labels]))
