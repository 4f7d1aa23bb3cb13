"""All that is measured on one model, kept in a file of its own.

A run that was ended goes on with what is missing. New weights under an old
name are measured again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from .agreement import agreement
from .collapse import collapse
from .knockout import knockout_energies, knockout_norms
from .measured import Measured, jacobian_norms, probed_norms
from .scores import FULL, Scores, all_scores
from .sources import source_figures
from .subjects import MANY_TEXTS, TEXTS, Subject, loss_of, texts_of

PROBES = (1, 4, 16)
# Of models on which the reference is measured too.
PROBED = ('embedded-0', 'gpt2-0')
JACOBIAN = 'measured Jacobian norm'


def measure(subject: Subject, folder: Path) -> dict[str, Any]:
    """The figures of a model, from its file as far as they are there."""
    model = subject.load().eval()
    path = folder / f'{subject.name}.json'
    record = _start(subject, model)
    if path.is_file():
        old = json.loads(path.read_text())
        if old['weights'] == record['weights']:
            record = {**record, **old}
    texts = texts_of(subject, TEXTS)
    truths = [
        _truth(model, ids, record, folder / f'{subject.name}-{number}.pt')
        for number, ids in enumerate(tqdm(texts, 'Jacobians', leave=False))
    ]
    record['relative_error'] = [truth.relative_error for truth in truths]
    pairwise = {'jacobian', 'knockout', 'sources'} & set(subject.parts)
    if not pairwise <= record.keys():
        record.update(_pairwise(subject, model, texts, truths, folder))
        _write(path, record)
    if 'collapse' in subject.parts and 'collapse' not in record:
        record['collapse'] = collapse(model, texts_of(subject, MANY_TEXTS))
        _write(path, record)
    return record


def _pairwise(
    subject: Subject,
    model: PreTrainedModel,
    texts: Tensor,
    truths: list[Measured],
    folder: Path,
) -> dict[str, Any]:
    """Scores beside the norms and beside knock-outs, on every text."""
    found: dict[str, Any] = {part: [] for part in subject.parts}
    found.pop('collapse', None)
    hops, full = [], []
    pairs = zip(texts.unsqueeze(1), truths, strict=True)
    for ids, truth in tqdm(pairs, 'scores', len(texts), leave=False):
        scores, graphs = all_scores(model, ids)
        hops.append(graphs.hops)
        full.append(scores.get(FULL))
        reference: Scores = {}
        if subject.name in PROBED:
            reference = {
                f'{count} random probes': probed_norms(model, ids, count)
                for count in PROBES
            }
        judged = {**scores, **reference}
        found['jacobian'].append(_against(judged, truth.norm))
        if 'knockout' in found:
            found['knockout'].append(_knockout(model, ids, scores, truth))
        if 'sources' in found:
            found['sources'].append(
                source_figures(graphs, scores.get(FULL), truth.norm)
            )
    if full[0] is not None:
        torch.save(torch.stack(full), folder / f'{subject.name}-full.pt')
    return {**found, 'hops': hops}


def _knockout(
    model: PreTrainedModel, ids: Tensor, scores: Scores, truth: Measured
) -> dict[str, Any]:
    """Scores beside knock-outs, none if the model takes no such mask."""
    judged = {JACOBIAN: truth.norm, **scores}
    if FULL in scores:
        judged.update(knockout_energies(model, ids))
    try:
        return _against(judged, knockout_norms(model, ids))
    except NotImplementedError as error:
        print(f'No knock-outs: {error}')
        return {}


def _against(scores: Scores, truth: Tensor) -> dict[str, Any]:
    return {
        name: {
            'without_token_0': agreement(score, truth),
            'with_token_0': agreement(score, truth, first=0),
        }
        for name, score in scores.items()
    }


def _truth(
    model: PreTrainedModel, ids: Tensor, record: dict[str, Any], path: Path
) -> Measured:
    """The norms of one text, from its file if it has one."""
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        if kept['weights'] == record['weights'] and kept['ids'].equal(ids):
            return Measured(kept['norm'], kept['error'])
    truth = jacobian_norms(model, ids.unsqueeze(0))
    torch.save(
        {
            'weights': record['weights'],
            'ids': ids,
            'norm': truth.norm,
            'error': truth.error,
        },
        path,
    )
    return truth


def _start(subject: Subject, model: PreTrainedModel) -> dict[str, Any]:
    config = model.config
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().contiguous().numpy().tobytes())
    return {
        'group': subject.group,
        'seed': subject.seed,
        'kind': subject.kind,
        'model': type(model).__name__,
        'layers': config.num_hidden_layers,
        'width': config.hidden_size,
        'heads': config.num_attention_heads,
        'loss': loss_of(subject, model),
        'weights': digest.hexdigest()[:16],
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    """At once, so that a run that is ended leaves a whole file."""
    part = path.with_suffix('.part')
    part.write_text(json.dumps(record, indent=1) + '\n')
    part.replace(path)
