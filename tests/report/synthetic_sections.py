"""The numbers of each diagnostic, in the shape of real ones."""

from typing import Any

import numpy as np

Rng = np.random.Generator
PROXIES = (
    'rollout',
    'path gains',
    'token visits V',
    'envelope h*',
    'conductance',
    'path count',
    'uniform rollout',
    '-distance',
)
BOUNDS = {
    'theorem C/D, layered T': (1.2, True),
    'theorem D, visits V': (1.9, True),
    'theorem D, envelope h*': (2.6, True),
    'Di Giovanni': (4.4, True),
    'Black': (3.1, False),
    'Barbero': (2.2, False),
}


def _rows(array: np.ndarray) -> list[Any]:
    return np.where(np.isfinite(array), array, np.nan).tolist()


def sinks(rng: Rng, layers: int, heads: int, sink: float) -> dict[str, Any]:
    depth = np.linspace(0, 1, layers)[:, None]
    bump = np.exp(-((depth - 0.55) ** 2) / 0.06)
    strength = sink * bump * rng.uniform(0.5, 1.2, (layers, heads))
    score = np.clip(0.05 + rng.beta(1, 14, (layers, heads)) + strength, 0, 1)
    value = np.where(score > 0.3, rng.beta(2, 9, (layers, heads)), 1.0)
    value = np.where(rng.random((layers, heads)) < 0.15, 0.9, value)
    kind = np.where(
        score <= 0.3,
        'none',
        np.where(
            value < 0.3, 'no-op', np.where(value > 0.7, 'broadcast', 'unclear')
        ),
    )
    return {
        'sink_tokens': 64,
        'shorter_sequences': 0,
        'layer': list(range(layers)),
        'first_token_share': score.mean(1).tolist(),
        'query_key_cosine': rng.uniform(-0.3, 0.6, score.shape).tolist(),
        'sink_score': score.tolist(),
        'sink_rate': (score > 0.3).mean(1).tolist(),
        'sink_rate_strict': (score > 0.8).mean(1).tolist(),
        'sink_edge_rate': (0.9 * score.mean(1)).tolist(),
        'first_attention_rate': np.clip(1.1 * score.mean(1), 0, 1).tolist(),
        'sink_excess': (score - 0.0741).tolist(),
        'sink_rate_by_token': [
            float((score > 0.3).mean()),
            *(0.02 * rng.random(15)).tolist(),
        ],
        'entropy': (3.6 - 2.6 * score + 0.2 * rng.random(score.shape)).tolist(),
        'span': (40 * rng.random(score.shape) + 60 * score).tolist(),
        'inverse_participation': (0.1 + 0.8 * score**2).tolist(),
        'value_norm_ratio': value.tolist(),
        'key_norm_ratio': rng.uniform(0.4, 1.1, score.shape).tolist(),
        'state_norm_ratio': (1 + 9 * sink * bump[:, 0]).tolist(),
        'massive_ratio': (12 + 900 * sink * bump[:, 0]).tolist(),
        'massive_count': (3 * (sink * bump[:, 0] > 0.3)).tolist(),
        'head_kind': kind.tolist(),
        'spread': {'sink_score': (0.05 * score).tolist()},
        'count': 8,
    }


def smoothing(layers: int, fall: float) -> dict[str, Any]:
    states = layers + 1
    down = np.linspace(0, 1, states)
    rank = 48 * np.exp(-fall * down)
    ablation = {
        name: {
            'effective_rank': (1 + 47 * np.exp(-speed * down)).tolist(),
            'stable_rank': (9 * np.exp(-speed * down) + 1).tolist(),
            'rank_collapse': (0.95 * np.exp(-speed * down)).tolist(),
            'mean_cosine': (1 - 0.95 * np.exp(-speed * down)).tolist(),
        }
        for name, speed in (
            ('attention_only', 3.8),
            ('no_residual', 7.5),
            ('no_mlp', 1.6 * fall),
        )
    }
    return {
        'state': [
            *(f'before layer {layer}' for layer in range(layers)),
            'after the last block',
        ],
        'dirichlet_energy': [*np.geomspace(0.9, 0.3, layers).tolist(), None],
        'dirichlet_uniform': np.geomspace(0.8, 0.25, states).tolist(),
        'effective_rank': rank.tolist(),
        'stable_rank': (1 + 8 * np.exp(-fall * down)).tolist(),
        'rank_collapse': (0.95 * np.exp(-0.5 * fall * down)).tolist(),
        'mean_cosine': (1 - 0.96 * np.exp(-fall * down)).tolist(),
        'effective_rank_centered': (1.1 * rank).tolist(),
        'stable_rank_centered': (1.5 + 9 * np.exp(-fall * down)).tolist(),
        'mean_cosine_centered': (0.02 * down).tolist(),
        'mixing': np.linspace(0.55, 0.2, layers).tolist(),
        'ablations': ablation,
        'ablation_reason': None,
        'spread': {
            'effective_rank': (0.06 * rank).tolist(),
            'mean_cosine': (0.03 * np.ones(states)).tolist(),
        },
        'count': 8,
    }


def _jacobian(rng: Rng, tokens: int, learned: float) -> np.ndarray:
    place = np.linspace(0, 1, tokens)
    curve = 0.02 * np.exp(2.6 * place * learned + 0.9 * (1 - place))
    curve *= 1 - 0.93 * learned * np.exp(-((place - 0.45) ** 2) / 0.02)
    curve *= np.exp(0.25 * rng.standard_normal(tokens))
    curve[0] *= 6
    curve[-1] *= 12
    return curve


def _map(size: int, learned: float) -> list[list[float | None]]:
    blocks = min(size, 48)
    at = np.arange(blocks)
    apart = at[:, None] - at[None, :]
    norms = -0.6 - (0.2 + 1.1 * learned) * np.log1p(np.maximum(apart, 0))
    norms[:, 0] += 0.8
    norms = np.where(apart >= 0, norms, np.nan)
    return _rows(norms)


def squashing(
    rng: Rng, layers: int, tokens: int, longest: int, learned: float
) -> dict[str, Any]:
    curve = _jacobian(rng, tokens, learned)
    noise = rng.standard_normal((len(PROXIES), tokens))
    proxies = {
        name: {
            'last': (curve * np.exp(0.3 * (1 + place) * row)).tolist(),
            'all': 0.93 - 0.09 * place,
            'per_receiver': 0.9 - 0.1 * place,
            'partial': 0.8 - 0.12 * place,
        }
        for place, (name, row) in enumerate(zip(PROXIES, noise, strict=True))
    }
    bounds = {
        name: {
            'last': (above + 0.4 * rng.random(tokens)).tolist(),
            'median_log10': above + 0.2,
            'least_log10': above,
            'violations': 0,
            'rigorous': rigorous,
            'constant_log10': 0.4 * above,
        }
        for name, (above, rigorous) in BOUNDS.items()
    }
    distance = np.arange(tokens)
    resistance = 2 + 0.5 * np.arange(longest)
    return {
        'tokens': tokens,
        'probes': 16,
        'jacobian_last': curve.tolist(),
        'jacobian_last_in_layer': [
            (curve * 10 ** (-0.3 * layer)).tolist() for layer in range(layers)
        ],
        'jacobian_by_distance': (0.8 / (1 + distance) ** 0.9).tolist(),
        'jacobian_mean': (1.2 * curve).tolist(),
        'jacobian_map': _map(tokens, learned),
        'jacobian_error': 0.08,
        'proxies': proxies,
        'bounds': bounds,
        'resistance': {
            'tokens': longest,
            'hops': 1.9,
            'last': [*resistance[:-1].tolist(), None],
            'mean': [*(0.8 * resistance[:-1]).tolist(), None],
        },
        'under_reach': {
            'tokens': longest,
            'depth': layers,
            'diameter': 1,
            'unreachable_share': 0.0,
            'beyond_depth_share': 0.0,
        },
        'spread': {'jacobian_last': (0.2 * curve).tolist()},
        'count': 2,
    }


def collapse(slope: float, floor: float) -> dict[str, Any]:
    lengths = [8, 16, 32, 64, 128, 256]
    n = np.array(lengths, float)

    def curve(factor: float, least: float, steep: float) -> dict[str, Any]:
        l1 = factor * n**steep
        l1 = np.where(l1 > least, l1, 0.0) if least else l1
        reached = [x for x, y in zip(lengths, l1, strict=True) if y == 0]
        return {
            'l1': l1.tolist(),
            'linf': (0.1 * l1).tolist(),
            'l2': (0.3 * l1).tolist(),
            'cosine': (1 - 0.02 * l1**2 / factor**2).tolist(),
            'scale': [8.0] * len(lengths),
            'l1_deviation': (0.2 * l1).tolist(),
            'block_l1': (1.7 * l1).tolist(),
            'block_slope': steep,
            'block_slope_error': 0.04,
            'slope': steep,
            'slope_error': 0.03,
            'reaches_precision_at': reached[0] if reached else None,
        }

    return {
        'lengths': lengths,
        'sequences': 'windows of the text',
        'state': 'what the output head reads, after the final norm',
        'repeat_last': {
            'float32': curve(40, 0, slope),
            'bfloat16': curve(41, floor, slope),
        },
        'substitute_last': {
            'float32': curve(90, 0, -0.12),
            'bfloat16': curve(91, 0, -0.11),
        },
        'sharpness': {
            'lengths': lengths,
            'nearest_neighbor': (0.7 * n**-0.1).tolist(),
            'nearest_neighbor_absolute': (7 * n**-0.3).tolist(),
            'mean_pair': (10 * n**-0.2).tolist(),
            'count': 16,
        },
        'spread': {},
        'count': 16,
    }


def shares(curve: np.ndarray) -> list[float]:
    return (curve / curve.sum()).tolist()


def runway(
    rng: Rng, layers: int, tokens: int, learned: float
) -> dict[str, Any]:
    place = np.linspace(0, 1, tokens)
    birth = np.exp(-2.2 * place) + 0.02
    birth[-1] = 8
    jacobian = _jacobian(rng, tokens, learned)
    paths = (layers - 1) * np.log10(np.arange(tokens, 0, -1) + layers)
    names = ('path_count', 'jacobian', 'rollout', 'birth', 'received_attention')
    asymmetry = dict(
        zip(names, (2.9, 1.6 * learned, 2.2, 1.9, 2.6), strict=True)
    )
    decline = np.linspace(0.9, 0.9 - 0.5 * learned, 16)
    return {
        'tokens': tokens,
        'path_count_log10': paths.tolist(),
        'opportunities': (1 - place).tolist(),
        'mixing': [0.3] * layers,
        'asymmetry_deviation': {'rollout': 0.1, 'received_attention': 0.2},
        'influence': {
            'jacobian': shares(jacobian),
            'rollout': shares(birth * np.exp(0.1 * rng.random(tokens))),
            'received_attention': shares(birth + 0.3 * (place == 0)),
            'birth': shares(birth),
        },
        'asymmetry': asymmetry,
        'weakest_position': dict.fromkeys(names, max(tokens - 2, 0)),
        'spearman_position': dict.fromkeys(names, -0.8),
        'duplicate_key': {
            'places': [0, 7, 15],
            'preferred': {
                'first_last': 0.72 * learned,
                'first_middle': 0.31 * learned,
                'middle_last': 0.44 * learned,
            },
            'earlier': dict.fromkeys(
                ('first_last', 'first_middle', 'middle_last'), 0.5
            ),
            'answered_share': 0.97,
            'pairs': 16,
            'questions': 768,
            'answered': 'all tokens',
        },
        'noise': {
            'sigmas': [0.5, 1.0, 1.5, 2.0],
            'accuracy': [
                (decline ** (1 + place)).tolist() for place in range(4)
            ],
            'spearman': [-0.61, -0.94, -0.97, -0.88],
            'questions': 256,
            'chance': 1 / 16,
        },
        'spread': {},
        'count': 2,
    }


def _errors(places: int) -> dict[str, Any]:
    return {
        'standard_error': [0.03] * places,
        'absent_standard_error': [0.02] * places,
        'u_depth_error': 0.03,
        'primacy_slope_error': 0.01,
        'recency_slope_error': 0.01,
    }


def retrieval(learned: float) -> dict[str, Any]:
    places, depths = np.arange(16), np.linspace(0, 1, 9)
    middle = np.exp(-((places - 8) ** 2) / 18)
    accuracy = 1 / 16 + learned * (0.8 - 0.5 * middle)
    absent = 1 / 16 + 0.02 * np.cos(places)
    needle = 1 / 16 + learned * (
        0.75 - 0.3 * np.exp(-((depths - 0.5) ** 2) / 0.05)
    )
    return {
        'key_value': {
            'task': 'random tokens of the vocabulary',
            'places': places.tolist(),
            'accuracy': accuracy.tolist(),
            'absent': absent.tolist(),
            'corrected': (accuracy - absent).tolist(),
            'total_accuracy': float(accuracy.mean()),
            'chance': 1 / 16,
            'u_depth': 0.38 * learned,
            'primacy_slope': -0.05 * learned,
            'recency_slope': 0.05 * learned,
            'questions': 256,
            **_errors(16),
        },
        'needle': {
            'depths': depths.tolist(),
            'accuracy': needle.tolist(),
            'absent': [1 / 16] * 9,
            'corrected': (needle - 1 / 16).tolist(),
            'margin': (3 * learned * (needle - 0.3)).tolist(),
            'u_depth': 0.22 * learned,
            'primacy_slope': -0.4 * learned,
            'recency_slope': 0.4 * learned,
            'chance': 1 / 16,
            'total_accuracy': float(needle.mean()),
            'questions': 252,
            'margin_spread': [0.9] * 9,
            'tokens': 256,
            **_errors(9),
        },
        'copying': {
            'lengths': [8, 16, 32, 64, 128],
            'first': [1.0, 0.99, 0.98, 0.95, 0.9],
            'last': [1.0, 0.97, 0.86, 0.61, 0.33 * learned],
            'chance': 0.02,
            'questions': [50] * 5,
        },
        'counting': {
            'lengths': [4, 8, 16, 32, 64],
            'accuracy': [0.9, 0.7, 0.31, 0.1, 0.05],
            'mean_error': [0.1, 0.5, 2.2, 7.5, 20.0],
            'chance': 0.1,
            'questions': [50] * 5,
        },
        'spread': {},
        'count': 256,
    }
