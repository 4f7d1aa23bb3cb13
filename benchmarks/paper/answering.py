"""What decoders answer when they are asked for one key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from influence import last_token_jacobian, sharpness_states
from scipy.stats import spearmanr
from tasks import FEW_PAIRS, FEW_SYMBOLS, PAIRS, VOCABULARY
from torch import Generator, Tensor
from transformers import PreTrainedModel

from gnnbridge.datasets.retrieval import (
    absent_key_control,
    key_value_retrieval,
)
from gnnbridge.datasets.vocabulary import StreamVocabulary
from gnnbridge.diagnostics.retrieval import retrieval_curve
from gnnbridge.diagnostics.sharpness import nearest_neighbor_distance
from gnnbridge.models.embedded.figures import (
    accuracy_by_position,
    answers,
    pick_rate,
)

NOISE = 1.0
ROWS = 512


@dataclass(frozen=True)
class Asking:
    """What decoders are asked.

    Attributes:
        vocabulary: The tokens that it is written in.
        lengths: How many bindings are given.
        trained: The most that was trained on.
    """

    vocabulary: StreamVocabulary
    lengths: tuple[int, ...]
    trained: int


USUAL = Asking(VOCABULARY, (4, 8, 16, 24, 31), PAIRS)
FEW = Asking(FEW_SYMBOLS, (2, 4, 8, 12, 16), FEW_PAIRS)


@dataclass(frozen=True)
class Questions:
    """Sequences that end with one asked key.

    Attributes:
        ids: Their tokens ``[B, 3 + 2 n]``.
        gold: The place of the binding that is asked for ``[B, 1]``.
        answer: The value that is right ``[B, 1]``.
    """

    ids: Tensor
    gold: Tensor
    answer: Tensor


def questions(
    pairs: int, rows: int = ROWS, seed: int = 1, asking: Asking = USUAL
) -> Questions:
    """Questions for places drawn uniformly, the same for every decoder."""
    generator = Generator().manual_seed(1000 * seed + pairs)
    batch = key_value_retrieval(
        rows, pairs, asking.vocabulary, generator=generator
    )
    gold = batch.gold[:, :1]
    return Questions(
        batch.input_ids[:, : batch.asked_at[0] + 1],
        gold,
        batch.values.gather(1, gold),
    )


@torch.no_grad()
def right(
    model: PreTrainedModel, asked: Questions, noise: float = 0.0
) -> Tensor:
    """Which answers are right ``[B, 1]``."""
    at = torch.tensor([asked.ids.size(1) - 1])
    generator = Generator().manual_seed(2)
    found = answers(model, asked.ids, at, noise=noise, generator=generator)
    return found == asked.answer


def accuracy(model: PreTrainedModel, asking: Asking = USUAL) -> dict[str, Any]:
    """Right answers by number of bindings, by place, and under noise."""
    found: dict[str, Any] = {'accuracy': {}, 'under_noise': {}}
    for pairs in asking.lengths:
        asked = questions(pairs, asking=asking)
        clean, noisy = right(model, asked), right(model, asked, NOISE)
        found['accuracy'][str(pairs)] = clean.float().mean().item()
        found['under_noise'][str(pairs)] = noisy.float().mean().item()
    return {**found, **by_place(model, asking)}


def by_place(
    model: PreTrainedModel, asking: Asking, rows: int = 2048
) -> dict[str, Any]:
    """The curve under noise, beside what is named for keys that are absent."""
    pairs = asking.trained
    asked = questions(pairs, rows, asking=asking)
    noisy = right(model, asked, NOISE)
    curve = accuracy_by_position(noisy, asked.gold, pairs)
    generator = Generator().manual_seed(3)
    control = absent_key_control(
        ROWS, pairs, asking.vocabulary, generator=generator
    )
    with torch.no_grad():
        named = answers(model, control.input_ids, control.asked_at)
    absent = pick_rate(named, control.values)
    found = retrieval_curve(
        curve,
        control=absent,
        questions=rows // pairs,
        control_questions=ROWS,
    )
    place = torch.arange(pairs)
    return {
        'curve': curve.tolist(),
        'absent': absent.tolist(),
        'u_depth': found.u_depth,
        'slope': float(spearmanr(place, curve).statistic),
        'first_minus_last': float(
            curve[: pairs // 4].mean() - curve[-pairs // 4 :].mean()
        ),
    }


def fidelity(model: PreTrainedModel, asking: Asking = USUAL) -> dict[str, Any]:
    """How well last tokens tell sequences apart that differ there alone.

    All keys of a sequence are asked for in turn, so that only the last token
    differs: the distance of each last state to its nearest neighbour, over
    its norm, mean over 16 sequences; by number of bindings.
    """
    nearest = {}
    for pairs in asking.lengths[1:]:
        asked = questions(pairs, rows=16, seed=4, asking=asking)
        distances = []
        for row in asked.ids:
            keys = row[1 : 1 + 2 * pairs : 2]
            rows = row.repeat(pairs, 1)
            rows[:, -1] = keys
            states = sharpness_states(model, rows)
            distances.append(nearest_neighbor_distance(states).nearest_mean)
        nearest[str(pairs)] = sum(distances) / len(distances)
    return {'nearest': nearest}


def influence(model: PreTrainedModel, asking: Asking = USUAL) -> dict[str, Any]:
    """How much the last token hears of the binding that it asks for.

    The norm of the derivative of its final state by the embedding of the
    right value, over the mean of those by the other values; and the same for
    the others by place, over their mean.
    """
    pairs = asking.trained
    asked = questions(pairs, rows=64, seed=5, asking=asking)
    norms = last_token_jacobian(model, asked.ids)
    values = norms[:, 2 : 2 + 2 * pairs : 2]
    gold = values.gather(1, asked.gold)
    mask = torch.ones_like(values).scatter(1, asked.gold, 0.0)
    others = (values * mask).sum(0) / mask.sum(0)
    mean = (values * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return {
        'gold_over_others': (gold / mean).median().item(),
        'others_by_place': (others / others.mean()).tolist(),
        'jacobian_of_gold': gold.mean().item(),
    }
