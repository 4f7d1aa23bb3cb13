"""Profiles made of plain data: every section, refused parts, tiny ones.

Curves have the shape of real ones, so that pages can be looked at.
"""

import base64
import copy
from typing import Any

import numpy as np
import synthetic_sections as sections

Rng = np.random.Generator


def _clean(value: Any) -> Any:
    """Plain data without what JSON has not."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _packed(rng: Rng, tokens: int, heads: int, keep: int, sink: float) -> Any:
    """The strongest keys of every query, as a profile carries them."""
    source = np.zeros((heads, tokens, keep), '<u2')
    weight = np.zeros((heads, tokens, keep), 'u1')
    for head in range(heads):
        strength = np.clip(sink * rng.uniform(0, 1.3), 0.02, 0.95)
        reach = 2 + int(rng.integers(0, 12))
        for query in range(tokens):
            near = query - rng.permutation(min(reach, query + 1))[: keep - 1]
            keys = list(dict.fromkeys([0, *near.tolist()]))[:keep]
            parts = rng.dirichlet(np.ones(len(keys))) * (1 - strength) * 0.9
            parts[0] += strength
            order = np.argsort(-parts)
            source[head, query, : len(keys)] = np.array(keys)[order]
            weight[head, query, : len(keys)] = np.round(255 * parts[order])
    return source, weight


def _graphs(
    rng: Rng, layers: int, heads: int, tokens: int, keep: int
) -> dict[str, Any]:
    found = []
    for layer in range(layers):
        sink = 0.05 + 0.6 * np.exp(
            -((layer / max(layers - 1, 1) - 0.55) ** 2) / 0.06
        )
        source, weight = _packed(rng, tokens, heads, keep, sink)
        shares = weight / 255 / heads / tokens
        own = source == np.arange(tokens)[None, :, None]
        found.append(
            {
                'layer': layer,
                'heads': heads,
                'edges_total': tokens * (tokens + 1) // 2,
                'keep': keep,
                'source': base64.b64encode(source.tobytes()).decode(),
                'weight': base64.b64encode(weight.tobytes()).decode(),
                'self_share': float(shares[own].sum()),
                'first_token_share': float(shares[source == 0].sum()),
            }
        )
    return {'tokens': tokens, 'layers': found}


def _text(tokens: int, text: str) -> dict[str, Any]:
    words = [f' {word}' for word in text.split()] or [text]
    pieces = [
        '<s>',
        *(words[place % len(words)] for place in range(tokens - 1)),
    ]
    return {
        'source': 'a synthetic text',
        'num_sequences': 8,
        'num_tokens': 8 * tokens,
        'longest': tokens,
        'truncated': 3,
        'bos': True,
        'tokens': pieces,
        'token_ids': [place % 997 for place in range(tokens)],
        'excerpt': ''.join(pieces)[:400],
    }


MEANINGS = {
    'sinks': 'Attention parked on one token does not mix the others: a sink '
    'is a brake on mixing and does not say that the token matters.',
    'smoothing': 'Repeated averaging makes tokens alike with depth, until '
    'they cannot be told apart.',
    'squashing': 'What a far token says reaches the last one through few and '
    'weak paths, so that little of it arrives.',
    'collapse': 'Two sequences that differ in their end have nearly the same '
    'last state when they are long, so that the model cannot tell them apart.',
    'runway': 'Early tokens have more paths to the answer than late ones, '
    'whatever they say.',
    'retrieval': 'Whether a fact is found depends on where it stands.',
}


def _nulls(rng: Rng, layers: int, tokens: int, longest: int) -> dict[str, Any]:
    place = np.linspace(0, 1, tokens)
    birth = np.exp(-1.8 * place) + 0.02
    birth[-1] = 6
    even = 2 + np.arange(longest)
    return {
        'sinks': {
            'sink_score': 0.0741,
            'entropy': 3.6,
            'span': 32.0,
            'inverse_participation': 0.05,
            'first_token_share': 0.05,
        },
        'smoothing': {
            'dirichlet_energy': 0,
            'effective_rank': 1,
            'stable_rank': 1,
            'rank_collapse': 0,
            'mean_cosine': 1,
        },
        'squashing': {
            'resistance': {
                'hops': 1.9,
                'last': [*even[:-1].tolist(), None],
                'mean': [*(0.8 * even[:-1]).tolist(), None],
            },
            'jacobian_last': (0.3 * birth).tolist(),
        },
        'collapse': {'cosine': 1, 'distance': 0, 'slope': -1},
        'runway': {'birth': sections.shares(birth), 'asymmetry': 1.7},
        'retrieval': {
            'key_value': {'chance': 1 / 16},
            'needle': {'chance': 1 / 16},
            'copying': {'chance': 0.02},
            'counting': {'chance': 0.1, 'mean_error': 2.96},
        },
    }


def make(
    layers: int = 4,
    heads: int = 4,
    tokens: int = 96,
    text: str = 'the quick brown fox jumps over a lazy dog',
    *,
    keep: int = 4,
    seed: int = 0,
    learned: float = 1.0,
) -> dict[str, Any]:
    """A profile with every section measured."""
    rng = np.random.default_rng(seed)
    near = min(tokens, 1024)

    def sides(learned: float) -> dict[str, Any]:
        return {
            'sinks': sections.sinks(rng, layers, heads, 0.75 * learned),
            'smoothing': sections.smoothing(layers, 0.25 + 1.6 * learned),
            'squashing': sections.squashing(rng, layers, near, tokens, learned),
            'collapse': sections.collapse(-1.02 + 0.05 * learned, 0.4),
            'runway': sections.runway(rng, layers, near, learned),
            'retrieval': sections.retrieval(learned),
        }

    model, baseline = sides(learned), sides(0.02)
    nulls = _nulls(rng, layers, near, tokens)
    return _clean(
        {
            'schema_version': 2,
            'model': {
                'name': 'synthetic-decoder',
                'architecture': 'LlamaForCausalLM',
                'num_parameters': 1_234_567,
                'dtype': 'float32',
                'device': 'cpu',
                'num_layers': layers,
                'num_heads': str(heads),
                'hidden_size': 64,
                'causal': True,
            },
            'text': _text(tokens, text),
            'parity': {
                'outputs': 'logits',
                'max_abs_error': 3.1e-6,
                'scale': 14.2,
                'relative_error': 2.2e-7,
                'tolerance': 1e-3,
                'same_prediction': 1.0,
            },
            'findings': [],
            'diagnostics': {
                name: {
                    'status': 'measured',
                    'reasons': [],
                    'meaning': MEANINGS[name],
                    'model': model[name],
                    'baseline': baseline[name],
                    'null': nulls[name],
                }
                for name in MEANINGS
            },
            'graphs': _graphs(rng, layers, heads, tokens, keep),
            'notes': [f'3 of 8 sequences were cut to {tokens} tokens.'],
            'settings': {
                'diagnostics': list(MEANINGS),
                'max_tokens': 256,
                'sink_tokens': 64,
                'baseline': True,
                'seed': 0,
            },
            'versions': {'gnnbridge': '0.1.0', 'torch': '2.13.0'},
            'timings': {'capture': 0.31, 'sinks': 1.24, 'squashing': 21.5},
            'resources': {
                'peak_memory_bytes': 812_345_678,
                'processes': 2,
                'seconds': 74.2,
                'estimated_seconds': 80.0,
                'estimated_memory_bytes': 900_000_000,
            },
        }
    )


def refused(profile: dict[str, Any]) -> dict[str, Any]:
    """The same with sections that could not be measured, or in part only."""
    found = copy.deepcopy(profile)
    parts = found['diagnostics']
    parts['squashing'].update(
        status='refused',
        model=None,
        baseline=None,
        null={},
        reasons=[
            'Expected blocks whose states depend on the states before them '
            'alone (got a hybrid model). Jacobians are not taken.'
        ],
    )
    parts['sinks'].update(
        status='partly',
        reasons=['Values are not seen where attention is imposed by a mask.'],
    )
    parts['sinks']['model'].update(value_norm_ratio=None, key_norm_ratio=None)
    kinds = parts['sinks']['model']['head_kind']
    parts['sinks']['model']['head_kind'] = [
        ['none' if kind == 'none' else 'unclear' for kind in row]
        for row in kinds
    ]
    parts['smoothing']['status'] = 'partly'
    parts['smoothing']['model'].update(
        ablations=None,
        ablation_reason='Parts of a hybrid block cannot be taken out.',
    )
    parts['runway']['model']['influence']['jacobian'] = None
    parts['runway']['model'].update(duplicate_key=None, noise=None)
    parts['collapse']['model']['repeat_last'].pop('bfloat16')
    del parts['retrieval']
    for section in parts.values():
        section['baseline'] = None
    found['parity'] = None
    found['graphs'] = None
    found['settings']['baseline'] = False
    found['resources'].update(
        peak_memory_bytes=None,
        estimated_seconds=None,
        estimated_memory_bytes=None,
    )
    return found


def tiny() -> dict[str, Any]:
    """Three tokens, one layer, one head."""
    return make(layers=1, heads=1, tokens=3, keep=3)
