"""What a profile will cost, said before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnnbridge.datasets.corpus import Source, count_documents
from gnnbridge.profiling.memory import free_memory, in_words
from gnnbridge.profiling.processes import local_processes
from gnnbridge.profiling.reading import outputs
from gnnbridge.profiling.sampling import Task
from gnnbridge.profiling.settings import ProfileSettings

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

# Measured: what capture and the measures of a layer take, in forward passes.
_CAPTURE_PASSES = 12.0
_TIMED = 3
# Measured: bytes for each edge beside the attention of its heads, which is
# held in a few copies.
_EDGE_BYTES = 64
# Measured: compiled kernels, and libraries that are loaded on the way.
LIBRARY_BYTES = 256 << 20
_HEAD_COPIES = 5


class DoesNotFit(ValueError):
    """A profile needs more memory than there is; the message is one line."""


@dataclass(frozen=True)
class Costs:
    """What a model costs.

    Attributes:
        seconds_per_token: Of a forward pass.
        heads: The most heads of a layer.
        hidden_size: The width of its states.
        parameter_bytes: What its weights take.
        output_bytes: What its outputs take for a sequence.
    """

    seconds_per_token: float
    heads: int
    hidden_size: int
    parameter_bytes: int
    output_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a profile will take.

    Attributes:
        seconds: Wall time; ``None`` for a stream without a known end.
        memory: Bytes at most, beside the model that is there.
        sequences: How many sequences there are; ``None`` if unknown.
    """

    seconds: float | None
    memory: int
    sequences: int | None

    def line(self) -> str:
        """The estimate in words."""
        time = (
            'a time that is not known (the corpus has no known end)'
            if self.seconds is None
            else f'about {_duration(self.seconds)}'
        )
        return f'{time} and up to {in_words(self.memory)} of memory'


def costs_of(
    model: PreTrainedModel, sequence: Tensor, shape: tuple[int, int]
) -> Costs:
    """What a model costs on sequences such as one ``[N]``.

    Args:
        model: The model; it runs some times.
        sequence: The sequence.
        shape: The most heads of a layer, and the width of the states.
    """
    ids, seconds = sequence.unsqueeze(0).to(model.device), []
    for _ in range(_TIMED):
        start = time.perf_counter()
        _, values = outputs(model, ids)
        seconds.append(time.perf_counter() - start)
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    heads, hidden = shape
    return Costs(
        min(seconds) / len(sequence), heads, hidden, parameters,
        values.numel() * values.element_size(),
    )  # fmt: skip


def estimate(
    source: Source,
    tasks: Sequence[Task],
    costs: Costs,
    settings: ProfileSettings,
    shape: tuple[int, int],
) -> Estimate:
    """What a run will take on one process.

    Args:
        source: The corpus.
        tasks: The tasks of one subject.
        costs: What the model costs.
        settings: What is measured.
        shape: Tokens of a sequence, and how many of them a document gives.
    """
    tokens, pieces = shape
    sequences = _sequences(source, settings, pieces)
    subjects = 1 + settings.baseline
    per_task = sum(task.passes for task in tasks) * subjects
    seconds = None
    if sequences is not None:
        again = min(sequences, settings.baseline_sequences)
        read = tokens * (sequences + settings.baseline * again)
        passes = per_task + _CAPTURE_PASSES * read
        seconds = passes * costs.seconds_per_token
    batch = min(settings.batch_size, sequences or settings.batch_size)
    # Two outputs and their differences are held when they are compared.
    peaks = [capture_memory(costs, batch, tokens), 4 * costs.output_bytes]
    peaks += [task.memory for task in tasks]
    copies = settings.baseline * costs.parameter_bytes
    memory = max(peaks) + copies + LIBRARY_BYTES
    return Estimate(seconds, memory, sequences)


def capture_memory(costs: Costs, batch: int, tokens: int) -> int:
    """Bytes of the graphs of one layer and what is computed from them."""
    edges = batch * tokens * (tokens + 1) // 2
    per_edge = _EDGE_BYTES + 4 * _HEAD_COPIES * costs.heads
    return edges * per_edge + 16 * batch * tokens * costs.hidden_size


def room(device: torch.device, given: int | None) -> int | None:
    """Bytes that a process may take; ``None`` if unknown.

    Args:
        device: Where the model is; processes on the CPU share its memory.
        given: What the caller allows, if anything.
    """
    if given is not None:
        return given
    free = free_memory(device)
    if free is None or device.type != 'cpu':
        return free
    return free // local_processes()


def refuse_too_large(
    found: Estimate,
    free: int | None,
    costs: Costs,
    settings: ProfileSettings,
    shape: tuple[int, int],
) -> None:
    """Refuses what will not fit.

    Raises:
        DoesNotFit: With what would.
    """
    if free is None or found.memory <= free:
        return
    raise DoesNotFit(
        f'Expected a profile that fits into {in_words(free)} of free memory '
        f'(got one that needs up to {in_words(found.memory)}). '
        f'{_what_would(free, costs, settings, shape[0])}'
    )


def _what_would(
    free: int, costs: Costs, settings: ProfileSettings, tokens: int
) -> str:
    bare = free - LIBRARY_BYTES
    if bare <= 0:
        return f'No profile takes less than {in_words(LIBRARY_BYTES)}.'
    left = bare - settings.baseline * costs.parameter_bytes
    if left <= 0:
        return 'Leave out the baseline, which is a second model of its size.'
    most = left // max(capture_memory(costs, 1, tokens), 1)
    if settings.batch_size > most >= 1:
        return f'batch_size={most} would fit.'
    fitting = tokens
    while fitting > 2 and capture_memory(costs, 1, fitting) > left:
        fitting = int(fitting * 0.9)
    if fitting < tokens:
        return f'max_tokens={fitting} with batch_size=1 would fit.'
    smaller = max(settings.jacobian_tokens // 2, 2)
    return (
        f'Fewer diagnostics, or smaller tasks (jacobian_tokens={smaller}, '
        f'half_precision=False), need less.'
    )


def _sequences(
    source: Source, settings: ProfileSettings, pieces: int
) -> int | None:
    count = count_documents(source)
    if count is None:
        return settings.max_sequences
    count *= pieces
    if settings.max_sequences is None:
        return count
    return min(count, settings.max_sequences)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f'{max(math.ceil(seconds), 1)} s'
    minutes = seconds / 60
    return f'{minutes:.0f} min' if minutes < 90 else f'{minutes / 60:.1f} h'
