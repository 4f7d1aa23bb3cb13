"""What goes wrong in attention graphs and in the models behind them, measured.

The functions take the token graph of each layer (a PyG ``Batch`` per layer
for several sequences, over which they average), plain tensors, or callables
from inputs to states and answers, and know nothing of the model behind them.
"""

from gnnbridge.diagnostics.agreement import agreement as agreement
from gnnbridge.diagnostics.agreement import partial_spearman as partial_spearman
from gnnbridge.diagnostics.agreement import spearman as spearman
from gnnbridge.diagnostics.attention import (
    attention_entropy as attention_entropy,
)
from gnnbridge.diagnostics.attention import sink_rate as sink_rate
from gnnbridge.diagnostics.attention import sink_score as sink_score
from gnnbridge.diagnostics.attention import (
    uniform_sink_score as uniform_sink_score,
)
from gnnbridge.diagnostics.bounds import sensitivity_bound as sensitivity_bound
from gnnbridge.diagnostics.collapse import CollapseCurve as CollapseCurve
from gnnbridge.diagnostics.collapse import Slope as Slope
from gnnbridge.diagnostics.collapse import collapse_slope as collapse_slope
from gnnbridge.diagnostics.collapse import precision_length as precision_length
from gnnbridge.diagnostics.collapse import (
    representation_collapse as representation_collapse,
)
from gnnbridge.diagnostics.collapse import state_distance as state_distance
from gnnbridge.diagnostics.jacobian import JacobianNorms as JacobianNorms
from gnnbridge.diagnostics.jacobian import jacobian_norms as jacobian_norms
from gnnbridge.diagnostics.massive import (
    MassiveActivations as MassiveActivations,
)
from gnnbridge.diagnostics.massive import (
    massive_activations as massive_activations,
)
from gnnbridge.diagnostics.oversmoothing import (
    dirichlet_energy as dirichlet_energy,
)
from gnnbridge.diagnostics.oversmoothing import rank_collapse as rank_collapse
from gnnbridge.diagnostics.position_bias import (
    DuplicateKeyPreference as DuplicateKeyPreference,
)
from gnnbridge.diagnostics.position_bias import NoiseStress as NoiseStress
from gnnbridge.diagnostics.position_bias import PositionBias as PositionBias
from gnnbridge.diagnostics.position_bias import (
    duplicate_key_preference as duplicate_key_preference,
)
from gnnbridge.diagnostics.position_bias import noise_stress as noise_stress
from gnnbridge.diagnostics.position_bias import position_bias as position_bias
from gnnbridge.diagnostics.position_bias import (
    position_correlation as position_correlation,
)
from gnnbridge.diagnostics.ranks import effective_rank as effective_rank
from gnnbridge.diagnostics.ranks import mean_cosine as mean_cosine
from gnnbridge.diagnostics.ranks import stable_rank as stable_rank
from gnnbridge.diagnostics.reach import UnderReach as UnderReach
from gnnbridge.diagnostics.reach import under_reach as under_reach
from gnnbridge.diagnostics.retrieval import RetrievalCurve as RetrievalCurve
from gnnbridge.diagnostics.retrieval import primacy_slope as primacy_slope
from gnnbridge.diagnostics.retrieval import recency_slope as recency_slope
from gnnbridge.diagnostics.retrieval import retrieval_curve as retrieval_curve
from gnnbridge.diagnostics.retrieval import u_depth as u_depth
from gnnbridge.diagnostics.runway import Runway as Runway
from gnnbridge.diagnostics.runway import birth_influence as birth_influence
from gnnbridge.diagnostics.runway import path_counts as path_counts
from gnnbridge.diagnostics.runway import runway as runway
from gnnbridge.diagnostics.runway import runway_asymmetry as runway_asymmetry
from gnnbridge.diagnostics.sharpness import Sharpness as Sharpness
from gnnbridge.diagnostics.sharpness import (
    nearest_neighbor_distance as nearest_neighbor_distance,
)
from gnnbridge.diagnostics.sink_kinds import key_norm_ratio as key_norm_ratio
from gnnbridge.diagnostics.sink_kinds import sink_kind as sink_kind
from gnnbridge.diagnostics.sink_kinds import (
    state_norm_ratio as state_norm_ratio,
)
from gnnbridge.diagnostics.sink_kinds import (
    value_norm_ratio as value_norm_ratio,
)
from gnnbridge.diagnostics.sinks import (
    first_attention_rate as first_attention_rate,
)
from gnnbridge.diagnostics.sinks import sink_edge_rate as sink_edge_rate
from gnnbridge.diagnostics.sinks import sink_excess as sink_excess
from gnnbridge.diagnostics.sinks import (
    sink_rates_by_token as sink_rates_by_token,
)
from gnnbridge.diagnostics.spread import attention_span as attention_span
from gnnbridge.diagnostics.spread import (
    inverse_participation as inverse_participation,
)
from gnnbridge.diagnostics.spread import uniform_entropy as uniform_entropy
from gnnbridge.diagnostics.spread import uniform_span as uniform_span
from gnnbridge.diagnostics.token_graph import (
    TokenGraphMetrics as TokenGraphMetrics,
)
from gnnbridge.diagnostics.token_graph import (
    token_graph_metrics as token_graph_metrics,
)

__all__ = [
    'CollapseCurve',
    'DuplicateKeyPreference',
    'JacobianNorms',
    'MassiveActivations',
    'NoiseStress',
    'PositionBias',
    'RetrievalCurve',
    'Runway',
    'Sharpness',
    'Slope',
    'TokenGraphMetrics',
    'UnderReach',
    'agreement',
    'attention_entropy',
    'attention_span',
    'birth_influence',
    'collapse_slope',
    'dirichlet_energy',
    'duplicate_key_preference',
    'effective_rank',
    'first_attention_rate',
    'inverse_participation',
    'jacobian_norms',
    'key_norm_ratio',
    'massive_activations',
    'mean_cosine',
    'nearest_neighbor_distance',
    'noise_stress',
    'partial_spearman',
    'path_counts',
    'position_bias',
    'position_correlation',
    'precision_length',
    'primacy_slope',
    'rank_collapse',
    'recency_slope',
    'representation_collapse',
    'retrieval_curve',
    'runway',
    'runway_asymmetry',
    'sensitivity_bound',
    'sink_edge_rate',
    'sink_excess',
    'sink_kind',
    'sink_rate',
    'sink_rates_by_token',
    'sink_score',
    'spearman',
    'stable_rank',
    'state_distance',
    'state_norm_ratio',
    'token_graph_metrics',
    'u_depth',
    'under_reach',
    'uniform_entropy',
    'uniform_sink_score',
    'uniform_span',
    'value_norm_ratio',
]
