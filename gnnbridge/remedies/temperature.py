"""Sharper or flatter attention, fitted to what its graph should be like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from gnnbridge.models.attend import Attention
from gnnbridge.models.modified.install import changes_named
from gnnbridge.models.modified.modification import Modification, Moment
from gnnbridge.models.modified.sites import Site
from gnnbridge.models.pairs import mask_of
from gnnbridge.models.slots import Pairs
from gnnbridge.models.support import run_once
from gnnbridge.remedies.base import AttentionRemedy, Model
from gnnbridge.remedies.checks import check_choice, check_count
from gnnbridge.remedies.fitting import Measure, fit_entropy, fit_resistance

Length = Literal['none', 'sqrt_log', 'log']


@dataclass(frozen=True)
class CalibratedTemperature(AttentionRemedy):
    r"""Multiplies the scores of each head, and of each row by its length.

    .. math::
        A_i = \mathrm{softmax}(\tau_h \, f(n_i) \, z_i), \qquad
        f(n) = 1, \ \sqrt{\log n / \log n_0} \ \text{or} \ \log n / \log n_0

    with :math:`n_i` the number of keys that the query sees. With scores of
    one variance for all lengths, attention over more keys goes flat; scores
    that grow with :math:`\sqrt{\log n}` stay at the transition between a flat
    row and one of a single key (`"Two failure modes of deep transformers"
    <https://arxiv.org/abs/2505.24333>`_, where the scale is
    :math:`\beta \sqrt{\log n}`). Both forms of :math:`f` are 1 at the
    reference :math:`n_0`; shorter rows keep 1, so that a model is left alone
    where it was trained, unless ``shorter`` is set.

    :meth:`calibrate` fits :math:`\tau` by one pass over given sequences,
    layer by layer, each with the layers below fitted already:

    - ``'entropy'``: for each head, the mean of :math:`H(A_i) / \log n_i` over
      all rows of at least two keys becomes ``target``. Entropy falls with
      :math:`\tau`, so it is found by bisection.
    - ``'resistance'``: for each layer, the depth-matched total resistance
      (:func:`gnnbridge.spectral.total_resistance`, ``kind='causal'``, `hops`
      the number of layers) of the mean of its heads becomes ``target`` times
      that of uniform attention over the same edges. It need not be monotone:
      the nearest of a grid, refined twice. Cubic in the length.

    :math:`\tau` stays between :math:`e^{-3}` and :math:`e^3`; where the target
    is out of reach, it is at an end. :meth:`report` says what was reached.
    Before calibration :math:`\tau = 1`.

    Args:
        rule: ``'entropy'`` or ``'resistance'``.
        target: What to match.
        length: Which :math:`f`.
        reference: The length :math:`n_0`, for an :math:`f` other than 1.
        shorter: Whether rows shorter than the reference are made flatter.
        hops: The hops of the resistance; the number of layers by default.
    """

    rule: Measure = 'entropy'
    target: float = 0.5
    length: Length = 'none'
    reference: int | None = None
    shorter: bool = False
    hops: float | None = None

    name: ClassVar[str] = 'temperature'
    part: ClassVar[str] = 'temperature'
    costs: ClassVar[str] = (
        'no parameters to train; one fitted number for each head of each layer'
    )
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice('rule', self.rule, get_args(Measure))
        check_choice('length', self.length, get_args(Length))
        if not 0 < self.target < math.inf or (
            self.rule == 'entropy' and self.target >= 1
        ):
            raise ValueError(
                f"Expected 'target' to be positive, and below 1 for entropy "
                f'(got {self.target}).'
            )
        if (self.length == 'none') != (self.reference is None):
            raise ValueError(
                f"Expected 'reference' with a 'length' other than 'none', and "
                f'only then (got {self.reference} with {self.length!r}).'
            )
        if self.reference is not None:
            check_count('reference', self.reference, 2)
        if self.shorter and self.length == 'none':
            raise ValueError(
                "Expected 'shorter' with a 'length' other than 'none'."
            )
        if self.hops is not None and self.rule != 'resistance':
            raise ValueError("Expected 'hops' with rule 'resistance' alone.")

    @classmethod
    def neutral(cls) -> CalibratedTemperature:
        """Before it is calibrated."""
        return cls()

    def modification(self, site: Site) -> Modification:
        """A buffer ``log_temperature [H]``."""
        return _Temperature(self, site.heads)

    def calibrate(self, model: Model, sequences: Tensor) -> Model:
        r"""Fits the temperatures to sequences of tokens, in place.

        Args:
            model: A model with this remedy.
            sequences: Token ids without padding.

        Shapes:
            - **sequences:** :math:`(T)` or :math:`(B, T)`, :math:`T \ge 3`

        Raises:
            ValueError: If the model does not have the remedy, or sequences
                are too short.
        """
        self._refuse_without(model)
        ids = sequences.unsqueeze(0) if sequences.dim() == 1 else sequences
        if ids.dim() != 2 or ids.size(1) < 3 or ids.is_floating_point():
            raise ValueError(
                f"Expected 'sequences' to be token ids [T] or [B, T] of at "
                f'least three tokens (got {sequences.dtype} of shape '
                f'{list(sequences.shape)}).'
            )
        changes = list(changes_named(model, self.name).values())
        for change in changes:
            change.hops = self.hops or float(len(changes))
            change.fits = True
        try:
            run_once(
                model,
                {'input_ids': ids, 'attention_mask': torch.ones_like(ids)},
            )
        finally:
            for change in changes:
                change.fits = False
        return model

    def report(self, model: nn.Module) -> list[dict[str, Any]]:
        """The temperature ``[H]`` of each layer, and what it reached.

        ``reached`` is NaN before calibration; one number for a layer, given
        for each head, by resistance.
        """
        self._refuse_without(model)
        return [
            {
                'module': path,
                'temperature': change.log_temperature.exp(),
                'reached': change.reached.clone(),
            }
            for path, change in changes_named(model, self.name).items()
        ]


class _Temperature(Modification):
    log_temperature: Tensor
    reached: Tensor

    def __init__(self, remedy: CalibratedTemperature, heads: int) -> None:
        super().__init__()
        self.remedy, self.fits, self.hops = remedy, False, 1.0
        self.register_buffer('log_temperature', torch.zeros(heads))
        self.register_buffer('reached', torch.full((heads,), math.nan))

    def attention(self, attention: Attention, moment: Moment) -> Attention:
        if self.fits:
            self._fit(attention, moment.own)
        return self._tempered(attention, moment.own, self.log_temperature)

    def _tempered(
        self, attention: Attention, own: Pairs, log_temperature: Tensor
    ) -> Attention:
        factor = log_temperature.float().exp().view(1, 1, -1, 1)
        if self.remedy.length != 'none':
            factor = factor * self._of_length(own).view(
                *own.shape[:1], -1, 1, 1
            )
        query = attention.query
        scaled = query.float() if query.element_size() < 4 else query
        scaled = scaled * factor.to(scaled)
        return replace(attention, query=scaled.to(query.dtype))

    def _of_length(self, own: Pairs) -> Tensor:  # [B, Q]
        reference = self.remedy.reference
        assert reference is not None  # checked with the length
        count = mask_of(own).sum(dim=-1).expand(own.shape[0], -1)
        factor = count.clamp_min(1).double().log() / math.log(reference)
        if not self.remedy.shorter:
            factor = factor.clamp_min(1.0)
        return factor.sqrt() if self.remedy.length == 'sqrt_log' else factor

    @torch.no_grad()
    def _fit(self, attention: Attention, own: Pairs) -> None:
        def weights(log_temperature: Tensor) -> Tensor:
            tempered = self._tempered(attention, own, log_temperature)
            _, alpha = tempered.over(own, weights=True)
            assert alpha is not None  # asked for
            return alpha

        heads, target = self.log_temperature, self.remedy.target
        if self.remedy.rule == 'entropy':
            found = fit_entropy(weights, own, heads.double(), target)
        else:
            found = fit_resistance(
                weights, own, heads.double(), target, self.hops
            )
        self.log_temperature.copy_(found[0])
        self.reached.copy_(found[1])

    def extra_repr(self) -> str:
        return f'heads={self.log_temperature.numel()}'
