"""What the kernels are measured against."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import TransformerConv
from torch_geometric.utils import softmax

from gnnbridge.nn import AttentionConv, AttentionPlan


def sdpa(*tensors: Tensor, **options: Any) -> Tensor:
    """Torch's attention on ``[N, H, D]``."""
    query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in tensors)
    out = F.scaled_dot_product_attention(query, key, value, **options)
    return out.squeeze(0).transpose(0, 1)


def message_passing(
    query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor
) -> Tensor:
    """Gather, PyG's softmax and scatter."""
    source, target = edge_index
    score = (query[target] * key[source]).sum(-1) * query.size(-1) ** -0.5
    alpha = softmax(score, target, num_nodes=query.size(0))
    message = value[source] * alpha.unsqueeze(-1)
    return torch.zeros_like(query).index_add_(0, target, message)


def torch_scatter_passing(
    query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor
) -> Tensor:
    """The same by torch-scatter, whose segments want sorted edges."""
    from torch_scatter import gather_csr, segment_csr

    source, target = edge_index
    degree = torch.bincount(target, minlength=query.size(0))
    start = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    score = (query[target] * key[source]).sum(-1) * query.size(-1) ** -0.5
    peak = gather_csr(segment_csr(score, start, reduce='max'), start)
    weight = (score - peak).exp()
    total = gather_csr(segment_csr(weight, start, reduce='sum'), start)
    message = value[source] * (weight / total).unsqueeze(-1)
    return segment_csr(message, start, reduce='sum')


def have_torch_scatter() -> bool:
    """Whether the optional package is installed."""
    try:
        import torch_scatter  # noqa: F401
    except ImportError:
        return False
    return True


class OursAsTransformerConv(nn.Module):
    """PyG's TransformerConv with its weights, and our attention inside."""

    def __init__(self, peer: TransformerConv) -> None:
        super().__init__()
        self.peer, self.attention = peer, AttentionConv()

    def forward(self, x: Tensor, plan: AttentionPlan) -> Tensor:
        """The same numbers as the peer."""
        peer, shape = self.peer, (-1, self.peer.heads, self.peer.out_channels)
        query, key, value = (
            lin(x).view(shape)
            for lin in (peer.lin_query, peer.lin_key, peer.lin_value)
        )
        out = self.attention(query, key, value, plan)
        assert isinstance(out, Tensor)
        return out.flatten(1) + peer.lin_skip(x)
