"""Runway: how much each position counts for the last token, and why."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.datasets.duplicates import (
    duplicate_keys,
    ends_and_middle,
    every_key,
)
from gnnbridge.diagnostics.position_bias import (
    duplicate_key_preference,
    noise_stress,
    position_correlation,
)
from gnnbridge.diagnostics.runway import (
    birth_influence,
    runway,
    runway_asymmetry,
)
from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.graph.schema import is_causal
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.asking import Bindings, answers, bindings
from gnnbridge.profiling.sections.layer_samples import sequences_of
from gnnbridge.profiling.settings import ProfileSettings

_MEASURED = ('rollout', 'received_attention')
_COMPARISONS = ('first_last', 'first_middle', 'middle_last')
_NOT_CAUSAL = (
    'Expected a causal model (got one in which tokens attend to later ones). '
    'Without an order of tokens there is no runway.'
)


class Runway:
    """Influence on the last token by position, measured and in theory.

    Curves by position are of the commonest length of a sequence; asymmetry
    and rank correlation of what is sampled are means over the sequences of
    all lengths. An asymmetry is ``None`` where one end is out of reach, as
    with windows. Path counts, and the influence at birth, are those of full
    causal attention in all attention layers: they know neither windows nor
    the other mixers of hybrid models.
    """

    name = 'runway'
    meaning = (
        'In a causal graph early tokens reach the readout on many more paths '
        'than late ones. Whether that makes them count for more depends on '
        'what attention and residual stream do with it.'
    )

    def sampler(self, settings: ProfileSettings) -> InfluenceSampler:
        """A fresh listener for one batch."""
        return InfluenceSampler()

    def tasks(self, subject: Subject) -> list[Task]:
        """Keys that are bound twice, and retrieval under noise."""
        if not subject.causal:
            raise NotImplementedError(_NOT_CAUSAL)
        settings, how = subject.settings, bindings(subject)
        rows = len(_COMPARISONS) * settings.questions
        short = 2 * how.pairs + 3
        tasks = [
            Task(
                'runway/duplicate keys',
                partial(_duplicates, how),
                float(rows * short),
                _memory(subject, short),
            )
        ]
        for number, sigma in enumerate(settings.noise):
            tasks.append(
                Task(
                    f'runway/noise {sigma:g}',
                    partial(_noise, how, number),
                    float(settings.questions * how.most_tokens),
                    _memory(subject, how.most_tokens),
                )
            )
        return tasks

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """What was found, at the commonest length of a sequence."""
        own = tally.under('runway/')
        if not own.moments:
            return None
        tokens, layers = _commonest_length(own), subject.num_layers
        influence: dict[str, Any] = {
            'jacobian': _jacobian(tally),
            **{
                name: _normalised(own, f'{name}/{tokens}') for name in _MEASURED
            },
            'birth': _birth(own, tokens),
        }
        bias = {
            name: None if curve is None else _bias(curve)
            for name, curve in influence.items()
        }
        for name in _MEASURED:
            if f'asymmetry/{name}' in own:  # of all lengths
                for what in ('asymmetry', 'spearman'):
                    mean = float(own.mean(f'{what}/{name}'))
                    bias[name] = {**(bias[name] or {}), what: mean}
        found: dict[str, Any] = {
            'tokens': tokens,
            'path_count_log10': None,
            'opportunities': None,
        }
        if tokens is not None:
            graph = runway(tokens, layers)
            found['path_count_log10'] = graph.path_count_log10
            found['opportunities'] = graph.opportunities
            counted = _bias(graph.path_count_log10.numpy())
            bias['path_count'] = {**counted, 'asymmetry': graph.asymmetry}
        return {
            **found,
            'mixing': own.mean('mixing') if 'mixing' in own else None,
            'influence': influence,
            **{
                name: {key: (row or {}).get(what) for key, row in bias.items()}
                for name, what in (
                    ('asymmetry', 'asymmetry'),
                    ('weakest_position', 'weakest'),
                    ('spearman_position', 'spearman'),
                )
            },
            'asymmetry_deviation': {
                name: float(own.deviation(f'asymmetry/{name}'))
                for name in _MEASURED
                if f'asymmetry/{name}' in own
            },
            'duplicate_key': _duplicate_key(own, subject),
            'noise': _noise_curve(own, subject),
        }

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """Uniform attention in every layer, mixed in as in the model."""
        own = tally.under('runway/')
        birth = _birth(own, _commonest_length(own))
        if birth is None:
            return {'birth': None, 'asymmetry': None}
        return {'birth': birth, 'asymmetry': _bias(birth)['asymmetry']}


class InfluenceSampler:
    r"""Rollout and received attention of a batch of sequences.

    - *Rollout*: the last row of :math:`\prod_l (\mathrm{diag}(1 - m_l) +
      \mathrm{diag}(m_l) A_l)`, with the measured mixing of every token
      (Herasimchyk et al., 2026).
    - *Received attention*: the share of the attention of all queries and
      layers that a token gets.

    The product is kept as it grows, one matrix :math:`N \times N` in float32
    for each sequence however many layers there are; each layer takes
    :math:`O(N^3)`. Curves are kept by the length of the sequence, since
    positions before the readout compare among sequences of one length alone.
    """

    def __init__(self) -> None:
        self._rollouts: list[Tensor | None] = []
        self._received: list[Tensor] = []
        self._mixing: list[list[float]] = []

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer.

        Raises:
            NotImplementedError: If it is not causal.
        """
        if not is_causal(graph):
            raise NotImplementedError(_NOT_CAUSAL)
        parts = sequences_of(graph)
        if not self._received:
            sizes = [int(part.num_nodes or 0) for part in parts]
            self._rollouts = [torch.eye(size) for size in sizes]
            self._received = [torch.zeros(size) for size in sizes]
            self._mixing = [[] for _ in sizes]
        for number, part in enumerate(parts):
            self._add(number, part)

    def _add(self, number: int, part: Data) -> None:
        size = len(self._received[number])
        A = edges_to_dense(part.edge_index, part.edge_weight.float(), size)
        self._received[number] += A.sum(0)
        rollout, mixing = self._rollouts[number], part.get('mixing')
        if mixing is None or rollout is None:
            # A product without one of its layers is none.
            self._rollouts[number] = None
            return
        self._mixing[number].append(float(mixing.mean()))
        share = mixing.float().unsqueeze(1)
        self._rollouts[number] = rollout + share * (A @ rollout - rollout)

    def result(self, outgoing: list[Tensor]) -> Samples:
        """Samples of the batch."""
        rows: dict[str, list[np.ndarray]] = {}
        for received, rollout in zip(
            self._received, self._rollouts, strict=True
        ):
            found = {'received_attention': received}
            if rollout is not None:
                found['rollout'] = rollout[-1]
            for name, curve in found.items():
                share = (curve.double() / curve.double().sum()).numpy()
                bias = _bias(share)
                for what, value in (
                    (f'{name}/{len(share)}', share),
                    (f'asymmetry/{name}', bias['asymmetry']),
                    (f'spearman/{name}', bias['spearman']),
                ):
                    rows.setdefault(what, []).append(np.asarray(value))
        samples = {f'runway/{name}': np.stack(r) for name, r in rows.items()}
        if all(rollout is not None for rollout in self._rollouts):
            samples['runway/mixing'] = np.array(self._mixing)
        return samples


def _duplicates(how: Bindings, subject: Subject) -> Samples:
    """Which place is named of a key that is bound at two."""
    batch = duplicate_keys(
        len(_COMPARISONS) * subject.settings.questions,
        how.pairs,
        how.tokens,
        places=ends_and_middle(how.pairs),
        generator=torch.Generator().manual_seed(subject.settings.seed),
    )
    named = answers(
        subject.model,
        batch.input_ids,
        torch.tensor([batch.input_ids.size(1) - 1]),
        among=batch.values if how.among_values else None,
    )
    found = duplicate_key_preference(
        named[:, 0],
        batch.compared,
        batch.comparison,
        num_comparisons=len(_COMPARISONS),
    )
    # One row, so that sequences of the text are what a section counts.
    return {
        'runway/duplicate_key/earlier': found.earlier.numpy()[None],
        'runway/duplicate_key/later': found.later.numpy()[None],
    }


def _noise(how: Bindings, number: int, subject: Subject) -> Samples:
    """Accuracy by place with noise of one strength on the embeddings.

    Every place is asked for once in each of as many sequences as there are
    questions: places differ by less than retrieval does without noise.
    """
    settings = subject.settings
    generator = torch.Generator().manual_seed(settings.seed + number)
    batch = every_key(
        settings.questions, how.pairs, how.tokens, generator=generator
    )
    named = answers(
        subject.model,
        batch.input_ids,
        batch.asked_at,
        among=batch.values if how.among_values else None,
        noise=settings.noise[number],
        generator=generator,
    )
    right = named == batch.values.gather(1, batch.gold)
    found = noise_stress(right[None], batch.gold, how.pairs)
    accuracy = np.full((1, len(settings.noise), how.pairs), np.nan)
    accuracy[0, number] = found.accuracy[0].numpy()
    return {'runway/noise/accuracy': accuracy}


def _memory(subject: Subject, tokens: int) -> int:
    """Bytes of the states and logits that run together."""
    config = subject.model.config.get_text_config()
    width = getattr(config, 'hidden_size', 0) or 0
    vocabulary = getattr(config, 'vocab_size', 0) or 0
    logits = min(64 * tokens * vocabulary, max(1 << 26, tokens * vocabulary))
    return 8 * logits + 64 * 64 * tokens * int(width)


def _commonest_length(own: Tally) -> int | None:
    """The length of most sequences, the longest of equally common ones."""
    start = 'received_attention/'
    count = {
        int(name.removeprefix(start)): float(own.count(name).max())
        for name in own.moments
        if name.startswith(start)
    }
    return max(count, key=lambda n: (count[n], n), default=None)


def _normalised(own: Tally, name: str) -> np.ndarray | None:
    return own.mean(name) if name in own else None


def _jacobian(tally: Tally) -> np.ndarray | None:
    """Exact derivatives of the last token, made to sum to one."""
    name = 'squashing/jacobian_last'
    if name not in tally:
        return None
    norms = tally.mean(name)
    norms = norms[np.isfinite(norms)]
    total = norms.sum()
    return norms / total if total > 0 else None


def _birth(own: Tally, tokens: int | None) -> np.ndarray | None:
    if tokens is None or 'mixing' not in own:
        return None
    mixing = torch.from_numpy(own.mean('mixing'))
    if not bool(mixing.isfinite().all()):
        return None
    return birth_influence(tokens, len(mixing), mixing).numpy()


def _bias(curve: np.ndarray) -> dict[str, float]:
    """How a curve by position is summarised."""
    values = torch.from_numpy(curve)
    return {
        'asymmetry': runway_asymmetry(values),
        'weakest': int(values.argmin()),
        'spearman': float(position_correlation(values)),
    }


def _duplicate_key(own: Tally, subject: Subject) -> dict[str, Any] | None:
    if 'duplicate_key/earlier' not in own:
        return None
    how = bindings(subject)
    earlier = own.mean('duplicate_key/earlier')
    later = own.mean('duplicate_key/later')
    gaps = (earlier - later).tolist()
    return {
        'places': [0, how.pairs // 2, how.pairs - 1],
        'preferred': dict(zip(_COMPARISONS, gaps, strict=True)),
        'earlier': dict(zip(_COMPARISONS, earlier.tolist(), strict=True)),
        'answered_share': float((earlier + later).mean()),
        'pairs': how.pairs,
        'questions': len(_COMPARISONS) * subject.settings.questions,
        'answered': 'the bound values' if how.among_values else 'all tokens',
    }


def _noise_curve(own: Tally, subject: Subject) -> dict[str, Any] | None:
    if 'noise/accuracy' not in own:
        return None
    accuracy = own.mean('noise/accuracy')
    return {
        'sigmas': list(subject.settings.noise),
        'accuracy': accuracy,
        'spearman': position_correlation(torch.from_numpy(accuracy)),
        'questions': subject.settings.questions,
        'chance': 1 / accuracy.shape[1],
    }
