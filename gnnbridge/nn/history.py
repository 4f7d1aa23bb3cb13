"""The history of attention that a subtracted map may remember."""

from __future__ import annotations

from typing import Optional, Union

import torch
from torch import Tensor, nn

from gnnbridge.nn.history_state import HistoryState
from gnnbridge.nn.history_sums import decayed_sums, earlier_on_edges
from gnnbridge.nn.maps import Maps
from gnnbridge.nn.nesting import nested_rows

# Queries and keys of the two maps.
Pairs = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
# The queries and keys of the layer below, or its map on the edges.
Previous = Union[tuple[Tensor, Tensor], Tensor]

KINDS = ('decay', 'layer', 'runway')
MAPS = ('first', 'second')


class AttentionHistory(nn.Module):
    r"""What the subtracted map of differential attention knows of the past.

    Differential attention subtracts a map that each row forms on its own.
    `"Understanding the Failure Modes of Transformers through the Lens of
    Graph Neural Networks" <https://arxiv.org/abs/2512.09182>`_ suggests that
    it would reduce over-squashing better as a function of the previous rows,
    in which position bias has accumulated. Here it is

    .. math::
        \mathbf{B}_i = (1 - \rho) \, \mathbf{S}_i^{(2)} + \rho \,
        \hat{\mathbf{H}}_i, \qquad
        \hat{\mathbf{H}}_i = \mathbf{H}_i / \textstyle\sum_j H_{ij},

    with :math:`H_{ij}` zero where row :math:`i` has no edge from key
    :math:`j`, and one of

    - ``'decay'``: :math:`\mathbf{H}_i = (1 - g) \sum_{m < i} g^{\,i - 1 - m}
      \mathbf{S}_m`, a running mean of earlier rows with a learned memory;
    - ``'runway'``: :math:`\mathbf{H}_i = \sum_{m < i} \mathbf{S}_m`, the
      attention that each key has received so far. On a causal graph this is
      ``'decay'`` in the limit :math:`g \to 1`;
    - ``'layer'``: :math:`\mathbf{H}_i = \mathbf{S}_i`, the same row of the
      layer below.

    :math:`\hat{\mathbf{H}}` is normalised before it is mixed, so that
    :math:`\rho` is the share of history also where a window hides part of it;
    then :math:`\mathbf{B}` needs no normalisation, and at :math:`\rho = 0` it
    is :math:`\mathbf{S}^{(2)}` exactly. A row without history (the first one,
    or one none of whose keys were seen before) takes its own
    :math:`\mathbf{S}_i^{(2)}` in its place. History comes from strictly
    earlier rows: a causal graph stays causal, and a key that only its own row
    has seen has none.

    ``of`` says whose rows :math:`\mathbf{S}` are. By default they are those
    of the second map: this is the suggestion as it is made, the subtracted map
    as a function of its own previous rows; the first map, which carries the
    signal, is left alone, and each row's estimate of the noise becomes a mean
    over several rows. With ``'first'``, a row subtracts what earlier rows
    have attended to, a causal centring of the map of signals.

    Args:
        kind: ``'decay'``, ``'layer'`` or ``'runway'``.
        heads: Number of heads; each learns its own :math:`\rho` and
            :math:`g`. These are all weights that history has: ``heads``, and
            ``2 * heads`` for ``'decay'``.
        of: ``'second'`` or ``'first'``.
        rho: First value of :math:`\rho`, 0 to 1. By default most of the map
            is still the current row's. The ends have no gradient: at 0 the
            layer is and stays the one without history.
        decay: First value of :math:`g`, 0 to 1; at 0.9 half of the mean
            comes from the last seven rows.

    Attributes:
        rho_logit: Logits of :math:`\rho` :obj:`[H]`.
        decay_logit: Logits of :math:`g` :obj:`[H]`; None but for ``'decay'``.
    """

    def __init__(
        self,
        kind: str,
        heads: int,
        *,
        of: str = 'second',
        rho: float = 0.1,
        decay: float = 0.9,
    ) -> None:
        super().__init__()
        _check_name('history', kind, KINDS)
        _check_name('of', of, MAPS)
        _check_share('rho', rho)
        _check_share('decay', decay)
        self.kind, self.heads, self.of = kind, heads, of
        self._first_values = rho, decay
        self.rho_logit = nn.Parameter(torch.empty(heads))
        self.decay_logit: Optional[nn.Parameter] = None
        if kind == 'decay':
            self.decay_logit = nn.Parameter(torch.empty(heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the shares back to their first values."""
        rho, decay = torch.tensor(self._first_values, dtype=torch.double)
        with torch.no_grad():
            self.rho_logit.fill_(rho.logit().item())
            if self.decay_logit is not None:
                self.decay_logit.fill_(decay.logit().item())

    @property
    def rho(self) -> Tensor:
        """Share of history in the subtracted map ``[H]``, at least float32."""
        return _wide(self.rho_logit).sigmoid()

    @property
    def decay(self) -> Tensor:
        """What a row keeps of the rows before it ``[H]``; 1 without decay."""
        if self.decay_logit is None:
            return torch.ones_like(_wide(self.rho_logit))
        return _wide(self.decay_logit).sigmoid()

    @property
    def of_rows(self) -> bool:
        """Whether history comes from earlier rows, not from a layer."""
        return self.kind != 'layer'

    def forward(
        self,
        maps: Maps,
        pairs: Pairs,
        outputs: tuple[Tensor, Tensor],
        *,
        previous: Optional[Previous] = None,
        state: Optional[HistoryState] = None,
    ) -> Tensor:
        """What the history :math:`H` gathers, row by row.

        Where rows are nested, what earlier rows gathered is summed in place
        of their maps, and nothing of the size of the graph is made.

        Args:
            maps: The graph with its values.
            pairs: Queries and keys of both maps, each :obj:`[N, H, D]`.
            outputs: What both maps gather :obj:`[Nq, H, Dv]`.
            previous: Of the layer below, for ``'layer'``: queries and keys of
                the map, or the map :obj:`[E, H]`.
            state: What keys received before the first row.

        Returns:
            :obj:`[Nq, H, Dv]`, of the second map for rows without history.
        """
        seen = None
        if isinstance(previous, tuple):
            return maps.attend(*previous)
        if not self.of_rows and previous is None:
            return outputs[1]
        if self.of_rows and maps.edge_bias is None and not state:
            seen = nested_rows(maps.plan)
        if seen is not None:
            return self._of_outputs(seen, *outputs)
        return maps.gather(
            self.weights(maps, pairs, previous=previous, state=state)
        )

    def weights(
        self,
        maps: Maps,
        pairs: Pairs,
        *,
        previous: Optional[Previous] = None,
        state: Optional[HistoryState] = None,
    ) -> Tensor:
        """The map :math:`H` itself, normalised :obj:`[E, H]`.

        Arguments are those of :meth:`forward`.
        """
        if isinstance(previous, tuple):
            return maps.weights(*previous)
        second = maps.weights(*pairs[1])
        if previous is not None:
            return maps.normalised(previous.to(second.dtype), second)
        if not self.of_rows:
            return second
        source = second if self.of == 'second' else maps.weights(*pairs[0])
        received = None if state is None else state.received
        past = earlier_on_edges(
            maps.plan, source, self.decay.to(source.dtype), received
        )
        return maps.normalised(past, second)

    def advance(self, maps: Maps, pairs: Pairs, state: HistoryState) -> None:
        """Adds the rows of the graph to what ``state`` remembers.

        History of the layer below remembers nothing.
        """
        if not self.of_rows:
            return
        source = maps.weights(*pairs[MAPS.index(self.of)])
        state.advance(maps.plan, source, self.decay.to(source.dtype))

    def _of_outputs(
        self, seen: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        """The same for nested rows, from what they gathered.

        Args:
            seen: Which rows see a key ``[B | 1, Q]``.
            first: What the first map gathers ``[Nq, H, Dv]``.
            second: What the second one does.
        """
        source = _wide(second if self.of == 'second' else first)
        decay = self.decay.to(source.dtype)
        seen = seen.to(source)[..., None, None].expand(-1, -1, self.heads, 1)
        rows = source.unflatten(0, (-1, seen.size(1)))
        past, mass = decayed_sums(rows, decay), decayed_sums(seen, decay)
        known = mass >= torch.finfo(mass.dtype).tiny
        past = past / mass.masked_fill(~known, 1.0)
        return torch.where(known, past, second.view_as(rows)).flatten(0, 1)

    def extra_repr(self) -> str:
        """Kind, heads and whose rows they are."""
        return f"'{self.kind}', heads={self.heads}, of='{self.of}'"


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_name(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(
            f"Expected '{name}' to be one of {', '.join(known)} (got "
            f'{value!r}).'
        )


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"Expected '{name}' to be in [0, 1] (got {value}).")
