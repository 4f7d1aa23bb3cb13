"""Attention of one call over its pairs, for all heads or group by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnbridge.models.pairs import rows_of_pairs
from gnnbridge.models.slots import Pairs, Rows
from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.run import Options

# Queries whose weights are held at a time.
_ROWS = 256


def are_many(pairs: Pairs) -> bool:
    """Whether weights of all pairs at once would be wasteful: dense rows."""
    dense = pairs.rest is None and pairs.plan.backend == 'dense'
    return dense and pairs.bias is None and pairs.shape[2] > _ROWS


@dataclass(frozen=True)
class Attention:
    """Queries, keys and values of one call, and what else it asked for.

    Attributes:
        conv: The message-passing layer.
        query: ``[B, Q, H, D]``.
        key: ``[B, K, Hkv, D]``.
        value: ``[B, K, Hkv, Dv]``.
        options: Scale, biases, softcap, sinks and dropout.
    """

    conv: AttentionConv
    query: Tensor
    key: Tensor
    value: Tensor
    options: Options

    def over(
        self, pairs: Pairs, *, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Output ``[B, Q, H, Dv]`` and, if wanted, weights ``[E, H]``.

        The weights are those of ``pairs.union()``.
        """
        if pairs.rest is not None:
            return self._by_heads(pairs, pairs.rest, weights)
        bias = pairs.bias
        if bias is not None and bias.dim() == 1:
            bias = bias.unsqueeze(1)
        options = replace(self.options, edge_bias=bias, return_weights=weights)
        return self.conv.attend(
            pairs.plan, self.query, self.key, self.value, options
        )

    def by_rows(self, pairs: Pairs) -> Iterator[Rows]:
        """Weights block by block, of pairs that :func:`are_many`."""
        for first in range(0, pairs.shape[2], _ROWS):
            last = min(first + _ROWS, pairs.shape[2])
            some = rows_of_pairs(pairs, first, last)
            _, alpha = self._rows(first, last).over(some, weights=True)
            assert alpha is not None  # asked for
            yield Rows(first, some, alpha)

    def _rows(self, first: int, last: int) -> Attention:
        """The same for some of the queries."""
        options, shape = self.options, self.query.shape
        bias, s_aux = options.pair_bias, options.s_aux
        if bias is not None and bias.size(2) > 1:
            bias = bias[:, :, first:last]
        if s_aux is not None and s_aux.dim() > 1:
            s_aux = s_aux.unflatten(0, shape[:2])[:, first:last].flatten(0, 1)
        return replace(
            self,
            query=self.query[:, first:last],
            options=replace(options, pair_bias=bias, s_aux=s_aux),
        )

    def _by_heads(
        self, pairs: Pairs, rest: Pairs, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        heads = self.query.size(2)
        chosen = list(pairs.heads)
        others = [head for head in range(heads) if head not in set(chosen)]
        outs, alphas = [], []
        for some, those in ((chosen, pairs.alone()), (others, rest)):
            if some:
                those = _bias_of(those, some)
                out, alpha = self._of(some).over(those, weights=weights)
                outs.append(out)
                alphas.append((some, those, alpha))
        order = torch.tensor([*chosen, *others], device=self.query.device)
        out = torch.cat(outs, dim=2)[:, :, order.argsort()]
        if not weights:
            return out, None
        union = pairs.union()
        alpha = None
        for some, those, part in alphas:
            assert part is not None  # weights were asked for
            if alpha is None:
                alpha = part.new_zeros(union.plan.num_edges, heads)
            place = torch.searchsorted(union.code, those.code)
            index = torch.tensor(some, device=place.device)
            alpha = alpha.index_put((place.unsqueeze(1), index), part)
        return out, alpha

    def _of(self, heads: Sequence[int]) -> Attention:
        """The same for some of the heads."""
        options, groups = self.options, self.query.size(2) // self.key.size(2)
        bias, s_aux = options.pair_bias, options.s_aux
        if bias is not None and bias.size(1) > 1:
            bias = bias[:, list(heads)]
        shared = [head // groups for head in heads]
        return replace(
            self,
            query=self.query[:, :, list(heads)],
            key=self.key[:, :, shared],
            value=self.value[:, :, shared],
            options=replace(
                options,
                pair_bias=bias,
                s_aux=None if s_aux is None else s_aux[..., list(heads)],
            ),
        )


def _bias_of(pairs: Pairs, heads: Sequence[int]) -> Pairs:
    """The same pairs with the bias of some heads."""
    if pairs.bias is None or pairs.bias.dim() == 1:
        return pairs
    return pairs.with_bias(pairs.bias[:, list(heads)])
