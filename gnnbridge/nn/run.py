"""Running a plan: from its format and the options to a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Optional

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from gnnbridge.nn.choice import ROW_KERNELS
from gnnbridge.nn.kernels import csr, dense, row_window
from gnnbridge.nn.kernels.once import differentiable_once
from gnnbridge.nn.plan import AttentionPlan

# Query-key pairs of all heads above which softcap and sinks on the CPU are
# worth the kernel that has to be compiled first.
_WORTH_COMPILING = 1 << 20


@dataclass(frozen=True)
class Options:
    """What is asked for besides plain attention over the edges.

    Attributes:
        scale: Factor of the scores.
        edge_bias: Bias of each edge ``[E, 1 | H]``, in the caller's order.
        pair_bias: Bias of each pair ``[B | 1, H | 1, Q, K]`` of the plan's
            graphs, of which the edges' are used.
        softcap: Bound of the scores.
        s_aux: Logits of a sink ``[H]`` or ``[Nq, H]``.
        dropout: Probability with which a weight is dropped.
        return_weights: Whether the weights are wanted.
        differentiable: Whether derivatives are taken in ways that only
            torch's own operations know: of any order, in forward mode, or by
            ``torch.func``.
    """

    scale: float
    edge_bias: OptTensor = None
    pair_bias: OptTensor = None
    softcap: Optional[float] = None
    s_aux: OptTensor = None
    dropout: float = 0.0
    return_weights: bool = False
    differentiable: bool = False

    @property
    def per_edge(self) -> bool:
        """Whether something of the size of the edges is given or wanted."""
        return (
            self.return_weights
            or self.edge_bias is not None
            or self.pair_bias is not None
            or self.dropout > 0
        )

    def on_edges(self, plan: AttentionPlan) -> Options:
        """The same with the biases of pairs given to their edges."""
        if self.pair_bias is None:
            return self
        heads = self.pair_bias.size(1)
        graph, query, key = plan.places
        bias = self.pair_bias.expand(plan.num_graphs, heads, -1, -1)
        bias = bias.permute(0, 2, 3, 1)[graph, query, key]
        if self.edge_bias is not None:
            bias = bias + self.edge_bias
        return replace(self, edge_bias=bias, pair_bias=None)


# Queries, keys and values are [B, N, H, D] for the B graphs of the plan, one
# by default; outputs likewise.
_Runner = Callable[
    [AttentionPlan, Tensor, Tensor, Tensor, Options], tuple[Tensor, OptTensor]
]


def run(
    plan: AttentionPlan,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
) -> tuple[Tensor, OptTensor] | None:
    """Runs a plan by its kernel; None where that is PyG's gather and scatter.

    Args:
        plan: The graph, or ``B`` graphs side by side.
        query: Queries ``[B, Q, H, D]``.
        key: Keys ``[B, K, Hkv, D]``.
        value: Values ``[B, K, Hkv, Dv]``.
        options: What else is asked for.

    Returns:
        The output ``[B, Q, H, Dv]`` and, if wanted, the weights ``[E, H]`` in
        the caller's order of the edges.
    """
    if _needs_all_derivatives(query, key, value, options):
        options = replace(options, differentiable=True)
    kernel = _kernel(plan, options, query)
    if kernel == 'scatter':
        return None
    wanted = value.dtype
    if not query.dtype == key.dtype == wanted:
        # The kernels know one type; the wider one loses nothing.
        common = torch.promote_types(query.dtype, key.dtype)
        common = torch.promote_types(common, wanted)
        query, key, value = (x.to(common) for x in (query, key, value))
    if not options.differentiable:
        query, key, value, edge_bias, pair_bias, s_aux = differentiable_once(
            kernel, query, key, value, options.edge_bias, options.pair_bias,
            options.s_aux,
        )  # fmt: skip
        options = replace(
            options, edge_bias=edge_bias, pair_bias=pair_bias, s_aux=s_aux
        )
    out, weights = _RUNNERS[kernel](plan, query, key, value, options)
    return out.to(wanted), weights


def _kernel(plan: AttentionPlan, options: Options, query: Tensor) -> str:
    """The kernel of the plan, or the one that knows what it does not."""
    kernel, general = plan.backend, options.differentiable
    if plan.forced:
        if kernel == 'flex' and options.per_edge:
            raise ValueError(
                "Expected no 'edge_bias', dropout or returned weights with "
                "backend 'flex' (got one of them). Use 'csr_triton'."
            )
        if kernel not in ('dense', 'row_window', 'scatter') and general:
            raise NotImplementedError(
                f'Expected derivatives by torch.autograd with backend '
                f"'{kernel}' (got torch.func or forward mode). Use 'auto' or "
                f"'scatter'."
            )
        return kernel
    if general:
        return 'dense' if kernel == 'dense' else 'scatter'
    if kernel == 'row_window' and options.per_edge:
        return ROW_KERNELS.get(plan.device.type, 'scatter')
    if kernel == 'dense' and _wants_windows(plan, query, options):
        return 'row_window'
    return kernel


def _wants_windows(
    plan: AttentionPlan, query: Tensor, options: Options
) -> bool:
    """Whether a dense graph is better run by the row windows of the CPU.

    torch's kernel knows neither softcap nor sinks.
    """
    return (
        (options.softcap is not None or options.s_aux is not None)
        and not options.per_edge
        and query.device.type == 'cpu'
        and plan.num_edges * query.size(2) >= _WORTH_COMPILING
        and not torch.compiler.is_compiling()
        and plan.windows is not None
    )


def _needs_all_derivatives(
    query: Tensor, key: Tensor, value: Tensor, options: Options
) -> bool:
    """Whether derivatives are taken in ways that fused kernels do not know."""
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():
        return True
    tensors = (query, key, value, options.edge_bias, options.s_aux)
    return any(
        x is not None
        and torch.autograd.forward_ad.unpack_dual(x).tangent is not None
        for x in tensors
    )


def _run_dense(
    plan: AttentionPlan,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
) -> tuple[Tensor, OptTensor]:
    bias, s_aux = options.pair_bias, _sink_logits(options, query)
    if options.edge_bias is not None:
        bias = _dense_bias(plan, options.edge_bias, bias)
    if s_aux is not None:
        s_aux = s_aux.unflatten(0, query.shape[:2]).transpose(1, 2)
    out, weights = dense.attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        scale=options.scale,
        causal=plan.structure == 'causal',
        mask=None if plan.structure else plan.mask.unsqueeze(1),
        bias=bias,
        softcap=options.softcap,
        s_aux=s_aux,
        dropout=options.dropout,
        return_weights=options.return_weights,
        differentiable=options.differentiable,
    )
    if weights is not None:
        weights = weights.permute(0, 2, 3, 1)[plan.places]
    return out.transpose(1, 2), weights


def _dense_bias(
    plan: AttentionPlan, edge_bias: Tensor, pair_bias: OptTensor
) -> Tensor:
    """The bias of every pair ``[B, H | 1, Q, K]``, zero off the edges."""
    num_keys, num_queries = plan.graph_size
    bias = edge_bias.new_zeros(
        plan.num_graphs, num_queries, num_keys, edge_bias.size(1)
    )
    bias = bias.index_put(plan.places, edge_bias).permute(0, 3, 1, 2)
    return bias if pair_bias is None else bias + pair_bias


def _run_windows(
    plan: AttentionPlan,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
) -> tuple[Tensor, OptTensor]:
    windows, shape = plan.windows, query.shape[:2]
    assert windows is not None  # checked with the backend
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    s_aux = _sink_logits(options, query)
    fused = not (options.differentiable or options.per_edge)
    if fused and query.device.type == 'cpu':
        from gnnbridge.nn.kernels import row_window_cpu

        out = row_window_cpu.attention(
            query,
            key,
            value,
            windows,
            scale=options.scale,
            softcap=options.softcap,
            s_aux=s_aux,
        )
        return out.unflatten(0, shape), None
    options = options.on_edges(plan)
    edges = options.edge_bias is not None or options.return_weights
    out, weights = row_window.attention(
        query,
        key,
        value,
        windows,
        plan.rows if edges else None,
        scale=options.scale,
        edge_bias=_sorted(options.edge_bias, plan),
        softcap=options.softcap,
        s_aux=s_aux,
        dropout=options.dropout,
        return_weights=options.return_weights,
        differentiable=options.differentiable,
    )
    if weights is not None:
        weights = plan.rows.unsorted(weights)
    return out.unflatten(0, shape), weights


def _run_rows(
    plan: AttentionPlan,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
    *,
    engine: str,
) -> tuple[Tensor, OptTensor]:
    shape, options = query.shape[:2], options.on_edges(plan)
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    out, weights = csr.attention(
        query,
        key,
        value,
        plan.rows,
        engine=engine,
        scale=options.scale,
        edge_bias=_sorted(options.edge_bias, plan),
        softcap=options.softcap,
        s_aux=_sink_logits(options, query),
        dropout=options.dropout,
        return_weights=options.return_weights,
    )
    if weights is not None:
        weights = plan.rows.unsorted(weights)
    return out.unflatten(0, shape), weights


def _run_flex(
    plan: AttentionPlan,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
) -> tuple[Tensor, OptTensor]:
    from gnnbridge.nn.kernels import flex

    shape = query.shape[:2]
    query, key, value = (
        x.flatten(0, 1).transpose(0, 1).unsqueeze(0)
        for x in (query, key, value)
    )
    out = flex.attention(
        query,
        key,
        value,
        plan.block_mask,
        scale=options.scale,
        softcap=options.softcap,
        s_aux=_sink_logits(options, query[0].transpose(0, 1)),
    )
    return out.squeeze(0).transpose(0, 1).unflatten(0, shape), None


def _sink_logits(options: Options, query: Tensor) -> OptTensor:
    """The sinks' logits ``[Nq, H]`` of queries ``[..., H, D]``."""
    if options.s_aux is None:
        return None
    heads = query.size(-2)
    return options.s_aux.expand(query.numel() // query.size(-1) // heads, heads)


def _sorted(edge_bias: OptTensor, plan: AttentionPlan) -> OptTensor:
    return None if edge_bias is None else plan.rows.sorted(edge_bias)


_RUNNERS: dict[str, _Runner] = {
    'dense': _run_dense,
    'row_window': _run_windows,
    'csr_cpu': partial(_run_rows, engine='csr_cpu'),
    'csr_triton': partial(_run_rows, engine='csr_triton'),
    'flex': _run_flex,
}
