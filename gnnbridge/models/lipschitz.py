r"""How much each block of a decoder can pass on, at the states that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gnnbridge.models.anatomy import Block, read_blocks
from gnnbridge.models.gains import normed

# Numbers of the Jacobians of an MLP that are held at once.
_CHUNK = 2**24


@dataclass(frozen=True)
class BlockConstants:
    r"""Bounds of the derivatives of each block, in spectral norm.

    .. math::
        \Bigl\lVert \frac{\partial y_i}{\partial x_j} \Bigr\rVert_2 \le
        K_{ij} = s_i \delta_{ij} + P_{ij} = c_i M_{ij}, \qquad
        M = \mathrm{diag}(1 - \alpha) + \mathrm{diag}(\alpha) \hat A

    with :math:`\hat A` causal and of rows that sum to one. They hold for the
    derivatives at the states of one sequence, not for other ones, and so do
    those of their products over layers for the derivatives of the stack.

    Attributes:
        through: What attention passes on, :math:`P`: ``[L, N, N]``, row =
            receiver.
        stay: What the stream of a token passes on to itself, :math:`s`:
            ``[L, N]``.
        attention: The mean attention over heads ``[L, N, N]``.
    """

    through: Tensor
    stay: Tensor
    attention: Tensor

    @property
    def matrices(self) -> Tensor:
        """The matrices :math:`K` of all layers ``[L, N, N]``."""
        return self.through + torch.diag_embed(self.stay)

    @property
    def weighted(self) -> Tensor:
        r"""The matrices :math:`\hat A` of all layers ``[L, N, N]``."""
        return self.through / self.through.sum(-1, keepdim=True)

    @property
    def share(self) -> Tensor:
        r"""The share :math:`\alpha` of attention in each row ``[L, N]``."""
        return self.through.sum(-1) / self.factor

    @property
    def factor(self) -> Tensor:
        """The factors :math:`c`, sums of the rows ``[L, N]``."""
        return self.stay + self.through.sum(-1)

    @property
    def uniform(self) -> tuple[Tensor, Tensor]:
        r"""The least numbers of each layer with :math:`K \le c_r I + c_a A`.

        With :math:`A` the mean attention, as bounds of message passing have
        them. Two of ``[L]``.
        """
        seen = self.attention > 0
        ratio = self.through / self.attention.masked_fill(~seen, 1.0)
        ratio = ratio.masked_fill(~seen, 0.0)
        return self.stay.amax(-1), ratio.amax((-2, -1))


def block_constants(
    model: PreTrainedModel, input_ids: Tensor
) -> BlockConstants:
    r"""Constants of every block of a decoder on one sequence.

    For a block :math:`u_i = x_i + \sum_h \sum_k A^h_{ik} v^h_k`, :math:`y_i =
    u_i + F(n'(u_i))` with values :math:`v^h_k = W^h n(x_k)` and scores
    :math:`s_{ik}`, the derivative of the softmax included,

    .. math::
        \Bigl\lVert \frac{\partial y_i}{\partial x_j} \Bigr\rVert \le
        \lambda_i \Bigl[ (1 + \kappa_i) \delta_{ij} + \sum_h A^h_{ij}
        \omega^h_{ij} \Bigr], \qquad \omega^h_{ij} = \frac{1}{\sigma_j}
        \Bigl( \lVert W^h D \rVert + \lVert v^h_j - \bar v^h_i \rVert
        \Bigl\lVert D \frac{\partial s_{ij}}{\partial n_j} \Bigr\rVert \Bigr)

    with :math:`\lambda_i = \lVert I + \partial (F \circ n')(u_i) \rVert`,
    :math:`\kappa_i` the same for the query of :math:`i`, :math:`D` the gain
    of the norm (without the mean for a LayerNorm) and :math:`\sigma_j` its
    divisor. Every factor is that of its own pair and token; taking the
    largest over all of them, as a bound with one number for each layer does,
    costs several orders of magnitude. Where the MLP reads what attention
    reads (GPT-NeoX) :math:`\lambda_i` takes the place of the 1 alone.

    :math:`O(N d^2 (m + d))` for MLPs of :math:`m` units.

    Args:
        model: A decoder with pre-norm blocks in the form of GPT-2, Llama or
            GPT-NeoX, not converted.
        input_ids: The tokens of one sequence :math:`(1, N)`.

    Returns:
        The constants, in float64.

    Raises:
        ValueError: If the model is converted or there are several sequences.
        NotImplementedError: If a block is of another form.
    """
    return constants_of(read_blocks(model, input_ids))


@torch.no_grad()
def constants_of(blocks: list[Block]) -> BlockConstants:
    """The constants of blocks that were read from a model."""
    through, stay = [], []
    for block in blocks:
        edges, query = _edges(block), _query(block)
        token = _token(block)
        if block.parallel:
            through.append(edges)
            stay.append(token + query)
        else:
            through.append(token.unsqueeze(-1) * edges)
            stay.append(token * (1 + query))
    return BlockConstants(
        through=torch.stack(through),
        stay=torch.stack(stay),
        attention=torch.stack([block.attention.mean(0) for block in blocks]),
    )


def _edges(block: Block) -> Tensor:
    r""":math:`\sum_h A^h_{ij} \omega^h_{ij}` ``[N, N]``."""
    total = torch.zeros_like(block.attention[0])
    for head, A in enumerate(block.attention):
        out = block.to_output[head]
        read = _read(block, block.to_value[head])
        written = block.value[head] @ out.T
        mean = A @ written
        apart = torch.cdist(mean, written)
        turned = block.rotation @ _read(block, block.to_key[head])
        # Of the score, in what its source is: R_j^T q_i to W_K.
        slope = torch.einsum('ie,jed->ijd', block.query[head], turned)
        slope_norm = block.scale * slope.norm(dim=-1)
        total = total + A * (_norm_of(out, read) + apart * slope_norm)
    return total / block.norm1.deviation


def _query(block: Block) -> Tensor:
    r""":math:`\kappa_i`, summed over heads ``[N]``."""
    total = torch.zeros_like(block.norm1.deviation)
    for head, A in enumerate(block.attention):
        value, key = block.value[head], block.key[head]
        both = (value.unsqueeze(-1) * key.unsqueeze(-2)).flatten(1)
        mean = (A @ value).unsqueeze(-1) * (A @ key).unsqueeze(-2)
        covariance = (A @ both).view_as(mean) - mean
        # Small triangles with the singular values of the large maps.
        out = torch.linalg.qr(block.to_output[head]).R
        read = torch.linalg.qr(_read(block, block.to_query[head]).T).R
        inner = out @ covariance @ block.rotation @ read.T
        total = total + torch.linalg.matrix_norm(inner, ord=2)
    return block.scale * total / block.norm1.deviation


def _token(block: Block) -> Tensor:
    r""":math:`\lambda_i`, exactly ``[N]``."""
    norm, down = block.norm2, block.down
    branches = [normed(branch, block) for branch in block.branches]
    width = norm.gain.size(0)
    eye = torch.eye(width, dtype=down.dtype, device=down.device)
    tokens = torch.arange(len(norm.unit), device=down.device)
    found = []
    for some in tokens.split(max(_CHUNK // down.numel(), 1)):
        J = torch.zeros(len(some), width, width).to(down)
        for branch in branches:
            J = J + (down * branch.slope[some].unsqueeze(1)) @ branch.weight
        unit = norm.unit[some].unsqueeze(1)
        # A norm has no derivative along its states.
        J = J - (J @ unit.mT) @ unit / width
        J = eye + J / norm.deviation[some].reshape(-1, 1, 1)
        found.append(torch.linalg.matrix_norm(J, ord=2))
    return torch.cat(found)


def _read(block: Block, weight: Tensor) -> Tensor:
    """A map of normed states as one of states over their deviation."""
    read = weight * block.norm1.gain
    centred = block.norm1.centred
    return read - read.mean(-1, keepdim=True) if centred else read


def _norm_of(out: Tensor, read: Tensor) -> Tensor:
    """The spectral norm of `out @ read` without the product."""
    left, right = torch.linalg.qr(out).R, torch.linalg.qr(read.T).R
    return torch.linalg.matrix_norm(left @ right.T, ord=2)
