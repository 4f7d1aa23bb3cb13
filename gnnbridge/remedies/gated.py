"""A gate on what attention gives, head by head or entry by entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from gnnbridge.models.modified.modification import Modification, Moment
from gnnbridge.models.modified.sites import Site
from gnnbridge.remedies.base import AttentionRemedy
from gnnbridge.remedies.checks import check_choice

Gate = Literal['head', 'element']
Start = Literal['identity', 'paper']


@dataclass(frozen=True)
class GatedAttention(AttentionRemedy):
    r"""A sigmoid gate after attention, before the output projection.

    `"Gated Attention for Large Language Models: Non-linearity, Sparsity, and
    Attention-Sink-Free" <https://arxiv.org/abs/2505.06708>`_, its position
    G1:

    .. math::
        \mathbf{Y}' = c \, \mathbf{Y} \odot \sigma(\mathbf{X} \mathbf{W}_g)

    with :math:`\mathbf{Y}` what each head gathers and :math:`\mathbf{X}` what
    the attention module is given, behind the norm of its block. The paper has
    :math:`c = 1` and draws :math:`\mathbf{W}_g` as every other weight, so a
    model starts with about half of its attention.

    .. note::
        With ``start='identity'``, :math:`c = 2` and :math:`\mathbf{W}_g = 0`:
        gates start at one exactly, which leaves a trained model as it is, and
        lie between zero and two. The factor is one that the output projection
        may have as well, so the layers that can be learned are the same.

    Args:
        gate: ``'head'`` for one gate per head, ``'element'`` for one per
            entry of its output (the paper's best).
        start: ``'identity'`` or ``'paper'``.
        std: Standard deviation of :math:`\mathbf{W}_g` for ``'paper'``.
        seed: Of :math:`\mathbf{W}_g`; each layer draws its own.
    """

    gate: Gate = 'element'
    start: Start = 'identity'
    std: float = 0.02
    seed: int = 0

    name: ClassVar[str] = 'gated'
    part: ClassVar[str] = 'output'
    costs: ClassVar[str] = (
        'a matrix of each layer: width of the states times heads, or times '
        'width of all heads; one product more'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice('gate', self.gate, get_args(Gate))
        check_choice('start', self.start, get_args(Start))
        if not self.std >= 0:
            raise ValueError(
                f"Expected 'std' to be a positive number or 0 (got {self.std})."
            )

    @classmethod
    def neutral(cls) -> GatedAttention:
        """With gates that start at one."""
        return cls()

    def modification(self, site: Site) -> Modification:
        """A parameter ``weight [H or H * Dv, d]``."""
        width = 1 if self.gate == 'head' else site.width
        weight = torch.zeros(site.heads * width, site.hidden)
        if self.start == 'paper':
            generator = torch.Generator().manual_seed(
                self.seed * 10_007 + site.layer
            )
            weight.normal_(0.0, self.std, generator=generator)
        factor = 2.0 if self.start == 'identity' else 1.0
        return _Gate(nn.Parameter(weight.to(site.dtype)), factor)


class _Gate(Modification):
    def __init__(self, weight: nn.Parameter, factor: float) -> None:
        super().__init__()
        self.weight, self.factor = weight, factor

    def output(self, out: Tensor, moment: Moment) -> Tensor:
        states, heads = moment.states, out.size(2)
        assert states is not None  # found when the model was measured
        score = nn.functional.linear(states.to(self.weight.dtype), self.weight)
        gate = self.factor * torch.sigmoid(score).unflatten(-1, (heads, -1))
        return out * gate.to(out.dtype)

    def extra_repr(self) -> str:
        return f'{list(self.weight.shape)}, factor={self.factor}'
