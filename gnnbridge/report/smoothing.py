"""The section on over-smoothing: do tokens become alike with depth?"""

from __future__ import annotations

from gnnbridge.report.panels import baseline_measures, layer_panel
from gnnbridge.report.section import Numbers, ProfileDict, Section, number


def smoothing(profile: ProfileDict) -> Section | None:
    """Dirichlet energy, effective rank, rank collapse, cosine per layer."""
    measures, base = profile['measures'], baseline_measures(profile)
    if 'dirichlet_energy' not in measures:
        return None
    rank = measures['effective_rank']
    against = ''
    if base:
        against = (
            ' With re-initialised weights the effective rank goes from '
            f'{_from_to(base["effective_rank"])}.'
        )
    full = min(profile['text']['num_tokens'], profile['model']['hidden_size'])
    return Section(
        anchor='smoothing',
        title='Over-smoothing',
        seen=(
            'Four views of the states entering each layer. The effective '
            f'rank goes from {_from_to(rank)}, of at most {full}; the mean '
            'cosine between two tokens goes from '
            f'{_from_to(measures["mean_cosine"])}.'
        ),
        meaning=(
            'Repeated averaging pulls tokens together: energy and effective '
            'rank fall, the distance from equal tokens goes to 0 and the '
            'cosine to 1; residual connections and MLPs work against it.'
        ),
        null=(
            'Fully collapsed tokens have energy 0, effective rank 1, '
            'distance 0 and cosine 1.' + against
        ),
        panels=[
            layer_panel(
                profile,
                'dirichlet_energy',
                'Dirichlet energy',
                'of the mean squared norm',
            ),
            layer_panel(
                profile,
                'effective_rank',
                'Effective rank',
                'exp(entropy of singular values)',
            ),
            layer_panel(
                profile,
                'rank_collapse',
                'Distance from equal tokens',
                'residual / norm',
                null=('collapsed', 0.0),
            ),
            layer_panel(
                profile,
                'mean_cosine',
                'Mean cosine between tokens',
                'cosine',
                null=('collapsed', 1.0),
            ),
        ],
    )


def _from_to(values: Numbers) -> str:
    return f'{number(values[0])} (first layer) to {number(values[-1])} (last)'
