"""Last-token collapse: how much of a long input the last state still tells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from gnnbridge.diagnostics.collapse import (
    Pair,
    collapse_slope,
    precision_length,
    representation_collapse,
    state_distance,
)
from gnnbridge.diagnostics.sharpness import nearest_neighbor_distance
from gnnbridge.profiling.reading import reading_limit
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.last_states import (
    LastStates,
    dtype_name,
    in_dtype,
)
from gnnbridge.profiling.settings import ProfileSettings

_PAIRS: tuple[Pair, ...] = get_args(Pair)
_SHORTEST = 8
# Tokens of each sequence that one task passes, over its lengths.
_TASK_TOKENS = 512
# Shorter texts would give the same few windows again and again.
_FEWEST_WINDOWS = 2
_CURVES = ('l1', 'linf', 'l2', 'cosine', 'scale')
_NOT_CAUSAL = (
    'Expected a causal model, whose last token sees all others (got one in '
    'which tokens attend to later ones). Its last token is no summary.'
)


class Collapse:
    """The state of the last token for inputs that differ at their end.

    That is what the output head reads, after the final norm; beside it the
    L1 distance of what leaves the last block, before that norm. Sequences are
    windows of the text, at even distances on a circle, so that they overlap
    where the text is short; where it has less than two windows of the
    longest length, its tokens are drawn at random.
    """

    name = 'collapse'
    meaning = (
        'A prediction is made from the state of the last token alone. Where '
        'different inputs give the same state up to rounding, no readout can '
        'tell them apart; an average over n tokens moves by 1 / n.'
    )

    def sampler(self, settings: ProfileSettings) -> None:
        """Nothing: the text alone does not tell; see the tasks."""
        return None

    def tasks(self, subject: Subject) -> list[Task]:
        """Each pair in each precision, some lengths at a time."""
        if not subject.causal:
            raise NotImplementedError(_NOT_CAUSAL)
        lengths, own = _lengths(subject), _own_dtype(subject)
        weights = sum(p.numel() for p in subject.model.parameters())
        tasks = []
        for part in _parts(lengths):
            tokens = sum(lengths[k] for k in part)
            passes = float(tokens * subject.settings.collapse_sequences)
            states = 64 * subject.settings.batch_size * _width(subject)
            states *= subject.settings.max_tokens
            last = lengths[part[-1]]
            for pair in _PAIRS:
                for dtype in _dtypes(subject):
                    copied = 2 * weights if dtype != own else 0
                    run = partial(_distances, pair, dtype, part)
                    key = f'collapse/{pair} {dtype_name(dtype)} {last}'
                    tasks.append(Task(key, run, 2 * passes, states + copied))
        return tasks

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """The curves of each pair and precision, and the sharpness."""
        own = tally.under('collapse/')
        if not own.moments:
            return None
        lengths = _lengths(subject)
        curves: dict[str, Any] = {
            pair: {
                dtype_name(dtype): _curve(
                    own, f'{pair}/{dtype_name(dtype)}/', lengths
                )
                for dtype in _dtypes(subject)
                if f'{pair}/{dtype_name(dtype)}/l1' in own
            }
            for pair in _PAIRS
        }
        return {
            'lengths': lengths,
            'sequences': 'windows of the text'
            if _has_windows(subject)
            else 'tokens of the text, drawn at random',
            'state': 'what the output head reads, after the final norm',
            **curves,
            'sharpness': _sharpness_curve(own, lengths),
        }

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """Full collapse, and the slope of an average over all tokens."""
        return {'cosine': 1.0, 'distance': 0.0, 'slope': -1.0}


def _distances(
    pair: Pair, dtype: torch.dtype, part: Sequence[int], subject: Subject
) -> Samples:
    """Distances of the last states of a pair at some of the lengths."""
    lengths = _lengths(subject)
    chosen = [lengths[k] for k in part]
    sequences, others = _sequences(subject, lengths[-1])
    read = LastStates(in_dtype(subject.model, dtype), _most_tokens(subject))
    substitutes = others if pair == 'substitute_last' else None
    try:
        curve = representation_collapse(
            read, sequences, chosen, pair=pair, substitutes=substitutes
        )
    except RuntimeError as error:
        if dtype == _own_dtype(subject):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotImplementedError(
            f'Expected a model that runs in {dtype_name(dtype)} (got '
            f"'{type(subject.model).__name__}', which does not: {line}). Use "
            f'half_precision=False instead.'
        ) from error
    start = f'{pair}/{dtype_name(dtype)}/'
    found = {
        start + name: getattr(curve, name) for name in (*_CURVES, 'within')
    }
    # First and second input of a pair, length by length.
    leaving = read.leaving
    if len(leaving) == 2 * len(chosen):
        gaps = [
            state_distance(*both)['l1']
            for both in zip(leaving[::2], leaving[1::2], strict=True)
        ]
        found[f'{start}block_l1'] = torch.stack(gaps, dim=1)
    if pair == _PAIRS[0] and dtype == _own_dtype(subject):
        for name, values in _sharpness(read.states[::2]).items():
            found[f'sharpness/{name}'] = values
    return {
        f'collapse/{name}': _placed(values, part, len(lengths))
        for name, values in found.items()
    }


def _sharpness(states: Sequence[Tensor]) -> dict[str, Tensor]:
    """Distances among the states of different sequences, at each length."""
    found = [nearest_neighbor_distance(x) for x in states]
    return {
        'nearest': torch.stack([one.nearest for one in found], dim=1),
        'others': torch.stack([one.others for one in found], dim=1),
    }


def _placed(values: Tensor, part: Sequence[int], count: int) -> np.ndarray:
    """Columns ``[S, P]`` among those of all lengths, NaN elsewhere."""
    out = np.full((len(values), count), np.nan)
    out[:, list(part)] = values.double().numpy()
    return out


def _curve(own: Tally, start: str, lengths: list[int]) -> dict[str, Any]:
    l1 = own.mean(f'{start}l1')
    slope, error = collapse_slope(lengths, l1)
    found: dict[str, Any] = {
        **{name: own.mean(f'{start}{name}') for name in _CURVES},
        'l1_deviation': own.deviation(f'{start}l1'),
        'slope': slope,
        'slope_error': error,
        'reaches_precision_at': precision_length(
            lengths, own.mean(f'{start}within')
        ),
        'block_l1': None,
        'block_slope': None,
        'block_slope_error': None,
    }
    if f'{start}block_l1' in own:
        found['block_l1'] = own.mean(f'{start}block_l1')
        slope, error = collapse_slope(lengths, found['block_l1'])
        found |= {'block_slope': slope, 'block_slope_error': error}
    return found


def _sharpness_curve(own: Tally, lengths: list[int]) -> dict[str, Any] | None:
    if 'sharpness/nearest' not in own:
        return None
    nearest = own.mean('sharpness/nearest')
    others = own.mean('sharpness/others')
    apart = np.where(others > 0, others, np.nan)
    return {
        'lengths': lengths,
        'nearest_neighbor': nearest / apart,
        'nearest_neighbor_absolute': nearest,
        'mean_pair': others,
        'count': int(own.count('sharpness/nearest').max()),
    }


def _lengths(subject: Subject) -> list[int]:
    """Powers of two for which one token more is within the context."""
    most = subject.settings.collapse_tokens
    limit = reading_limit(subject.model, most + 1) - 1
    found = [_SHORTEST]
    while 2 * found[-1] <= limit:
        found.append(2 * found[-1])
    if limit < _SHORTEST:
        raise NotImplementedError(
            f'Expected a context of at least {_SHORTEST + 1} tokens (got '
            f'{limit + 1}), the shortest length of a collapse curve and one.'
        )
    return found


def _parts(lengths: list[int]) -> list[list[int]]:
    """Which lengths are measured together."""
    parts: list[list[int]] = []
    held = _TASK_TOKENS
    for k, length in enumerate(lengths):
        if held + length > _TASK_TOKENS:
            parts.append([])
            held = 0
        parts[-1].append(k)
        held += length
    return parts


def _pool(subject: Subject) -> Tensor:
    """All tokens of the text, without the tokenizer's first one."""
    first = subject.sequences[0][0]
    return torch.cat(
        [
            ids[int(subject.bos and bool(ids[0] == first)) :]
            for ids in subject.sequences
        ]
    )


def _has_windows(subject: Subject) -> bool:
    longest = _lengths(subject)[-1]
    return len(_pool(subject)) >= _FEWEST_WINDOWS * longest


def _sequences(subject: Subject, length: int) -> tuple[Tensor, Tensor]:
    """Sequences ``[S, T]``, and another token for every place of them."""
    pool, count = _pool(subject), subject.settings.collapse_sequences
    generator = torch.Generator().manual_seed(subject.settings.seed)
    kinds = pool.unique()
    if len(kinds) < 2:
        raise NotImplementedError(
            'Expected a text of at least two different tokens (got '
            f'{len(kinds)}). Give a longer text instead.'
        )
    if _has_windows(subject):
        start = torch.arange(count).unsqueeze(1) * len(pool) // count
        place = (start + torch.arange(length)) % len(pool)
    else:
        place = torch.randint(len(pool), (count, length), generator=generator)
    sequences = pool[place]
    if subject.bos:
        sequences[:, 0] = subject.sequences[0][0]
    step = torch.randint(1, len(kinds), sequences.shape, generator=generator)
    kind = torch.searchsorted(kinds, sequences).clamp(max=len(kinds) - 1)
    others = kinds[(kind + step) % len(kinds)]
    return sequences, others


def _dtypes(subject: Subject) -> list[torch.dtype]:
    """The precision of the model, and bfloat16 beside it."""
    own = _own_dtype(subject)
    if not subject.settings.half_precision or own == torch.bfloat16:
        return [own]
    return [own, torch.bfloat16]


def _own_dtype(subject: Subject) -> torch.dtype:
    dtype: torch.dtype = subject.model.dtype
    return dtype


def _most_tokens(subject: Subject) -> int:
    return subject.settings.batch_size * subject.settings.max_tokens


def _width(subject: Subject) -> int:
    config = subject.model.config.get_text_config()
    return int(getattr(config, 'hidden_size', 0) or 0)
