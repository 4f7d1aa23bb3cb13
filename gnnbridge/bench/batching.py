"""The graphs of a task as batches that stay the same for a whole run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch_geometric.data import Batch, Data

from gnnbridge.bench.task import Splits

# How many times as large batches are that are only looked at: nothing is kept
# for gradients, and few large batches take half the time of many small ones.
_LARGER = 4


class Batches(NamedTuple):
    """The batches of each split.

    Attributes:
        train: Those to train on.
        val: Those that settings are chosen by.
        test: Those that are reported.
    """

    train: list[Batch]
    val: list[Batch]
    test: list[Batch]


def collate(splits: Splits, *, nodes: int, seed: int) -> Batches:
    """Puts graphs together once, for all steps.

    A training split with at most so many nodes becomes one batch; others become
    as few as hold no more, where a graph that is larger stands alone. Batches
    of the other splits hold up to four times as many.

    Args:
        splits: The graphs.
        nodes: How many nodes a batch to train on holds.
        seed: Of the order in which graphs to train on are put together.

    Raises:
        ValueError: If a split has no graphs.
    """
    for name, graphs in splits._asdict().items():
        if not graphs:
            raise ValueError(
                f"Expected the split '{name}' to hold a graph (got none). "
                f'Draw a larger task.'
            )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(splits.train), generator=generator).tolist()
    shuffled = [splits.train[place] for place in order]
    return Batches(
        *(
            [Batch.from_data_list(part) for part in _parts(graphs, held)]
            for graphs, held in (
                (shuffled, nodes),
                (splits.val, _LARGER * nodes),
                (splits.test, _LARGER * nodes),
            )
        )
    )


def to_device(batches: Batches, device: torch.device | str) -> Batches:
    """The same batches, on a device."""
    return Batches(*([one.to(device) for one in part] for part in batches))


def order_of_batches(count: int, *, seed: int) -> Iterator[int]:
    """The numbers of the batches, each once in every round, without end.

    Args:
        count: How many batches there are.
        seed: Of the order within the rounds.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


def _parts(graphs: Sequence[Data], nodes: int) -> list[list[Data]]:
    parts: list[list[Data]] = []
    held = 0
    for graph in graphs:
        size = int(graph.num_nodes)
        if not parts or held + size > nodes:
            parts.append([])
            held = 0
        parts[-1].append(graph)
        held += size
    return parts
