"""Whether a model runs on inserted tokens as on any others."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gnnbridge.models.support import run_once
from gnnbridge.models.tokens.entry import Entry
from gnnbridge.models.tokens.layout import lay_out
from gnnbridge.models.tokens.settings import TokenSettings

# Relative to the largest output, as for conversions: measured errors are near
# 1e-6 in float32. In half precision rounding would hide what is wrong.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}
_LENGTH = 8
_KNOWN = 1


def check_insertion(entry: Entry, settings: TokenSettings) -> None:
    """Runs a token of the vocabulary both ways: inserted, and as an id.

    Raises:
        ValueError: If the tokens do not fit the model's context.
        NotImplementedError: If the model is not causal, or the two differ.
    """
    ids = _two_sequences(entry, _length(entry, settings))
    real = torch.ones_like(ids, dtype=torch.bool)
    layout = lay_out(settings, real, real.sum(1))
    one = torch.full_like(ids[:, :1], _KNOWN).expand(-1, settings.num_tokens)
    expected = _run(entry, layout.extend(one, ids))
    last = int(layout.original[0, -1])
    _refuse_difference(
        entry,
        expected[0, :last],
        expected[1, :last],
        'a causal language model',
        'whose outputs depend on later tokens',
    )
    known = replace(settings, pause_id=_KNOWN, sink_id=_KNOWN)
    entry.install(entry.tokens(known, {}))
    try:
        found = _run(entry, ids)
    except Exception as error:  # architectures fail in ways of their own
        raise NotImplementedError(
            f'Expected a model that runs on embeddings without ids (got '
            f"'{type(entry.model).__name__}', which fails). This architecture "
            f'cannot have inserted tokens.'
        ) from error
    finally:
        entry.uninstall(entry.model)
    index = layout.readout.to(expected.device).unsqueeze(-1)
    _refuse_difference(
        entry,
        expected.gather(1, index.expand(-1, -1, expected.size(-1))),
        found,
        'a model that does nothing with ids but embed them',
        'which gives other outputs for the same embeddings',
    )


def _length(entry: Entry, settings: TokenSettings) -> int:
    """Number of tokens to try with."""
    size = max(_LENGTH, settings.min_length)
    if entry.context is not None:
        size = min(size, entry.context - settings.num_tokens)
    if size < settings.min_length:
        raise ValueError(
            f'Expected tokens that fit the context of {entry.context} (got '
            f'{settings}). Insert fewer, or choose lower positions.'
        )
    return size


def _two_sequences(entry: Entry, size: int) -> Tensor:
    """Sequences ``[2, T]`` that differ in their last tokens."""
    ids = torch.arange(size, device=entry.vocabulary.device) * 7 + 3
    ids = ids.repeat(2, 1)
    ids[1, -1] += 1
    return ids % entry.vocabulary.size


def _run(entry: Entry, ids: Tensor) -> Tensor:
    inputs = {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}
    return run_once(entry.model, inputs)


def _refuse_difference(
    entry: Entry, expected: Tensor, found: Tensor, wanted: str, but: str
) -> None:
    tolerance = _TOLERANCE.get(expected.dtype)
    if tolerance is None or expected.numel() == 0:
        return
    error = (expected - found).abs().max() / expected.abs().max()
    if not error <= tolerance:
        raise NotImplementedError(
            f"Expected {wanted} (got '{type(entry.model).__name__}', {but}: "
            f'the relative error is {float(error):.1e}). This architecture '
            f'cannot have inserted tokens.'
        )
