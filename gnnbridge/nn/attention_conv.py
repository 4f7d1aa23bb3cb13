"""Softmax attention as a PyG message-passing layer."""

from __future__ import annotations

from typing import Any, Optional, Union

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing, SumAggregation
from torch_geometric.typing import OptTensor

from gnnbridge.nn.choice import check_backend
from gnnbridge.nn.edge_softmax import edge_softmax, fits_rows
from gnnbridge.nn.plan import AttentionPlan, plan_attention
from gnnbridge.nn.run import Options, run

# What a subclass may change, and where a listener may hook into, of the single
# messages that only PyG's way of running a graph has.
_STEPS = (
    'message', 'aggregate', 'update', 'edge_update', 'propagate',
    'edge_updater', 'message_and_aggregate',
)  # fmt: skip
_HOOKS = (
    '_propagate_forward_pre_hooks', '_propagate_forward_hooks',
    '_message_forward_pre_hooks', '_message_forward_hooks',
    '_aggregate_forward_pre_hooks', '_aggregate_forward_hooks',
    '_message_and_aggregate_forward_pre_hooks',
    '_message_and_aggregate_forward_hooks',
    '_edge_update_forward_pre_hooks', '_edge_update_forward_hooks',
)  # fmt: skip


class AttentionConv(MessagePassing):
    r"""Scaled dot-product attention as message passing on a token graph.

    The attention of `"Attention Is All You Need"
    <https://arxiv.org/abs/1706.03762>`_ on any graph: query :math:`i`
    aggregates the values of the keys :math:`j` that have an edge to it,

    .. math::
        \mathbf{o}_i = \sum_{j \to i} \alpha_{ij} \mathbf{v}_j, \qquad
        \alpha_{ij} = \mathrm{softmax}_{j \to i} \left( \gamma \,
        \mathbf{q}_i^{\top} \mathbf{k}_j + b_{ij} \right).

    The layer has no weights: projections and position encodings belong to
    the caller. A query without edges gets zeros, and no edge is ever added.

    The graph is run by the kernel that its structure allows, with the same
    numbers up to rounding: see :func:`gnnbridge.nn.plan_attention`. Softmax
    and sums are computed in float32 (float64 for double input) and the result
    is cast back to the dtype of the values; torch's dense kernel rounds the
    weights to half precision where the inputs have it. Fused kernels have
    first derivatives. For ``torch.func``, forward-mode derivatives, PyG's
    explainers, hooks on messages and subclasses that change a message, the
    layer falls back to operations that have them.

    Under PyG's explainers the edge mask multiplies the messages after the
    softmax; this is not the same as removing the edges, which also
    renormalises the row. Prune ``edge_index`` for an ablation.

    Args:
        dropout: Probability with which an attention weight is dropped in
            training mode.
        backend: Kernel for graphs that come as ``edge_index``, as in
            :func:`gnnbridge.nn.plan_attention`; a plan has its own.
        **kwargs: Arguments of :class:`torch_geometric.nn.MessagePassing`,
            except for ``flow``: messages go from key to query.

    Shapes:
        - **query:** :math:`(N_q, H, D)`
        - **key:** :math:`(N_k, H_{kv}, D)`, with :math:`H_{kv}` dividing
          :math:`H` (grouped-query attention)
        - **value:** :math:`(N_k, H_{kv}, D_v)`
        - **output:** :math:`(N_q, H, D_v)`

    Example:
        >>> conv = AttentionConv()
        >>> edge_index = causal_graph(5).edge_index
        >>> out = conv(query, key, value, edge_index)
    """

    def __init__(
        self, dropout: float = 0.0, backend: str = 'auto', **kwargs: Any
    ) -> None:
        if not 0.0 <= dropout < 1.0:
            raise ValueError(
                f"Expected 'dropout' to be in [0, 1) (got {dropout})."
            )
        if kwargs.get('flow', 'source_to_target') != 'source_to_target':
            raise ValueError(
                f"Expected 'flow' to be 'source_to_target' (got "
                f"'{kwargs['flow']}'). Swap the rows of 'edge_index' instead."
            )
        check_backend(backend)
        kwargs.setdefault('aggr', 'add')
        super().__init__(node_dim=0, **kwargs)
        self.dropout, self.backend = dropout, backend

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Union[Tensor, AttentionPlan],
        *,
        scale: Optional[float] = None,
        edge_bias: OptTensor = None,
        softcap: Optional[float] = None,
        s_aux: OptTensor = None,
        return_attention_weights: bool = False,
    ) -> Union[Tensor, tuple[Tensor, tuple[Tensor, Tensor]]]:
        r"""Runs attention over the edges of a graph.

        Args:
            query: Queries :obj:`[Nq, H, D]`.
            key: Keys :obj:`[Nk, Hkv, D]`.
            value: Values :obj:`[Nk, Hkv, Dv]`.
            edge_index: :obj:`[2, E]` with row 0 the key and row 1 the query,
                or a plan from :func:`gnnbridge.nn.plan_attention`.
            scale: Factor :math:`\gamma` of the scores; :math:`1/\sqrt{D}` by
                default.
            edge_bias: Bias :math:`b` per edge :obj:`[E]` or per edge and head
                :obj:`[E, H]`; ``-inf`` switches an edge off.
            softcap: Scores become ``softcap * tanh(score / softcap)`` before
                the bias is added (Gemma 2); positive.
            s_aux: Learned sink logits :obj:`[H]` or :obj:`[Nq, H]`: one more
                key per head whose value is zero (GPT-OSS).
            return_attention_weights: Also return ``(edge_index, alpha)`` with
                ``alpha`` of shape :obj:`[E, H]`, as PyG's attention layers do,
                before dropout.

        Returns:
            The output :obj:`[Nq, H, Dv]` in the dtype of ``value``, and with
            ``return_attention_weights`` a tuple of it and the weights, which
            are float32 (float64 for double input).

        Raises:
            ValueError: If shapes do not fit each other or the graph.
            TypeError: If ``edge_index`` is not an int64 tensor or a plan.
            NotImplementedError: At a second derivative through a fused kernel.
        """
        _check_shapes(query, key, value)
        size = (key.size(0), query.size(0))
        plan = edge_index
        if not isinstance(plan, AttentionPlan):
            plan = plan_attention(plan, size, backend=self.backend)
        if plan.size != size:
            raise ValueError(
                f'Expected a plan for {size[0]} keys and {size[1]} queries '
                f'(got one for {plan.size[0]} and {plan.size[1]}).'
            )
        if edge_bias is not None:
            edge_bias = _edge_bias(edge_bias, plan.num_edges, query.size(1))
        if softcap is not None and not softcap > 0:
            raise ValueError(
                f"Expected 'softcap' to be positive (got {softcap}). Use None "
                f'for no cap.'
            )

        options = Options(
            scale=query.size(-1) ** -0.5 if scale is None else scale,
            edge_bias=edge_bias,
            softcap=softcap,
            s_aux=_sink_logits(s_aux, query),
            dropout=self.dropout if self.training else 0.0,
            return_weights=return_attention_weights,
        )
        shape = (plan.num_graphs, -1)
        out, alpha = self.attend(
            plan,
            query.unflatten(0, shape),
            key.unflatten(0, shape),
            value.unflatten(0, shape),
            options,
        )
        out = out.flatten(0, 1)
        return (out, (plan.edge_index, alpha)) if alpha is not None else out

    def attend(
        self,
        plan: AttentionPlan,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        options: Options,
    ) -> tuple[Tensor, OptTensor]:
        """Runs a plan over the graphs of a batch, without checks of shapes.

        Args:
            plan: The graph, or :obj:`B` graphs of one size.
            query: Queries :obj:`[B, Q, H, D]`.
            key: Keys :obj:`[B, K, Hkv, D]`.
            value: Values :obj:`[B, K, Hkv, Dv]`.
            options: What else is asked for.

        Returns:
            The output :obj:`[B, Q, H, Dv]` and, if wanted, the weights
            :obj:`[E, H]`.
        """
        result = None
        if not self._passes_messages():
            result = run(plan, query, key, value, options)
        if result is None:
            shape, options = query.shape[:2], options.on_edges(plan)
            out, alpha = self._pass_messages(
                plan,
                query.flatten(0, 1),
                key.flatten(0, 1),
                value.flatten(0, 1),
                options,
            )
            result = out.unflatten(0, shape), alpha
        return result[0], result[1] if options.return_weights else None

    def _passes_messages(self) -> bool:
        """Whether somebody looks at, or has changed, single messages."""
        return bool(
            self.explain
            or self.decomposed_layers > 1
            or not isinstance(self.aggr_module, SumAggregation)
            or any(getattr(self, hooks) for hooks in _HOOKS)
            or any(
                getattr(type(self), name) is not getattr(AttentionConv, name)
                for name in _STEPS
            )
        )

    def _pass_messages(
        self,
        plan: AttentionPlan,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        options: Options,
    ) -> tuple[Tensor, Tensor]:
        """PyG's gather and scatter, one message for each edge."""
        alpha = self.edge_updater(
            plan.edge_index,
            query=(None, query),
            key=(key, None),
            edge_bias=options.edge_bias,
            scale=options.scale,
            softcap=options.softcap,
            s_aux=options.s_aux,
        )
        dropped = alpha
        if options.dropout > 0:
            dropped = torch.dropout(alpha, options.dropout, True)
        out = self.propagate(
            plan.edge_index,
            value=(value, None),
            alpha=dropped,
            size=plan.size,
        )
        return out.to(value.dtype), alpha

    def edge_update(
        self,
        query_i: Tensor,
        key_j: Tensor,
        edge_bias: OptTensor,
        scale: float,
        softcap: Optional[float],
        s_aux: OptTensor,
        index: Tensor,
        dim_size: Optional[int],
    ) -> Tensor:
        """Attention weights :obj:`[E, H]` of the edges."""
        dtype = torch.promote_types(query_i.dtype, torch.float32)
        kv_heads = key_j.size(1)
        groups = query_i.size(1) // kv_heads
        # Grouped queries share a key: it is broadcast, not copied.
        query_i = query_i.to(dtype).unflatten(1, (kv_heads, groups))
        score = (query_i * key_j.to(dtype).unsqueeze(2)).sum(dim=-1)
        score = score.flatten(1) * scale
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if edge_bias is not None:
            score = score + edge_bias
        assert dim_size is not None  # set by PyG from the queries
        return edge_softmax(score, index, dim_size, s_aux=s_aux)

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """Weighted values :obj:`[E, H, Dv]`, in the dtype of ``alpha``."""
        kv_heads = value_j.size(1)
        groups = alpha.size(1) // kv_heads
        weight = alpha.unflatten(1, (kv_heads, groups)).unsqueeze(-1)
        out = weight * value_j.to(alpha.dtype).unsqueeze(2)
        return out.flatten(1, 2)

    def __repr__(self) -> str:
        backend = f", backend='{self.backend}'"
        return (
            f'{self.__class__.__name__}(dropout={self.dropout}'
            f'{"" if self.backend == "auto" else backend})'
        )


def _shapes(*tensors: Tensor) -> str:
    return ', '.join(str(list(x.shape)) for x in tensors)


def _check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    if not query.dim() == key.dim() == value.dim() == 3:
        raise ValueError(
            f'Expected query [Nq, H, D], key [Nk, Hkv, D] and value '
            f'[Nk, Hkv, Dv] (got {_shapes(query, key, value)}).'
        )
    if query.size(2) != key.size(2) or key.shape[:2] != value.shape[:2]:
        raise ValueError(
            f'Expected query and key of the same width, and one value for '
            f'each key (got query, key, value of shapes '
            f'{_shapes(query, key, value)}).'
        )
    if key.size(1) == 0 or query.size(1) % key.size(1) != 0:
        raise ValueError(
            f'Expected the number of query heads to be a multiple of the '
            f'number of key heads (got {query.size(1)} and {key.size(1)}).'
        )


def _edge_bias(edge_bias: Tensor, num_edges: int, heads: int) -> Tensor:
    if edge_bias.dim() == 1:
        edge_bias = edge_bias.unsqueeze(-1)
    # Not by `in`: sizes may be symbols.
    fits = edge_bias.dim() == 2 and edge_bias.size(0) == num_edges
    if not (fits and (edge_bias.size(1) == 1 or edge_bias.size(1) == heads)):
        raise ValueError(
            f"Expected 'edge_bias' of shape [{num_edges}] or [{num_edges}, "
            f'{heads}] (got {list(edge_bias.shape)}).'
        )
    return edge_bias


def _sink_logits(s_aux: OptTensor, query: Tensor) -> OptTensor:
    shape = query.shape[:2]
    if s_aux is not None and not fits_rows(s_aux, shape):
        raise ValueError(
            f"Expected 's_aux' of shape [{shape[1]}] or {list(shape)}, a logit "
            f'for each head or each query and head (got {list(s_aux.shape)}).'
        )
    return s_aux
