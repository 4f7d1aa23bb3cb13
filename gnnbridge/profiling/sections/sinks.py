"""Attention sinks: how strong, where, and of which kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.attention import (
    attention_entropy,
    sink_score,
    uniform_sink_score,
)
from gnnbridge.diagnostics.massive import massive_activations
from gnnbridge.diagnostics.sink_kinds import (
    key_norm_ratio,
    sink_kind,
    state_norm_ratio,
    value_norm_ratio,
)
from gnnbridge.diagnostics.sinks import (
    first_attention_rate,
    sink_edge_rate,
    sink_excess,
    sink_rates_by_token,
)
from gnnbridge.diagnostics.spread import (
    attention_span,
    inverse_participation,
    uniform_entropy,
    uniform_span,
)
from gnnbridge.graph.schema import is_causal
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.layer_samples import sequences_of, stacked
from gnnbridge.profiling.settings import ProfileSettings

# Gu et al., 2025, and Barbero et al., 2025.
_EPSILON, _STRICT = 0.3, 0.8
# Wu et al., 2025.
_TAU = 0.2
_FIRST = 16
_PER_LAYER = (
    'sink_rate',
    'sink_rate_strict',
    'sink_edge_rate',
    'first_attention_rate',
    'first_token_share',
    'state_norm_ratio',
    'massive_ratio',
    'massive_count',
)
_PER_HEAD = (
    'sink_score',
    'sink_excess',
    'entropy',
    'span',
    'inverse_participation',
    'value_norm_ratio',
    'key_norm_ratio',
    'query_key_cosine',
)


class Sinks:
    """Attention that gathers on the first token, per layer and head."""

    name = 'sinks'
    meaning = (
        'Heads with a sink send much of their attention to one token, mostly '
        'the first, whatever it says: those whose sink has a small value do '
        'nothing there, and the others read from it what it has gathered.'
    )

    def sampler(self, settings: ProfileSettings) -> SinkSampler:
        """A fresh listener for one batch."""
        return SinkSampler(settings.sink_tokens)

    def tasks(self, subject: Subject) -> list[Task]:
        """None: all is in the graphs."""
        return []

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """What was found."""
        own = tally.under('sinks/')
        if 'sink_score' not in own:
            return None
        # Rows were filled up to the layer with the most heads.
        heads = (own.count('sink_score') > 0).sum(1)
        found: dict[str, Any] = {
            'sink_tokens': subject.settings.sink_tokens,
            'shorter_sequences': round(own.moments['shorter'][1].item()),
            'layer': own.mean('number').astype(int).tolist(),
            'sink_rate_by_token': own.mean('sink_rate_by_token').tolist(),
        }
        for name in _PER_LAYER:
            found[name] = own.mean(name).tolist() if name in own else None
        for name in _PER_HEAD:
            found[name] = None
            if name in own:
                rows = zip(own.mean(name).tolist(), heads, strict=True)
                found[name] = [row[:size] for row, size in rows]
        return {**found, 'head_kind': _kinds(found)}

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """Attention that is even over all tokens that a query may see."""
        null = tally.under('sinks/null/')
        return {name: null.mean(name).item() for name in null.moments}


def _kinds(found: dict[str, Any]) -> list[list[str]]:
    scores, ratios = found['sink_score'], found['value_norm_ratio']
    if ratios is None:
        ratios = [[None] * len(row) for row in scores]
    return [
        [sink_kind(score, ratio) for score, ratio in zip(*rows, strict=True)]
        for rows in zip(scores, ratios, strict=True)
    ]


class SinkSampler:
    """Measures the sinks of a batch of sequences."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._layers: list[list[dict[str, Any]]] = []
        self._sizes: list[int] = []
        self._causal = True

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer."""
        causal = is_causal(graph)
        sequences = sequences_of(graph)
        self._causal = self._causal and causal
        self._sizes = [int(part.num_nodes or 0) for part in sequences]
        self._layers.append(
            [self._measured(part, causal) for part in sequences]
        )

    def result(self, outgoing: list[Tensor]) -> Samples:
        """Samples of the batch; the states that leave are not looked at."""
        samples = stacked(self._layers)
        if samples:
            by_token = samples['sink_rate_by_token'].mean(1)
            samples['sink_rate_by_token'] = by_token
        shorter = np.array(self._sizes) < self.tokens
        samples['shorter'] = shorter.astype(np.float64)
        nulls = [self._null(size) for size in self._sizes]
        for name in nulls[0] if nulls else ():
            samples[f'null/{name}'] = np.array([null[name] for null in nulls])
        return {f'sinks/{name}': rows for name, rows in samples.items()}

    def _measured(self, graph: Data, causal: bool) -> dict[str, Any]:
        """What is found of one sequence at one layer."""
        tokens = min(self.tokens, int(graph.num_nodes or 0))
        score = sink_score(graph, tokens=tokens)[0]
        found: dict[str, Any] = {
            'number': int(graph.layer),
            'sink_score': score,
            'sink_excess': sink_excess(graph, tokens=tokens, causal=causal)[0],
            'sink_rate': (score > _EPSILON).double().mean(),
            'sink_rate_strict': (score > _STRICT).double().mean(),
            'sink_edge_rate': sink_edge_rate(graph, tau=_TAU, tokens=tokens)[0],
            'first_attention_rate': first_attention_rate(graph, tokens=tokens)[
                0
            ],
            'sink_rate_by_token': sink_rates_by_token(
                graph, epsilon=_EPSILON, tokens=tokens, first=_FIRST
            )[0],
            'first_token_share': sink_score(graph, tokens=None).mean(),
            'entropy': attention_entropy(graph)[0],
            'span': attention_span(graph)[0],
            'inverse_participation': inverse_participation(graph)[0],
        }
        return {**found, **_vectors(graph), **_states(graph)}

    def _null(self, size: int) -> dict[str, float]:
        """The same of uniform attention over a sequence."""
        tokens, causal = min(self.tokens, size), self._causal
        return {
            'sink_score': uniform_sink_score(tokens) if causal else 1 / size,
            'first_token_share': (
                uniform_sink_score(size) if causal else 1 / size
            ),
            'entropy': uniform_entropy(size, causal=causal),
            'span': uniform_span(size, causal=causal),
            # The mean of one over the number of tokens that a query may see.
            'inverse_participation': (
                uniform_sink_score(size) if causal else 1 / size
            ),
        }


def _vectors(graph: Data) -> dict[str, Tensor]:
    """Of values and keys, where they are seen."""
    if 'value_norm' not in graph:
        return {}
    return {
        'value_norm_ratio': value_norm_ratio(graph)[0],
        'key_norm_ratio': key_norm_ratio(graph)[0],
        # The first token's query is left out: it has no other key.
        'query_key_cosine': graph.query_key_cosine[1:].mean(0),
    }


def _states(graph: Data) -> dict[str, Any]:
    """Of the states that enter, where a token has one vector."""
    x = graph.get('x')
    if x is None or x.dim() != 2:
        return {}
    massive = massive_activations(x)
    return {
        'state_norm_ratio': state_norm_ratio(x),
        'massive_ratio': massive.ratio,
        'massive_count': massive.count,
    }
