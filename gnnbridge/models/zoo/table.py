"""The outcomes of the last sweep, as they ship with the package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import torch
import transformers

from gnnbridge.models.zoo.sweep import Entry

_FILE = 'results.json'
_COLUMNS = (
    'model_type', 'runs as', 'error', 'left-padded', 'rewired', 'generation',
)  # fmt: skip


def shipped() -> dict[str, Any]:
    """The shipped sweep: ``transformers``, ``torch`` and ``entries``."""
    text = files('gnnbridge.models.zoo').joinpath(_FILE).read_text('utf-8')
    return json.loads(text)


def result(entries: Iterable[Entry]) -> dict[str, Any]:
    """A sweep in the form of the shipped one."""
    return {
        'transformers': transformers.__version__,
        'torch': torch.__version__,
        'entries': [entry.to_dict() for entry in entries],
    }


def not_swept(swept: dict[str, Any]) -> str | None:
    """A line that says so if another version of transformers was swept."""
    installed = transformers.__version__
    if swept['transformers'] == installed:
        return None
    return (
        f'transformers {installed} was never swept; this is '
        f"{swept['transformers']}. 'gnnbridge models --sweep' sweeps it."
    )


def rows(swept: dict[str, Any]) -> list[dict[str, str]]:
    """One row for each architecture, all of text."""
    return [
        dict(zip(_COLUMNS, _cells(entry), strict=True))
        for entry in swept['entries']
    ]


def counts(swept: dict[str, Any]) -> dict[str, int]:
    """How many architectures have each status."""
    found: dict[str, int] = {}
    for entry in swept['entries']:
        found[entry['status']] = found.get(entry['status'], 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def markdown(swept: dict[str, Any]) -> str:
    """The table as a page."""
    total = ', '.join(f'{n} {status}' for status, n in counts(swept).items())
    lines = [
        '# Causal language models of transformers '
        f'{swept["transformers"]}, tiny and random',
        '',
        'Written by `gnnbridge models --sweep --out DIR`. Each is built from a '
        'small config with weights at which windows, softcaps and sinks bite, '
        'converted, and compared with itself: `messages` is message passing, '
        '`mask` dense attention on which graphs are imposed. Errors are those '
        'of logits relative to the largest, float32: unpadded, left-padded, '
        'and of both when rewired to its own graph. Generation is greedy with '
        'a KV cache.',
        '',
        f'{len(swept["entries"])} entries: {total}.',
        '',
        f'| {" | ".join(_COLUMNS)} | |',
        '|---|---|---|---|---|---|---|',
    ]
    for entry, row in zip(swept['entries'], rows(swept), strict=True):
        lines.append(f'| {" | ".join(row.values())} | {_remark(entry)} |')
    return '\n'.join(lines) + '\n'


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    generated = {True: 'same', False: 'other', None: ''}
    return (
        entry['model_type'],
        entry['status'],
        _number(entry.get('error')),
        _number(entry.get('padded_error')),
        _number(entry.get('rewired_error')),
        generated[entry.get('generated')],
    )


def _number(error: float | None) -> str:
    return '' if error is None else f'{error:.1g}'


def _remark(entry: dict[str, Any]) -> str:
    remarks = list(entry.get('notes', ()))
    if entry['status'] not in ('messages', 'mask'):
        remarks.insert(0, entry.get('reason', ''))
    elif entry.get('isolated') is False:
        remarks.insert(0, 'tokens are mixed by other means too')
    return '; '.join(remarks).replace('|', '/')
