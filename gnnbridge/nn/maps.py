"""Maps of attention over the edges of one graph, and what they gather."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.typing import OptTensor

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.edge_weight import log_edge_weight
from gnnbridge.nn.plan import AttentionPlan


@dataclass(frozen=True, eq=False)
class Maps:
    """Attention between queries and keys that share a graph and its values.

    Attributes:
        conv: The message-passing layer that runs them.
        plan: The graph.
        value: What they gather ``[Nk, Hkv, Dv]``.
        scale: Factor of the scores.
        edge_bias: Bias of the scores ``[E]`` or ``[E, H]``.
    """

    conv: AttentionConv
    plan: AttentionPlan
    value: Tensor
    scale: float
    edge_bias: OptTensor = None

    def attend(self, query: Tensor, key: Tensor) -> Tensor:
        """What the map of ``query`` and ``key`` gathers ``[Nq, H, Dv]``."""
        missing = self.value.size(-1) - key.size(-1)
        if self.plan.backend == 'dense' and missing > 0:
            # torch's fused kernels want one width for all; zeros add nothing.
            query, key = F.pad(query, (0, missing)), F.pad(key, (0, missing))
        return self.conv(
            query, key, self.value, self.plan,
            scale=self.scale, edge_bias=self.edge_bias,
        )  # fmt: skip

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The map itself ``[E, H]``, in at least float32."""
        _, (_, alpha) = self.conv(
            query, key, self.value[..., :1], self.plan,
            scale=self.scale, edge_bias=self.edge_bias,
            return_attention_weights=True,
        )  # fmt: skip
        return alpha

    def gather(self, weight: Tensor) -> Tensor:
        """What a map ``[E, H]`` with rows of sum one gathers.

        Attention by logarithms of probabilities is these probabilities, so
        that every kernel of the plan runs this as well.
        """
        (num_keys, num_queries), heads = self.plan.size, weight.size(1)
        query = weight.new_zeros(num_queries, heads, 1)
        key = weight.new_zeros(num_keys, self.value.size(1), 1)
        bias = log_edge_weight(weight)
        return self.conv(
            query, key, self.value, self.plan, scale=1.0, edge_bias=bias
        )

    def normalised(self, weight: Tensor, otherwise: Tensor) -> Tensor:
        """A map with rows of sum one; rows without mass from another map.

        Args:
            weight: Non-negative weights ``[E, H]``. What the bias switches
                off counts as zero.
            otherwise: A normalised map ``[E, H]``.
        """
        if self.edge_bias is not None:
            off = self.edge_bias == float('-inf')
            off = off.unsqueeze(-1) if off.dim() == 1 else off
            weight = weight.masked_fill(off, 0.0)
        row = self.plan.edge_index[1]
        total = weight.new_zeros(self.plan.size[1], weight.size(1))
        total = total.index_add(0, row, weight)
        # Below this numbers have lost their digits.
        known = total >= torch.finfo(total.dtype).tiny
        weight = weight / total.masked_fill(~known, 1.0)[row]
        return torch.where(known[row], weight, otherwise)
