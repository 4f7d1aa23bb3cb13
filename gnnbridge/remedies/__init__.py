"""Remedies for the failures of decoders, one interface for all of them.

``remedy.apply(model)`` changes a causal language model in place, trained or
freshly initialised; ``remedy.remove(model)`` undoes it, and
``remedy.build(config, seed)`` gives a new model with it.
"""

from gnnbridge.remedies.base import AttentionRemedy as AttentionRemedy
from gnnbridge.remedies.base import Remedy as Remedy
from gnnbridge.remedies.base import applied as applied
from gnnbridge.remedies.differential import Differential as Differential
from gnnbridge.remedies.gated import GatedAttention as GatedAttention
from gnnbridge.remedies.registry import REMEDIES as REMEDIES
from gnnbridge.remedies.registry import load as load
from gnnbridge.remedies.registry import make as make
from gnnbridge.remedies.runway import RunwayAware as RunwayAware
from gnnbridge.remedies.sigmoid import SigmoidAttention as SigmoidAttention
from gnnbridge.remedies.sink_logits import SinkLogit as SinkLogit
from gnnbridge.remedies.sink_logits import SoftmaxOne as SoftmaxOne
from gnnbridge.remedies.temperature import (
    CalibratedTemperature as CalibratedTemperature,
)
from gnnbridge.remedies.tokens import PauseTokens as PauseTokens
from gnnbridge.remedies.tokens import SinkTokens as SinkTokens
from gnnbridge.remedies.window import WindowWithSinks as WindowWithSinks

__all__ = [
    'REMEDIES',
    'AttentionRemedy',
    'CalibratedTemperature',
    'Differential',
    'GatedAttention',
    'PauseTokens',
    'Remedy',
    'RunwayAware',
    'SigmoidAttention',
    'SinkLogit',
    'SinkTokens',
    'SoftmaxOne',
    'WindowWithSinks',
    'applied',
    'load',
    'make',
]
