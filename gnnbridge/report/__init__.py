"""The report: pages and figures drawn from plain data.

Nothing here knows a model: everything is a function of the dictionary that
``Profile.to_dict()`` returns, so a page can be drawn again from the JSON.
"""

from gnnbridge.report.comparing import render_comparison as render_comparison
from gnnbridge.report.comparing import write_comparison as write_comparison
from gnnbridge.report.figures import plot_ablations as plot_ablations
from gnnbridge.report.figures import plot_asymmetry as plot_asymmetry
from gnnbridge.report.figures import (
    plot_attention_graph as plot_attention_graph,
)
from gnnbridge.report.figures import plot_bounds as plot_bounds
from gnnbridge.report.figures import plot_by_length as plot_by_length
from gnnbridge.report.figures import plot_collapse as plot_collapse
from gnnbridge.report.figures import plot_head_kinds as plot_head_kinds
from gnnbridge.report.figures import plot_influence as plot_influence
from gnnbridge.report.figures import plot_jacobian as plot_jacobian
from gnnbridge.report.figures import (
    plot_jacobian_distance as plot_jacobian_distance,
)
from gnnbridge.report.figures import (
    plot_jacobian_layers as plot_jacobian_layers,
)
from gnnbridge.report.figures import plot_jacobian_map as plot_jacobian_map
from gnnbridge.report.figures import plot_margin as plot_margin
from gnnbridge.report.figures import plot_massive as plot_massive
from gnnbridge.report.figures import plot_mixing as plot_mixing
from gnnbridge.report.figures import plot_noise as plot_noise
from gnnbridge.report.figures import plot_opportunities as plot_opportunities
from gnnbridge.report.figures import plot_proxies as plot_proxies
from gnnbridge.report.figures import plot_resistance as plot_resistance
from gnnbridge.report.figures import plot_retrieval as plot_retrieval
from gnnbridge.report.figures import plot_runway as plot_runway
from gnnbridge.report.figures import plot_sharpness as plot_sharpness
from gnnbridge.report.figures import plot_sink_rates as plot_sink_rates
from gnnbridge.report.figures import plot_sinks as plot_sinks
from gnnbridge.report.figures import plot_sinks_by_token as plot_sinks_by_token
from gnnbridge.report.figures import plot_smoothing as plot_smoothing
from gnnbridge.report.figures import plot_together as plot_together
from gnnbridge.report.findings import findings as findings
from gnnbridge.report.html import render as render
from gnnbridge.report.html import write as write
from gnnbridge.report.section import Panel as Panel
from gnnbridge.report.section import Section as Section
from gnnbridge.report.section import Table as Table

__all__ = [
    'Panel',
    'Section',
    'Table',
    'findings',
    'plot_ablations',
    'plot_asymmetry',
    'plot_attention_graph',
    'plot_bounds',
    'plot_by_length',
    'plot_collapse',
    'plot_head_kinds',
    'plot_influence',
    'plot_jacobian',
    'plot_jacobian_distance',
    'plot_jacobian_layers',
    'plot_jacobian_map',
    'plot_margin',
    'plot_massive',
    'plot_mixing',
    'plot_noise',
    'plot_opportunities',
    'plot_proxies',
    'plot_resistance',
    'plot_retrieval',
    'plot_runway',
    'plot_sharpness',
    'plot_sink_rates',
    'plot_sinks',
    'plot_sinks_by_token',
    'plot_smoothing',
    'plot_together',
    'render',
    'render_comparison',
    'write',
    'write_comparison',
]
