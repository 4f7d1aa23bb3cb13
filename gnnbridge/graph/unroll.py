"""A stack of captured layers as one time-expanded graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import at_least_float32, check_num_nodes, first
from gnnbridge.graph.schema import sort, validate


def unroll(
    graphs: Sequence[Data],
    *,
    mixing: float | Sequence[float] | Tensor | None = None,
) -> Data:
    r"""Stack :math:`L` layers into one directed acyclic graph.

    The graph has :math:`L + 1` copies of the :math:`N` tokens: node
    :math:`l N + i` is token :math:`i` at level :math:`l`, level 0 being the
    embeddings. Layer :math:`l` leads from level :math:`l` to :math:`l + 1` by

    .. math::
        M^{(l)} = \mathrm{diag}(1 - m^{(l)}) + \mathrm{diag}(m^{(l)}) A^{(l)},

    where :math:`m^{(l)}_i` is the share of attention in the residual stream.
    The sum over paths from :math:`(0, j)` to :math:`(L, i)` of the product of
    weights is entry :math:`(i, j)` of :math:`M^{(L-1)} \cdots M^{(0)}`. The
    share is the one measured by `"A Residual-Aware Theory of Position Bias in
    Transformers" <https://arxiv.org/abs/2602.16837>`_,
    :math:`\lVert a_i \rVert / (\lVert x_i \rVert + \lVert a_i \rVert)` with
    :math:`x_i` the residual stream and :math:`a_i` what attention adds to it,
    here per token instead of averaged.

    Args:
        graphs: One graph per layer, the first layer first, over the same
            tokens, with non-negative ``edge_weight`` (ones if absent).
        mixing: The shares :math:`m` in [0, 1]: a number, ``[L]`` or
            ``[L, N]``. If ``None``, each graph's ``mixing [N]``.

    Returns:
        ``edge_index`` int64, sorted, without duplicates: the residual edge
        and the self-attention edge of a token are one edge with the sum of
        their weights. ``edge_weight [E]``; ``edge_residual [E]``, the part
        of it that is residual; ``edge_layer [E]``, ``level [M]`` and
        ``token [M]`` int64 with :math:`M = (L + 1) N`. Weights in float32 or
        float64. The weights into a node of level 1 or above sum to one if
        the rows of ``A`` do.

    Raises:
        ValueError: If there is no graph, they differ in size, no share is
            known, or one is outside [0, 1].
    """
    if len(graphs) == 0:
        raise ValueError('Expected at least one graph (got none).')
    graphs = [validate(sort(data)) for data in graphs]
    num_nodes = check_num_nodes(graphs[0].num_nodes)
    for layer, data in enumerate(graphs):
        if data.num_nodes != num_nodes:
            raise ValueError(
                f'Expected {num_nodes} nodes in every graph, as in the first '
                f'(got {data.num_nodes} in graph {layer}).'
            )
    share = _mixing(graphs, mixing, num_nodes)
    total = (len(graphs) + 1) * num_nodes
    keys, weights, residuals = [], [], []
    for layer, data in enumerate(graphs):
        key, weight, residual = _layer_edges(data, share[layer])
        # Same order as `sort`: the target counts for more than the source.
        source = key % num_nodes + layer * num_nodes
        target = key // num_nodes + (layer + 1) * num_nodes
        keys.append(target * total + source)
        weights.append(weight)
        residuals.append(residual)
    key = torch.cat(keys)
    source, target = key % total, key // total
    node = torch.arange(total, device=key.device)
    return Data(
        edge_index=torch.stack([source, target]),
        edge_weight=torch.cat(weights),
        edge_residual=torch.cat(residuals),
        edge_layer=source // num_nodes,
        level=node // num_nodes,
        token=node % num_nodes,
        num_nodes=total,
    )


def _layer_edges(data: Data, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys ``i * N + j`` in increasing order, weights, residual parts."""
    num_nodes = data.num_nodes
    source, target = data.edge_index
    weight = data.get('edge_weight')
    if weight is None:
        weight = torch.ones(len(source), device=source.device)
    weight = at_least_float32(weight)
    share = share.to(weight)
    loops = torch.arange(num_nodes, device=source.device) * (num_nodes + 1)
    key, place = torch.cat([target * num_nodes + source, loops]).unique(
        return_inverse=True
    )
    residual = weight.new_zeros(len(key))
    residual = residual.index_add(0, place[len(source) :], 1 - share)
    attention = torch.zeros_like(residual)
    attention = attention.index_add(
        0, place[: len(source)], share[target] * weight
    )
    return key, attention + residual, residual


def _mixing(
    graphs: Sequence[Data],
    mixing: float | Sequence[float] | Tensor | None,
    num_nodes: int,
) -> Tensor:
    """The shares ``[L, N]``, checked."""
    if mixing is None:
        share = torch.stack([_measured(l, g) for l, g in enumerate(graphs)])
    elif isinstance(mixing, Tensor):
        share = at_least_float32(mixing)
    else:
        share = torch.tensor(mixing, dtype=torch.float64)
    shape = (len(graphs), num_nodes)
    if share.shape not in ((), shape[:1], shape):
        raise ValueError(
            "Expected 'mixing' to be a number or of shape [L] or [L, N] with "
            f'L = {shape[0]}, N = {shape[1]} (got {list(share.shape)}).'
        )
    if share.dim() == 1:
        share = share[:, None]
    share = share.expand(shape)
    outside = ~((share >= 0) & (share <= 1)).flatten()
    if outside.any():
        layer, token = divmod(first(outside), num_nodes)
        raise ValueError(
            "Expected 'mixing' to be in [0, 1] "
            f'(got {share[layer, token].item()} in layer {layer}, '
            f'token {token}).'
        )
    return share


def _measured(layer: int, data: Data) -> Tensor:
    if data.get('mixing') is None:
        raise ValueError(
            f"Expected graph {layer} to have 'mixing' [N], the measured share "
            "of attention (got none). Use the argument 'mixing' instead, for "
            'instance 0.5 for equal shares.'
        )
    return at_least_float32(data.mixing)
