"""Attention without normalisation: a sigmoid of each score."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from gnnbridge.models.attend import Attention
from gnnbridge.models.modified.modification import Modification, Moment
from gnnbridge.models.modified.sites import Site
from gnnbridge.models.pairs import mask_of
from gnnbridge.models.slots import Pairs
from gnnbridge.nn.run import Options
from gnnbridge.remedies.base import AttentionRemedy
from gnnbridge.remedies.sink_logits import refuse_own_sinks


@dataclass(frozen=True)
class SigmoidAttention(AttentionRemedy):
    r"""A sigmoid of each score in place of the softmax of a row.

    `"Theory, Analysis, and Best Practices for Sigmoid Self-Attention"
    <https://arxiv.org/abs/2409.04431>`_; without normalisation no sink
    emerges (`"When Attention Sink Emerges in Language Models"
    <https://arxiv.org/abs/2410.10781>`_):

    .. math::
        A_{ij} = \sigma(z_{ij} + b_i), \qquad b_i = -\log n_i

    with :math:`n_i` the number of keys that the query sees. Then a row of
    scores near zero has weights near :math:`1 / n_i`, as by a softmax.

    .. note::
        The paper takes the length of the sequence for all rows. This takes
        each row's own number, which is known when tokens are generated and
        makes the same of a sequence whatever follows it; ``bias`` may also be
        a number, as :math:`-\log` of the trained length, or 0 as in the
        second paper.

    It is for training from scratch: rows of a trained model no longer sum to
    one, and its function is another. There are no neutral settings. Rows of
    captured graphs do not sum to one either, and graph quantities that need
    this say so or renormalise.

    Args:
        bias: ``'row'`` for :math:`-\log n_i`, or a number for all rows.
    """

    bias: Literal['row'] | float = 'row'

    name: ClassVar[str] = 'sigmoid'
    part: ClassVar[str] = 'normalisation'
    costs: ClassVar[str] = 'no parameters; scores of all pairs in memory'
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        is_number = isinstance(self.bias, (int, float))
        if self.bias != 'row' and not (
            is_number and math.isfinite(float(self.bias))
        ):
            raise ValueError(
                f"Expected 'bias' to be 'row' or a finite number (got "
                f'{self.bias!r}).'
            )

    def modification(self, site: Site) -> Modification:
        """No parameter."""
        return _Sigmoid(self.bias)


class _Sigmoid(Modification):
    def __init__(self, bias: Any) -> None:
        super().__init__()
        self.bias = bias

    def attention(self, attention: Attention, moment: Moment) -> Attention:
        refuse_own_sinks(attention, moment)
        if type(attention) is not Attention:
            raise NotImplementedError(
                'Expected the softmax of the model in the place of the sigmoid '
                '(got attention that another remedy has changed). Apply this '
                'one to a model without it.'
            )
        given = {f.name: getattr(attention, f.name) for f in fields(Attention)}
        return _SigmoidScores(**given, bias=self.bias)

    def extra_repr(self) -> str:
        return f'bias={self.bias}'


@dataclass(frozen=True)
class _SigmoidScores(Attention):
    """Attention by sigmoids, over all pairs with a mask."""

    bias: Any = 'row'

    def over(
        self, pairs: Pairs, *, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        if pairs.rest is not None:
            return self._by_heads(pairs, pairs.rest, weights)
        keep = mask_of(pairs).unsqueeze(1)
        score = _scores(self.query, self.key, self.options)
        bias = _bias(self.options, pairs, score)
        if bias is not None:
            score = score + bias
            keep = keep & (bias > float('-inf'))
        count = keep.sum(dim=-1, keepdim=True).clamp_min(1)
        shift = -count.to(score.dtype).log()
        if self.bias != 'row':
            shift = torch.full_like(shift, self.bias)
        # Switched off by the mask alone: -inf has no gradient.
        score = torch.where(keep, score, 0.0)
        weight = torch.sigmoid(score + shift) * keep
        out = _gather(weight, self.value, self.options.dropout)
        if not weights:
            return out, None
        return out, weight.permute(0, 2, 3, 1)[pairs.plan.places]


def _scores(query: Tensor, key: Tensor, options: Options) -> Tensor:
    """Scores of all pairs ``[B, H, Q, K]``, in at least float32."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    groups = query.size(2) // key.size(2)
    rows = query.to(dtype).unflatten(2, (key.size(2), groups))
    score = torch.einsum('bqgrd,bkgd->bgrqk', rows, key.to(dtype))
    score = score.flatten(1, 2) * options.scale
    if options.softcap is not None:
        score = options.softcap * torch.tanh(score / options.softcap)
    return score


def _bias(options: Options, pairs: Pairs, score: Tensor) -> Tensor | None:
    """All that is added to the scores ``[B | 1, H | 1, Q, K]``."""
    bias = options.pair_bias
    if pairs.bias is not None:
        own = pairs.bias if pairs.bias.dim() == 2 else pairs.bias.unsqueeze(1)
        dense = score.new_zeros(*score.shape[:1], *score.shape[2:], own.size(1))
        dense = dense.index_put(pairs.plan.places, own.to(score.dtype))
        dense = dense.permute(0, 3, 1, 2)
        bias = dense if bias is None else bias + dense
    return bias


def _gather(weight: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Weighted sums of values ``[B, Q, H, Dv]``."""
    groups = weight.size(1) // value.size(2)
    if dropout > 0:
        weight = torch.dropout(weight, dropout, True)
    rows = weight.unflatten(1, (value.size(2), groups))
    out = torch.einsum('bgrqk,bkgd->bqgrd', rows, value.to(weight.dtype))
    return out.flatten(2, 3).to(value.dtype)
