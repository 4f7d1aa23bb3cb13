"""Attention that takes the two-step paths between tokens into account."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gnnbridge.models.attend import Attention
from gnnbridge.models.modified.modification import Modification, Moment
from gnnbridge.models.modified.sites import Site
from gnnbridge.models.pairs import dense_weights
from gnnbridge.models.slots import Pairs, Rows
from gnnbridge.remedies.base import AttentionRemedy


@dataclass(frozen=True)
class RunwayAware(AttentionRemedy):
    r"""Lets the logits know of indirect paths.

    **Our reading** of `"On the Runway Cascade of Transformers for Language
    Modeling" <https://arxiv.org/abs/2601.14522>`_, from its abstract alone;
    no reproduction. There the runways of a pair of tokens are its paths
    through tokens in between, and a summary of them is folded into attention.
    The summary here is the mass of two steps minus that of one,

    .. math::
        r_{ij} = \textstyle\sum_k A_{ik} A_{kj} - A_{ij}, \qquad
        A' = \mathrm{softmax}(z + \beta_h \, r)

    with :math:`A` the attention of the same head without it and
    :math:`\beta_h` learned, zero at first. On a causal graph :math:`r` is
    causal. The paper adds no parameters; this adds one for each head.

    It needs all earlier rows. Beside a KV cache it keeps them, :math:`H N^2`
    numbers in each layer, and refuses caches that are reordered, cut or
    sliding.

    Args:
        beta: First value of :math:`\beta_h`.
    """

    beta: float = 0.0

    name: ClassVar[str] = 'runway'
    part: ClassVar[str] = 'logits'
    costs: ClassVar[str] = (
        'one number for each head of each layer; attention twice, and a '
        'product of its matrices (cubic in the length)'
    )

    @classmethod
    def neutral(cls) -> RunwayAware:
        """With beta zero."""
        return cls()

    def modification(self, site: Site) -> Modification:
        """A parameter ``beta [H]``."""
        beta = torch.full((site.heads,), float(self.beta), dtype=site.dtype)
        return _Runway(nn.Parameter(beta))


class _Runway(Modification):
    def __init__(self, beta: nn.Parameter) -> None:
        super().__init__()
        self.beta = beta

    def attention(self, attention: Attention, moment: Moment) -> Attention:
        if type(attention) is not Attention:
            raise NotImplementedError(
                'Expected the softmax of the model below the runway (got '
                'attention that another remedy replaces). Remove that one.'
            )
        given = {f.name: getattr(attention, f.name) for f in fields(Attention)}
        return _RunwayAttention(**given, beta=self.beta, moment=moment)


@dataclass(frozen=True)
class _RunwayAttention(Attention):
    """Attention in two passes, the second with a bias from the first."""

    beta: Tensor | None = None
    moment: Moment | None = None

    def over(
        self, pairs: Pairs, *, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        assert self.beta is not None  # given with the class
        plain = Attention(
            self.conv, self.query, self.key, self.value,
            replace(self.options, dropout=0.0),
        )  # fmt: skip
        _, alpha = plain.over(pairs, weights=True)
        assert alpha is not None  # asked for
        direct = dense_weights(alpha, pairs.union())
        runway = self._two_steps(direct, pairs) - direct
        bias = self.beta.to(runway.dtype).view(1, -1, 1, 1) * runway
        if self.options.pair_bias is not None:
            bias = bias + self.options.pair_bias
        biased = replace(
            plain, options=replace(self.options, pair_bias=bias)
        )  # fmt: skip
        return biased.over(pairs, weights=weights)

    def by_rows(self, pairs: Pairs) -> list[Rows]:  # type: ignore[override]
        """All rows at once: each needs those before it."""
        _, alpha = self.over(pairs, weights=True)
        assert alpha is not None  # asked for
        return [Rows(0, pairs.union(), alpha)]

    def _two_steps(self, direct: Tensor, pairs: Pairs) -> Tensor:
        """The mass of paths of two steps ``[B, H, Q, K]``."""
        moment = self.moment
        assert moment is not None  # given with the class
        frame, (_, _, queries, keys) = moment.frame, direct.shape
        first = int(frame.first_query)
        if frame.first_key > 0:
            raise NotImplementedError(
                f'Expected a KV cache that keeps all keys (got one that has '
                f'dropped {frame.first_key} in layer {moment.slot.layer}). '
                f'Use a DynamicCache without a window.'
            )
        if moment.slot.exact is not None or first == 0 == keys - queries:
            rows = direct
        else:
            rows = self._all_rows(direct, first, pairs is moment.own)
        if first == 0:
            self._remember(rows, queries, pairs is moment.own)
        # Keys of a static cache that are not filled have no rows, nor mass.
        return pad(
            direct[..., : rows.size(2)] @ rows[..., : rows.size(2)],
            (0, keys - rows.size(2)),
        )

    def _all_rows(self, direct: Tensor, first: int, own: bool) -> Tensor:
        """The rows before this call, and those of it."""
        moment, total = self.moment, first + direct.size(2)
        assert moment is not None  # given with the class
        now = direct[..., :total]
        if first == 0:
            return now
        memory = moment.memory(f'runway {own}')
        if (
            memory is None
            or memory.value is None
            or (memory.value.size(2) < first)
        ):
            raise NotImplementedError(
                f'Expected a KV cache that was filled with the remedy in '
                f'place, in evaluation mode and on the same graph (got {first} '
                f'earlier tokens in layer {moment.slot.layer} whose attention '
                f'is not known). Fill the cache anew.'
            )
        memory.check(self.key, first)
        past = memory.value[:, :, :first, :first]
        rows = torch.cat([pad(past, (0, total - first)), now], dim=2)
        self._remember(rows, total, own)
        return rows

    def _remember(self, rows: Tensor, total: int, own: bool) -> None:
        moment = self.moment
        assert moment is not None  # given with the class
        memory = moment.memory(f'runway {own}')
        # Training makes caches that nobody uses.
        if memory is not None and not moment.training:
            memory.keep(rows[..., :total], self.key, total)
