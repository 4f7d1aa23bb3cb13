r"""How much each path through a decoder passes on, without a backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.models.anatomy import Block, Branch, read_blocks
from gnnbridge.spectral.rollout import rms_rollout


@dataclass(frozen=True)
class PathGains:
    r"""Attention graphs of a decoder with the gains of their edges.

    Attributes:
        attentions: The attention :math:`(L, H, N, N)`, row = receiver.
        gains: What each head passes on of each source :math:`(L, H, N)`.
        edge_gains: What each source changes through the attention weights of
            each receiver :math:`(L, N, N)`, on the diagonal through its query.
        token_gains: Gram matrices :math:`(L, N, N)` of identity plus MLP, over
            tokens; their diagonal is the squared gain of each token.
        parallel: Whether attention and MLP read the same states.
    """

    attentions: Tensor
    gains: Tensor
    edge_gains: Tensor
    token_gains: Tensor
    parallel: bool

    def rollout(self, **options: Any) -> Tensor:
        r"""Estimated sensitivity of receivers at the top to sources.

        Of :math:`\lVert \partial x_i^{(L)} / \partial x_j^{(0)} \rVert_F /
        \sqrt{d}`, the root mean square over the directions of paths.

        Args:
            **options: `method`, `rows`, `num_samples`, `generator` and `dtype`
                of :func:`~gnnbridge.spectral.rms_rollout`; by default the
                exact method.

        Shapes:
            - **output:** :math:`(N, N)`, row = receiver, or its `rows`
        """
        return rms_rollout(
            self.attentions,
            self.gains,
            token_gains=self.token_gains,
            edge_gains=self.edge_gains,
            parallel=self.parallel,
            **{'method': 'exact', **options},
        )


def path_gains(model: PreTrainedModel, input_ids: Tensor) -> PathGains:
    r"""The gains of all edges of a decoder on one sequence.

    From the weights and one forward pass, with :math:`\gamma`, :math:`\sigma`
    of the norm before attention, :math:`\bar v_i = \sum_j A_{ij} v_j` and
    Frobenius norms over :math:`\sqrt d`:

    - value path: :math:`\lVert W_O W_V \gamma \rVert / \sigma_j`, times
      :math:`A_{ij}`;
    - key path: :math:`A_{ij} \lVert W_O (v_j - \bar v_i) \rVert \, \lVert
      \gamma W_K^\top R_j^\top q_i \rVert / \sigma_j`, since a source also
      changes how much it is attended to;
    - query path: :math:`\lVert W_O \mathrm{Cov}_{A_i}(v, k) R_i W_Q \gamma
      \rVert / \sigma_i`;
    - MLP: :math:`\lVert I + \partial \mathrm{MLP}_i \rVert`.

    The first are the terms of the derivative of softmax attention; that of a
    whole path is estimated from them by
    :func:`~gnnbridge.spectral.rms_rollout`.

    Args:
        model: A decoder with pre-norm blocks in the form of GPT-2, Llama or
            GPT-NeoX, not converted. Each block is computed again from its
            parts and refused if the result differs.
        input_ids: The tokens of one sequence :math:`(1, N)`.

    Returns:
        The gains, in float64.

    Raises:
        ValueError: If the model is converted or there are several sequences.
        NotImplementedError: If a block is of another form.

    Example:
        >>> model, tokenizer = gb.load_embedded()
        >>> ids = tokenizer('To be or not to be', return_tensors='pt')
        >>> influence = path_gains(model, ids.input_ids).rollout(rows=-1)
    """
    return gains_of(read_blocks(model, input_ids))


def gains_of(blocks: list[Block]) -> PathGains:
    """The gains of blocks that were read from a model, or changed since."""
    keys = [_key_energy(block) for block in blocks]
    queries = [torch.diag_embed(_query_energy(block)) for block in blocks]
    energy = torch.stack(keys) + torch.stack(queries)
    return PathGains(
        attentions=torch.stack([block.attention for block in blocks]),
        gains=torch.stack([_value_gain(block) for block in blocks]),
        # Rounding may leave zeros below zero.
        edge_gains=energy.clamp(min=0).sqrt(),
        token_gains=torch.stack([_mlp_gram(block) for block in blocks]),
        parallel=blocks[0].parallel,
    )


def _value_gain(block: Block) -> Tensor:
    """By head and source ``[H, N]``."""
    through = block.to_output @ (block.to_value * block.norm1.gain)
    norm = through.square().sum((1, 2)).div(through.size(1)).sqrt()
    return norm.unsqueeze(-1) / block.norm1.deviation


def _key_energy(block: Block) -> Tensor:
    """Squared, summed over heads ``[N, N]``."""
    norm = block.norm1
    total = torch.zeros_like(block.attention[0])
    for head in range(len(block.attention)):
        A, value = block.attention[head], block.value[head]
        written = value @ block.to_output[head].T
        mean = A @ written
        apart = (
            mean.square().sum(-1, keepdim=True)
            + written.square().sum(-1)
            - 2 * mean @ written.T
        )
        # The derivative of a score in what its source is: R_j^T q_i to W_K.
        read = block.to_key[head] * norm.gain
        turned = block.rotation @ (read @ read.T) @ block.rotation.mT
        query = block.query[head]
        outer = (query.unsqueeze(-1) * query.unsqueeze(-2)).flatten(1)
        total = total + A.square() * apart * (outer @ turned.flatten(1).T)
    scale = block.scale**2 / norm.gain.size(0)
    return scale * total / norm.deviation.square()


def _query_energy(block: Block) -> Tensor:
    """Squared, summed over heads ``[N]``."""
    norm = block.norm1
    total = torch.zeros_like(norm.deviation)
    for head in range(len(block.attention)):
        A, value, key = (
            x[head] for x in (block.attention, block.value, block.key)
        )
        both = (value.unsqueeze(-1) * key.unsqueeze(-2)).flatten(1)
        mean = (A @ value).unsqueeze(-1) * (A @ key).unsqueeze(-2)
        covariance = (A @ both).view_as(mean) - mean
        turned = covariance @ block.rotation
        out = block.to_output[head].T @ block.to_output[head]
        read = block.to_query[head] * norm.gain
        total = total + ((out @ turned) * (turned @ read @ read.T)).sum((1, 2))
    scale = block.scale**2 / norm.gain.size(0)
    return scale * total / norm.deviation.square()


def _mlp_gram(block: Block) -> Tensor:
    r"""Inner products of :math:`I + J_i` over tokens, over d ``[N, N]``.

    With :math:`Z_i = W_2 \sum \mathrm{diag}(c_i) W_1 \gamma` the Jacobian of
    the MLP is :math:`J_i = Z_i (I - n_i n_i^\top / d) / \sigma_i`, where a
    LayerNorm takes the mean off :math:`W_1` as well. Products of such matrices
    come down to products of their small factors.
    """
    norm, down = block.norm2, block.down
    size = norm.gain.size(0)
    branches = [normed(branch, block) for branch in block.branches]
    out = down.T @ down
    inner = torch.zeros_like(block.attention[0])
    for one in branches:
        for other in branches:
            shared = out * (one.weight @ other.weight.T)
            inner = inner + one.slope @ shared @ other.slope.T
    # Z_k n_k, and its products with Z_i n_k.
    reads = [norm.unit @ branch.weight.T for branch in branches]
    along = sum(
        branch.slope * read
        for branch, read in zip(branches, reads, strict=True)
    )
    assert isinstance(along, Tensor)
    along = along @ down.T
    back = along @ down
    across = torch.zeros_like(inner)
    for branch, read in zip(branches, reads, strict=True):
        across = across + branch.slope @ (read * back).T
    units = norm.unit @ norm.unit.T
    inner = inner - (across + across.T) / size
    inner = inner + units * (along @ along.T) / size**2
    inner = inner / norm.deviation.unsqueeze(-1) / norm.deviation
    trace = torch.zeros_like(norm.deviation)
    for branch in branches:
        trace = trace + branch.slope @ (branch.weight * down.T).sum(-1)
    trace = (trace - (norm.unit * along).sum(-1) / size) / norm.deviation
    return 1 + (trace.unsqueeze(-1) + trace + inner) / size


def normed(branch: Branch, block: Block) -> Branch:
    """The map with the norm's gain, without the mean if the norm takes it."""
    weight = branch.weight * block.norm2.gain
    if block.norm2.centred:
        weight = weight - weight.mean(-1, keepdim=True)
    return Branch(weight, branch.slope)
