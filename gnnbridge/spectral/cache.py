"""Resistances that grow with the sequence, one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.graph.checks import check_entries
from gnnbridge.spectral.arguments import check_dtype
from gnnbridge.spectral.walk import positive


class ResistanceCache:
    r"""Hitting probabilities and resistances of a sequence that grows.

    What a causal graph has between two tokens does not depend on later ones,
    so that a new token costs :math:`O(N^2)`, as in decoding with a KV cache:

    .. math::
        h_{i \cdot} = \frac{1}{\ell_i} \sum_{k < i} A_{ik} h_{k \cdot} + e_i,
        \qquad (L_g + \ell_i) \, S_{\cdot i} = 2 + S A_{i \cdot}

    Args:
        lyapunov: Whether to keep the Lyapunov resistance too.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Example:
        >>> cache = ResistanceCache()
        >>> cache.append(torch.tensor([1.0]))
        >>> cache.append(torch.tensor([0.5, 0.5]))
        >>> cache.append(torch.tensor([0.2, 0.3, 0.5]))
        >>> cache.effective_resistance()[2, 1]
        tensor(3.3333, dtype=torch.float64)
    """

    def __init__(
        self, *, lyapunov: bool = False, dtype: torch.dtype = torch.float64
    ) -> None:
        self.lyapunov = lyapunov
        self.dtype = check_dtype(dtype)
        self._size = 0
        self._pairs: dict[str, Tensor] = {}
        self._tokens: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self._size

    @torch.no_grad()
    def append(self, weight: Tensor) -> None:
        """Add a token by the weights with which it receives.

        Args:
            weight: Its row of the attention matrix, itself last:
                :math:`(*, N + 1)` after :math:`N` tokens, with the same
                leading dimensions each time.

        Raises:
            ValueError: If the row has another length or shape, or a weight is
                negative or not finite, or, with `lyapunov`, if a token other
                than the first has no edge from another.
        """
        i = self._size
        if weight.dim() == 0 or weight.size(-1) != i + 1:
            raise ValueError(
                f"Expected 'weight' of shape [..., {i + 1}], the new token "
                f'last (got {list(weight.shape)}).'
            )
        check_entries(weight)
        row = weight.to(self.dtype)
        other = row[..., :i]
        rate = other.sum(-1)
        if self.lyapunov and i and not (rate > 0).all():
            raise ValueError(
                f"Expected an edge from another token for 'lyapunov' (got none "
                f'into token {i}).'
            )
        if i:
            self._check_batch(row)
        self._reserve(row, i + 1)
        jump = other / positive(rate).unsqueeze(-1)
        hit = self._pairs['hit']
        hit[..., i, :i] = (jump.unsqueeze(-2) @ hit[..., :i, :i]).squeeze(-2)
        hit[..., i, i] = 1
        stay = row.sum(-1) / positive(rate)
        time = self._tokens['time']
        time[..., i] = (jump * time[..., :i]).sum(-1) + stay.masked_fill(
            rate == 0, 0.0
        )
        self._tokens['rate'][..., i] = rate
        if self.lyapunov:
            self._append_lyapunov(other, rate, i)
        self._size = i + 1

    def hitting_probability(self) -> Tensor:
        r"""As :func:`~gnnbridge.spectral.hitting_probability` of all tokens."""
        return self._pair('hit').clone()

    def absorption_time(self) -> Tensor:
        r"""As :func:`~gnnbridge.spectral.absorption_time` of all tokens."""
        return self._token('time').clone()

    def effective_resistance(self, *, conductance: bool = False) -> Tensor:
        r"""As :func:`~gnnbridge.spectral.effective_resistance`, causal.

        Args:
            conductance: Whether to return :math:`1 / R`.
        """
        flow = self._token('rate').unsqueeze(-1) * self._pair('hit')
        if conductance:
            return flow
        resistance = flow.reciprocal()
        resistance.diagonal(dim1=-2, dim2=-1).zero_()
        return resistance

    def lyapunov_resistance(self) -> Tensor:
        r"""As :func:`~gnnbridge.spectral.lyapunov_resistance`.

        Raises:
            ValueError: If the cache was made without `lyapunov`.
        """
        if not self.lyapunov:
            raise ValueError(
                'Expected a cache with Lyapunov resistances (got one '
                'without). Use ResistanceCache(lyapunov=True) instead.'
            )
        S = self._pair('gram')
        own = S.diagonal(dim1=-2, dim2=-1)
        pairs = own.unsqueeze(-1) + own.unsqueeze(-2) - 2 * S
        pairs.diagonal(dim1=-2, dim2=-1).zero_()
        return pairs

    def _append_lyapunov(self, other: Tensor, rate: Tensor, i: int) -> None:
        # The root has S = 0; its row of the solve is that of a lone token.
        S, laplacian = self._pairs['gram'], self._pairs['laplacian']
        laplacian[..., i, :i] = -other
        laplacian[..., i, i] = rate
        if i == 0:
            return
        right = 2 + (other.unsqueeze(-2) @ S[..., :i, :i]).squeeze(-2)
        right[..., 0] = 0
        eye = torch.eye(i, dtype=self.dtype, device=S.device)
        system = laplacian[..., :i, :i] + rate[..., None, None] * eye
        column = torch.linalg.solve_triangular(
            system, right.unsqueeze(-1), upper=False
        ).squeeze(-1)
        S[..., i, :i] = S[..., :i, i] = column
        S[..., i, i] = (2 + (other * column).sum(-1)) / rate

    def _check_batch(self, row: Tensor) -> None:
        batch = self._tokens['rate'].shape[:-1]
        if row.shape[:-1] != batch:
            raise ValueError(
                f"Expected 'weight' with the leading dimensions {list(batch)} "
                f'of the tokens before (got {list(row.shape[:-1])}).'
            )

    def _reserve(self, like: Tensor, size: int) -> None:
        """Room for so many tokens, doubled when it runs out."""
        held = self._tokens['rate'].size(-1) if self._tokens else 0
        if size <= held:
            return
        room, batch = max(2 * held, 64), like.shape[:-1]
        names = ['hit', *(['gram', 'laplacian'] if self.lyapunov else [])]
        for name in names:
            grown = like.new_zeros(*batch, room, room)
            if held:
                grown[..., :held, :held] = self._pairs[name]
            self._pairs[name] = grown
        for name in ('rate', 'time'):
            grown = like.new_zeros(*batch, room)
            if held:
                grown[..., :held] = self._tokens[name]
            self._tokens[name] = grown

    def _pair(self, name: str) -> Tensor:
        self._require_tokens()
        return self._pairs[name][..., : self._size, : self._size]

    def _token(self, name: str) -> Tensor:
        self._require_tokens()
        return self._tokens[name][..., : self._size]

    def _require_tokens(self) -> None:
        if not self._size:
            raise ValueError('Expected a cache with tokens (got none).')
