"""Figures of a profile: each function draws one, and returns its axes.

All take what ``Profile.to_dict()`` returns, or the profile itself, and draw
on ``ax`` or on a figure of their own, without pyplot.
"""

from gnnbridge.report.figures.attention import (
    plot_attention_graph as plot_attention_graph,
)
from gnnbridge.report.figures.collapse import plot_collapse as plot_collapse
from gnnbridge.report.figures.collapse import plot_sharpness as plot_sharpness
from gnnbridge.report.figures.retrieval import plot_by_length as plot_by_length
from gnnbridge.report.figures.retrieval import plot_margin as plot_margin
from gnnbridge.report.figures.retrieval import plot_retrieval as plot_retrieval
from gnnbridge.report.figures.runway import plot_asymmetry as plot_asymmetry
from gnnbridge.report.figures.runway import plot_influence as plot_influence
from gnnbridge.report.figures.runway import plot_noise as plot_noise
from gnnbridge.report.figures.runway import (
    plot_opportunities as plot_opportunities,
)
from gnnbridge.report.figures.runway import plot_runway as plot_runway
from gnnbridge.report.figures.sinks import plot_head_kinds as plot_head_kinds
from gnnbridge.report.figures.sinks import plot_massive as plot_massive
from gnnbridge.report.figures.sinks import plot_sink_rates as plot_sink_rates
from gnnbridge.report.figures.sinks import plot_sinks as plot_sinks
from gnnbridge.report.figures.sinks import (
    plot_sinks_by_token as plot_sinks_by_token,
)
from gnnbridge.report.figures.smoothing import plot_ablations as plot_ablations
from gnnbridge.report.figures.smoothing import plot_mixing as plot_mixing
from gnnbridge.report.figures.smoothing import plot_smoothing as plot_smoothing
from gnnbridge.report.figures.squashing import plot_bounds as plot_bounds
from gnnbridge.report.figures.squashing import plot_jacobian as plot_jacobian
from gnnbridge.report.figures.squashing import (
    plot_jacobian_distance as plot_jacobian_distance,
)
from gnnbridge.report.figures.squashing import (
    plot_jacobian_layers as plot_jacobian_layers,
)
from gnnbridge.report.figures.squashing import (
    plot_jacobian_map as plot_jacobian_map,
)
from gnnbridge.report.figures.squashing import plot_proxies as plot_proxies
from gnnbridge.report.figures.squashing import (
    plot_resistance as plot_resistance,
)
from gnnbridge.report.figures.together import plot_together as plot_together
