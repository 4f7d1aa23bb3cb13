"""One more logit in the denominator of the softmax: a sink without a token."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from gnnbridge.models.attend import Attention
from gnnbridge.models.modified.modification import Modification, Moment
from gnnbridge.models.modified.sites import Site
from gnnbridge.remedies.base import AttentionRemedy


@dataclass(frozen=True)
class SinkLogit(AttentionRemedy):
    r"""A learned logit of each head that takes attention to nothing.

    As in GPT-OSS (``transformers``, ``gpt_oss/modeling_gpt_oss.py``): a key
    without a token, whose value is zero,

    .. math::
        A_{ij} = \frac{e^{z_{ij}}}{e^{s_h} + \sum_k e^{z_{ik}}}

    Rows sum to less than one; what is missing is the sink's. At
    :math:`s_h = -\infty` nothing changes, and nothing is learned.

    Args:
        initial: First value of :math:`s_h`. A model that was trained without
            is changed little by a value far below its logits.
    """

    initial: float = 0.0

    name: ClassVar[str] = 'sink_logit'
    part: ClassVar[str] = 'normalisation'
    costs: ClassVar[str] = 'one number for each head of each layer'

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isnan(self.initial) or self.initial == math.inf:
            raise ValueError(
                f"Expected 'initial' to be a number or -inf (got "
                f'{self.initial}). Use -inf for no sink.'
            )

    @classmethod
    def neutral(cls) -> SinkLogit:
        """Without attention to the sink."""
        return cls(-math.inf)

    def modification(self, site: Site) -> Modification:
        """A parameter ``logit [H]``."""
        logit = torch.full((site.heads,), self.initial, dtype=site.dtype)
        return _Sink(nn.Parameter(logit))


@dataclass(frozen=True)
class SoftmaxOne(AttentionRemedy):
    r"""The softmax with one more in its denominator.

    Miller's "softmax1", `"Attention Is Off By One"
    <https://www.evanmiller.org/attention-is-off-by-one.html>`_; the zero sink
    of `"Efficient Streaming Language Models with Attention Sinks"
    <https://arxiv.org/abs/2309.17453>`_:

    .. math::
        A_{ij} = \frac{e^{z_{ij}}}{1 + \sum_k e^{z_{ik}}}

    :class:`SinkLogit` with a logit of zero that is not learned. It changes
    the function of a model that was trained without.
    """

    name: ClassVar[str] = 'softmax_one'
    part: ClassVar[str] = 'normalisation'
    costs: ClassVar[str] = 'no parameters'
    learns: ClassVar[bool] = False

    def modification(self, site: Site) -> Modification:
        """No parameter."""
        return _Sink(None)


class _Sink(Modification):
    def __init__(self, logit: nn.Parameter | None) -> None:
        super().__init__()
        self.register_parameter('logit', logit)

    def attention(self, attention: Attention, moment: Moment) -> Attention:
        refuse_own_sinks(attention, moment)
        logit: Any = self.logit
        if logit is None:
            logit = attention.query.new_zeros(attention.query.size(2))
        return replace(
            attention, options=replace(attention.options, s_aux=logit)
        )


def refuse_own_sinks(attention: Attention, moment: Moment) -> None:
    """Refuses models that have sinks in their softmax.

    Raises:
        NotImplementedError: If this one has.
    """
    if attention.options.s_aux is not None:
        raise NotImplementedError(
            f'Expected a model without sink logits of its own (got '
            f"'{moment.slot.shared.architecture}', whose layer "
            f'{moment.slot.layer} has some). It has this remedy already.'
        )
