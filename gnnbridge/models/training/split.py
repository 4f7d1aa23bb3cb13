"""Which rows of a step each process takes, and what they weigh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from gnnbridge.models.training.mixture import StreamMixture

# The weight of a mean loss, and what to compute it from; None without labels.
Part: TypeAlias = tuple[float, Mapping[str, Any] | None]

_IGNORED = -100


@dataclass(frozen=True)
class SplitSteps(Dataset):
    r"""The steps of a mixture as one of several processes takes them.

    Each process draws the whole batch of a stream, so that all know its
    labels, and takes every ``size``-th row from ``rank`` on. A loss is a mean
    over labels, of which rows may have different numbers. With :math:`n_r` of
    :math:`n` labels in the rows of process :math:`r`,

    .. math::
        L = \frac{1}{W} \sum_r W \frac{n_r}{n} L_r

    so the mean over :math:`W` processes of losses with these weights is the
    loss of one process that takes all rows, and so is its gradient.

    Args:
        mixture: What to train on.
        rank: Number of this process.
        size: How many there are.
    """

    mixture: StreamMixture
    rank: int = 0
    size: int = 1

    def __getitem__(self, step: int) -> dict[str, Part]:
        """The part of this process in one step, by stream.

        Raises:
            ValueError: If a batch has no labels, fewer rows than there are
                processes, or tensors with another number of rows.
        """
        weights = {s.name: s.weight for s in self.mixture.streams}
        return {
            name: self._part(f"'{name}' at step {step}", weights[name], batch)
            for name, batch in self.mixture.step(step).items()
        }

    def _part(
        self, stream: str, weight: float, batch: Mapping[str, Any]
    ) -> Part:
        labels = batch.get('labels')
        if not isinstance(labels, Tensor):
            raise ValueError(
                f"Expected a tensor 'labels' in the batch of the stream "
                f'{stream} (got {sorted(batch)}). Return it with the other '
                f"arguments of the model's forward."
            )
        if self.size == 1:
            return weight, batch
        rows = labels.size(0)
        if rows < self.size:
            raise ValueError(
                f'Expected a row for each of {self.size} processes in the '
                f'batch of the stream {stream} (got {rows}). Draw more rows, '
                f'or start fewer processes.'
            )
        own = {
            name: self._rows(stream, name, value, rows)
            for name, value in batch.items()
        }
        count, of_own = _count(labels), _count(own['labels'])
        if count == 0:  # not a number, as it would be in one process
            return weight, own
        share = self.size * of_own / count
        return weight * share, own if of_own else None

    def _rows(self, stream: str, name: str, value: Any, rows: int) -> Any:
        if not isinstance(value, Tensor) or value.dim() == 0:
            return value
        if value.size(0) == rows:
            return value[self.rank :: self.size]
        if value.size(0) == 1:  # one for all rows
            return value
        raise ValueError(
            f"Expected the {rows} rows of the batch first in '{name}' of the "
            f'stream {stream} (got shape {list(value.shape)}), of which each '
            f'of {self.size} processes takes some.'
        )


def _count(labels: Tensor) -> int:
    """How many tokens are predicted: the first of a row is not."""
    return int((labels[:, 1:] != _IGNORED).sum())
