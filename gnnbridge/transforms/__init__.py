"""Rewiring: PyG transforms that add and remove edges.

All of them work on any ``Data`` and on a ``Batch``, never change their input,
keep causal graphs causal, and say what they did: ``rewire(data)`` returns the
rewired graph and the :class:`Changes`. On a running model use
:func:`gnnbridge.rewire`.
"""

from gnnbridge.transforms.afrc import AFRC as AFRC
from gnnbridge.transforms.attention_sinks import (
    AttentionSinks as AttentionSinks,
)
from gnnbridge.transforms.base import Rewiring as Rewiring
from gnnbridge.transforms.borf import BORF as BORF
from gnnbridge.transforms.causal_resistance import (
    CausalResistanceRewiring as CausalResistanceRewiring,
)
from gnnbridge.transforms.cayley import cayley_graph as cayley_graph
from gnnbridge.transforms.changes import Changes as Changes
from gnnbridge.transforms.diffusion import Diffusion as Diffusion
from gnnbridge.transforms.expander import Expander as Expander
from gnnbridge.transforms.fosr import FoSR as FoSR
from gnnbridge.transforms.gtr import GTR as GTR
from gnnbridge.transforms.laser import LASER as LASER
from gnnbridge.transforms.measured_pattern import (
    measured_pattern as measured_pattern,
)
from gnnbridge.transforms.patterns import PATTERNS as PATTERNS
from gnnbridge.transforms.patterns import pattern as pattern
from gnnbridge.transforms.proxy import ProxyAdd as ProxyAdd
from gnnbridge.transforms.proxy import ProxyDelete as ProxyDelete
from gnnbridge.transforms.random_edges import RandomEdges as RandomEdges
from gnnbridge.transforms.resistance import (
    ResistanceRewiring as ResistanceRewiring,
)
from gnnbridge.transforms.runway import RunwayRewiring as RunwayRewiring
from gnnbridge.transforms.sdrf import SDRF as SDRF
from gnnbridge.transforms.shells import Shells as Shells
from gnnbridge.transforms.sliding_window import SlidingWindow as SlidingWindow
from gnnbridge.transforms.top_k import TopK as TopK
from gnnbridge.transforms.virtual_node import VirtualNode as VirtualNode

__all__ = [
    'AFRC',
    'BORF',
    'GTR',
    'LASER',
    'PATTERNS',
    'SDRF',
    'AttentionSinks',
    'CausalResistanceRewiring',
    'Changes',
    'Diffusion',
    'Expander',
    'FoSR',
    'ProxyAdd',
    'ProxyDelete',
    'RandomEdges',
    'ResistanceRewiring',
    'Rewiring',
    'RunwayRewiring',
    'Shells',
    'SlidingWindow',
    'TopK',
    'VirtualNode',
    'cayley_graph',
    'measured_pattern',
    'pattern',
]
