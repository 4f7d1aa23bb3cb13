"""Differential attention as message passing: two graphs and a difference."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.typing import OptTensor

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.history import AttentionHistory, Pairs, Previous
from gnnbridge.nn.history_arguments import check_history, history_of
from gnnbridge.nn.history_state import HistoryState
from gnnbridge.nn.maps import Maps
from gnnbridge.nn.plan import AttentionPlan, Structure, plan_attention


class DifferentialWeights(NamedTuple):
    """The maps of differential attention on the edges, each ``[E, H]``.

    Attributes:
        signed: ``first - lambda * second``: a row sums to ``1 - lambda``, and
            weights may be negative.
        first: The map of the signal.
        second: The map that is subtracted, with its history.
    """

    signed: Tensor
    first: Tensor
    second: Tensor


class DifferentialAttentionConv(nn.Module):
    r"""Differential attention on a token graph, with or without history.

    The difference of two attention maps of `"Differential Transformer"
    <https://arxiv.org/abs/2410.05258>`_ (eqs. 1-3), each run as message
    passing on the same graph,

    .. math::
        \mathbf{o}_i &= (1 - \lambda_0) \, \mathrm{RMSNorm} \Big( \sum_{j \to i}
        \big( S^{(1)}_{ij} - \lambda B_{ij} \big) \mathbf{v}_j \Big) \\
        \lambda &= \exp(\mathbf{l}_{q1}^{\top} \mathbf{l}_{k1}) -
        \exp(\mathbf{l}_{q2}^{\top} \mathbf{l}_{k2}) + \lambda_0, \qquad
        \lambda_0 = 0.8 - 0.6 \exp(-0.3 \, l)

    with :math:`l` the layer, from zero. Without history :math:`\mathbf{B}` is
    the second map :math:`\mathbf{S}^{(2)}`; with it, a function of earlier
    rows: see :class:`gnnbridge.nn.AttentionHistory`.

    Queries and keys hold the heads of the first map before those of the
    second, as in ``transformers`` (DiffLlama); in the authors' code they
    alternate. There is no dropout of weights: the paper defines none.

    Signed weights are no random walk. Functions that need one (effective
    resistance, rollout) take ``first`` or ``second`` of the returned weights.

    Args:
        width: Width :math:`D` of queries and keys.
        heads: Number :math:`H` of differential heads.
        layer: Number of the layer, from zero; sets :math:`\lambda_0`.
        lambda_init: :math:`\lambda_0`, instead of the layer's.
        value_width: Width :math:`D_v` of values, ``2 * width`` by default.
        elementwise_affine: Whether the norm learns a gain for each channel of
            a head, as in the authors' code and unlike DiffLlama.
        eps: Added to the mean square in the norm.
        history: None, ``'decay'``, ``'layer'``, ``'runway'`` or an
            :class:`gnnbridge.nn.AttentionHistory`.
        backend: Kernel for graphs that come as ``edge_index``.

    Attributes:
        lambda_init: :math:`\lambda_0`.
        conv: The :class:`gnnbridge.nn.AttentionConv` that runs each map.

    Shapes:
        - **query:** :math:`(N_q, 2 H, D)`
        - **key:** :math:`(N_k, 2 H_{kv}, D)`, with :math:`H_{kv}` dividing
          :math:`H` (grouped-query attention)
        - **value:** :math:`(N_k, H_{kv}, D_v)`
        - **output:** :math:`(N_q, H, D_v)`

    Example:
        >>> conv = DifferentialAttentionConv(width=8, heads=2)
        >>> query, key = torch.randn(2, 5, 4, 8)
        >>> out = conv(query, key, torch.randn(5, 2, 16), 'causal')
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        layer: int = 0,
        lambda_init: Optional[float] = None,
        value_width: Optional[int] = None,
        elementwise_affine: bool = True,
        eps: float = 1e-5,
        history: Union[AttentionHistory, str, None] = None,
        backend: str = 'auto',
    ) -> None:
        super().__init__()
        if min(width, heads) < 1 or layer < 0:
            raise ValueError(
                f"Expected 'width' and 'heads' to be positive and 'layer' not "
                f'negative (got {width}, {heads} and {layer}).'
            )
        if lambda_init is None:
            lambda_init = 0.8 - 0.6 * math.exp(-0.3 * layer)
        self.width, self.heads, self.layer = width, heads, layer
        self.lambda_init = lambda_init
        self.value_width = 2 * width if value_width is None else value_width
        for name in _LAMBDAS:
            setattr(self, name, nn.Parameter(torch.empty(width)))
        self.norm = nn.RMSNorm(
            self.value_width, eps=eps, elementwise_affine=elementwise_affine
        )
        self.conv = AttentionConv(backend=backend)
        self.history = history_of(history, heads)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the vectors of lambda from N(0, 0.1) and resets the rest."""
        for name in _LAMBDAS:
            nn.init.normal_(getattr(self, name), std=0.1)
        self.norm.reset_parameters()
        if self.history is not None:
            self.history.reset_parameters()

    @property
    def lambda_full(self) -> Tensor:
        """The factor of the subtracted map, a scalar in at least float32."""
        q1, k1, q2, k2 = (_wide(getattr(self, name)) for name in _LAMBDAS)
        return (q1 @ k1).exp() - (q2 @ k2).exp() + self.lambda_init

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Union[Tensor, AttentionPlan, Structure],
        *,
        scale: Optional[float] = None,
        edge_bias: OptTensor = None,
        previous: Optional[Previous] = None,
        state: Optional[HistoryState] = None,
        return_attention_weights: bool = False,
    ) -> Union[Tensor, tuple[Tensor, tuple[Tensor, DifferentialWeights]]]:
        r"""Runs differential attention over the edges of a graph.

        Args:
            query: Queries :obj:`[Nq, 2H, D]`: those of the first map in the
                first :obj:`H` heads, those of the second in the others.
            key: Keys :obj:`[Nk, 2Hkv, D]`, likewise.
            value: Values :obj:`[Nk, Hkv, Dv]` that both maps gather.
            edge_index: :obj:`[2, E]` with row 0 the key and row 1 the query,
                ``'causal'``, ``'full'``, a mask, or a plan from
                :func:`gnnbridge.nn.plan_attention`. For several sequences at
                once plan with ``num_graphs=``, or use edges that leave no
                sequence.
            scale: Factor of the scores; :math:`1/\sqrt{D}` by default.
            edge_bias: Bias of the scores of both maps :obj:`[E]` or
                :obj:`[E, H]`; ``-inf`` switches an edge off.
            previous: For history ``'layer'``: ``(query, key)`` as the layer
                below was given them, of which it takes the map that its
                history is of; or that map on these edges :obj:`[E, H]`.
            state: For history of rows: what earlier calls left, when these
                queries are not the first rows of their sequences. Changed in
                place; other kinds leave it alone.
            return_attention_weights: Also return ``(edge_index, weights)``
                with :class:`DifferentialWeights`, before the norm.

        Returns:
            The output :obj:`[Nq, H, Dv]` in the dtype of ``value``, and with
            ``return_attention_weights`` a tuple of it and the weights.

        Raises:
            ValueError: If shapes do not fit each other or the graph, or if
                history is asked for and what it needs is not given.
            TypeError: If ``edge_index`` is of another type.
        """
        _check_shapes(self, query, key, value)
        plan = self._plan(edge_index, key.size(0), query.size(0))
        scale = self.width**-0.5 if scale is None else scale
        maps = Maps(self.conv, plan, value, scale, edge_bias)
        check_history(self.history, maps, self.layer, previous, state)
        if self.history is not None and isinstance(previous, tuple):
            previous = _pairs(*previous)[self.history.of == 'second']

        pairs = _pairs(query, key)
        first, second = (maps.attend(*pair) for pair in pairs)
        subtracted = _wide(second)
        if self.history is not None:
            past = self.history(
                maps, pairs, (first, second), previous=previous, state=state
            )
            rho = self.history.rho.to(subtracted.dtype).unsqueeze(-1)
            subtracted = subtracted.lerp(past.to(subtracted.dtype), rho)
        out = self._normed(_wide(first) - self.lambda_full * subtracted)
        out = out.to(value.dtype)
        weights = None
        if return_attention_weights:
            weights = self._weights(maps, pairs, previous, state)
        if self.history is not None and state is not None:
            self.history.advance(maps, pairs, state)
        return out if weights is None else (out, (plan.edge_index, weights))

    def _plan(
        self,
        edge_index: Union[Tensor, AttentionPlan, Structure],
        num_keys: int,
        num_queries: int,
    ) -> AttentionPlan:
        if isinstance(edge_index, AttentionPlan):
            return edge_index  # its size is checked where it is run
        size = (num_keys, num_queries)
        return plan_attention(edge_index, size, backend=self.conv.backend)

    def _normed(self, out: Tensor) -> Tensor:
        gain: OptTensor = self.norm.weight
        if gain is not None:
            gain = gain.to(out.dtype)
        out = F.rms_norm(out, (self.value_width,), gain, self.norm.eps)
        return (1 - self.lambda_init) * out

    def _weights(
        self,
        maps: Maps,
        pairs: Pairs,
        previous: Optional[Previous],
        state: Optional[HistoryState],
    ) -> DifferentialWeights:
        first, second = (maps.weights(*pair) for pair in pairs)
        if self.history is not None:
            past = self.history.weights(
                maps, pairs, previous=previous, state=state
            )
            second = second.lerp(past, self.history.rho.to(past.dtype))
        signed = first - self.lambda_full * second
        return DifferentialWeights(signed, first, second)

    def extra_repr(self) -> str:
        """Sizes and the factor of the layer."""
        return (
            f'width={self.width}, heads={self.heads}, '
            f'lambda_init={self.lambda_init:.3g}'
        )


_LAMBDAS = ('lambda_q1', 'lambda_k1', 'lambda_q2', 'lambda_k2')


def _pairs(query: Tensor, key: Tensor) -> Pairs:
    """Queries and keys of the two maps."""
    first, second = zip(query.chunk(2, 1), key.chunk(2, 1), strict=True)
    return first, second


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check_shapes(
    layer: DifferentialAttentionConv, query: Tensor, key: Tensor, value: Tensor
) -> None:
    heads, width = 2 * layer.heads, layer.width
    kv_heads = value.size(1) if value.dim() == 3 else 0
    if not (
        query.dim() == key.dim() == value.dim() == 3
        and query.shape[1:] == (heads, width)
        and key.shape[1:] == (2 * kv_heads, width)
        and value.size(0) == key.size(0)
        and value.size(2) == layer.value_width
    ):
        shapes = ', '.join(str(list(x.shape)) for x in (query, key, value))
        raise ValueError(
            f'Expected query [Nq, {heads}, {width}], key [Nk, 2 * Hkv, '
            f'{width}] and value [Nk, Hkv, {layer.value_width}] (got {shapes}).'
        )
