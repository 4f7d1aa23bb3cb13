"""Synthetic profiles: plain data of the shape that the report is given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gnnbridge.report.html import render


def _measures(
    rng: np.random.Generator, layers: int, heads: int, sink: float
) -> dict[str, Any]:
    scores = np.clip(rng.beta(1, 5, (layers, heads)) + sink, 0, 1)
    return {
        'sink_score': scores.tolist(),
        'sink_rate': (scores > 0.3).mean(1).tolist(),
        'entropy': rng.uniform(0.5, 4, (layers, heads)).tolist(),
        'dirichlet_energy': np.geomspace(0.9, 0.2, layers).tolist(),
        'effective_rank': np.linspace(60, 20, layers).tolist(),
        'rank_collapse': np.linspace(0.9, 0.6, layers).tolist(),
        'mean_cosine': np.linspace(0.05, 0.5, layers).tolist(),
        'mixing': rng.uniform(0.1, 0.6, layers).tolist(),
    }


def _resistance(tokens: int, slope: float) -> dict[str, Any]:
    values = (2 + slope * np.arange(tokens)).tolist()
    values[-1] = None
    return {'hops': 1.9, 'last': values, 'mean': values[:]}


def _graph(rng: np.random.Generator, layer: int, tokens: int) -> dict[str, Any]:
    edges = []
    for target in range(1, tokens):
        near = int(rng.integers(max(0, target - 8), target))
        edges.append([near, target, float(rng.uniform(0.05, 0.4))])
        edges.append([0, target, float(rng.uniform(0.1, 0.8))])
    return {
        'layer': layer,
        'num_edges': tokens * (tokens + 1) // 2,
        'edges_per_token': 2,
        'first_token_share': 0.41,
        'self_share': 0.12,
        'edges': edges,
    }


def _make(
    layers: int = 4,
    heads: int = 4,
    tokens: int = 96,
    text: str = 'the quick brown fox ',
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pieces = [text[place % len(text)] for place in range(tokens)]
    return {
        'model': {
            'name': 'synthetic-decoder',
            'architecture': 'LlamaForCausalLM',
            'num_layers': layers,
            'num_heads': heads,
            'hidden_size': 64,
            'num_parameters': 1_234_567,
            'dtype': 'float32',
        },
        'text': {
            'source': 'a synthetic text',
            'num_tokens': tokens,
            'truncated': True,
            'bos': False,
            'tokens': pieces,
            'excerpt': ''.join(pieces),
        },
        'notes': [f'The text was cut to its first {tokens} tokens.'],
        'parity': {
            'outputs': 'logits',
            'max_abs_error': 3.1e-6,
            'scale': 14.2,
            'relative_error': 2.2e-7,
            'tolerance': 1e-3,
            'same_prediction': 1.0,
        },
        'measures': _measures(rng, layers, heads, 0.2),
        'baseline': {
            'measures': _measures(rng, layers, heads, 0.0),
            'resistance': _resistance(tokens, 0.9),
        },
        'nulls': {
            'name': 'uniform causal',
            'sink_score': 0.0741,
            'first_token_share': 0.05,
            'entropy': 3.6,
            'resistance': _resistance(tokens, 1.0),
        },
        'graphs': [_graph(rng, layer, tokens) for layer in range(layers)],
        'resistance': _resistance(tokens, 0.5),
        'settings': {
            'max_tokens': 256,
            'sink_tokens': 64,
            'sink_epsilon': 0.3,
            'seed': 0,
        },
        'versions': {'gnnbridge': '0.1.0', 'torch': '2.13.0'},
        'timings': {'capture': 0.31, 'measures': 1.24},
    }


@pytest.fixture(scope='session')
def make_profile() -> Callable[..., dict[str, Any]]:
    return _make


@pytest.fixture(scope='session')
def plain_page(make_profile: Callable[..., dict[str, Any]]) -> str:
    """A small page, drawn once for all tests that only read it."""
    return render(make_profile(layers=2, tokens=20))


def _column(name: str, place: int, tokens: int) -> dict[str, Any]:
    """Rows of a window that is narrower from column to column."""
    window = max(tokens // (place + 1), 1)
    rows = [[[max(i - window + 1, 0), i + 1]] for i in range(tokens)]
    values = [10.0 ** (place + 1) + d for d in range(1, tokens)]
    resistance = {
        'total': 1000.0 * (place + 1),
        'worst': 10.0 + place,
        'worst_pair': [0, tokens - 1],
        'hops': 1.5,
    }
    return {
        'name': name,
        'transform': None if place == 0 else f'Window({window})',
        'edges': 120.0 / (place + 1),
        'edges_by_layer': [120.0 / (place + 1)] * 2,
        'graph': {
            'num_tokens': tokens,
            'unreachable_pairs': place,
            'diameter': place + 1,
            'resistance': resistance,
            'gap': 0.5 / (place + 1),
            'mean_curvature': 1.0 - place,
            'least_curvature': 1.0 - 2 * place,
        },
        'even': {**resistance, 'total': 900.0},
        'by_distance': {
            'low': [0.5 * value for value in values],
            'median': values,
            'high': [2 * value for value in values],
        },
        'shown': {'layer': 0, 'head': 1, 'rows': rows},
        'perplexity': {
            'nats_per_token': 2.0 + place,
            'perplexity': 7.0 + place,
        },
        'retrieval': {
            'accuracy': 1.0 / (place + 1),
            'absent_key_most': 0.125,
        },
    }


def _make_comparison(*names: str, tokens: int = 12) -> dict[str, Any]:
    named = ['before', *names]
    return {
        'model': {'name': 'synthetic-decoder'},
        'text': {'source': 'a synthetic text'},
        'task': {
            'name': 'random tokens of the vocabulary',
            'pairs': 8,
            'questions': 40,
            'tokens': 18,
            'chance': 1 / 8,
        },
        'depth': {'hops': 1.5, 'source': 'measured mixing'},
        'columns': [_column(n, p, tokens) for p, n in enumerate(named)],
        'notes': ['Something to know.'],
    }


@pytest.fixture(scope='session')
def make_comparison() -> Callable[..., dict[str, Any]]:
    return _make_comparison
