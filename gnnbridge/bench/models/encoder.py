"""From the features of a task to states of one width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Features = int | tuple[int, ...]


class Encoder(nn.Module):
    """A linear map of float features, or the sum of embeddings of categories.

    Args:
        features: The width of float features, or the number of categories of
            each column of int64 ones.
        width: The width of the states.
        rank: Through how many channels the states are made, where a full
            encoder is too large; not through any by default.
        name: What the features are called in errors.

    Shapes:
        - **x:** float :math:`(N, F)` or int64 :math:`(N, C)`; a single column
          may come as :math:`(N)`
        - **output:** :math:`(N, width)`
    """

    def __init__(
        self,
        features: Features,
        width: int,
        *,
        rank: int | None = None,
        name: str = 'x',
    ) -> None:
        super().__init__()
        self.features, self.width, self.name = features, width, name
        inner = width if rank is None else rank
        if isinstance(features, int):
            self.maps = nn.ModuleList([nn.Linear(features, inner)])
        else:
            self.maps = nn.ModuleList(nn.Embedding(n, inner) for n in features)
        self.expand = None if rank is None else nn.Linear(rank, width)

    def forward(self, x: Tensor | None) -> Tensor:
        """The states of features.

        Raises:
            ValueError: If the features are missing, of another type or width,
                or a category is out of range.
        """
        x = self._checked(x)
        if isinstance(self.features, int):
            states = self.maps[0](x)
        else:
            columns = zip(self.maps, x.unbind(dim=1), strict=True)
            try:
                states = torch.stack([table(c) for table, c in columns]).sum(0)
            except IndexError as error:
                raise self._wrong(
                    f'categories below {list(self.features)}',
                    f'up to {x.amax(dim=0).tolist()}',
                ) from error
        return states if self.expand is None else self.expand(states)

    def _checked(self, x: Tensor | None) -> Tensor:
        floats = isinstance(self.features, int)
        columns = (
            self.features
            if isinstance(self.features, int)
            else len(self.features)
        )
        kind = f'{"float" if floats else "int64"} of shape [n, {columns}]'
        if x is None:
            raise self._wrong(kind, 'none')
        x = x.unsqueeze(1) if x.dim() == 1 else x
        right = x.is_floating_point() if floats else x.dtype == torch.int64
        if x.dim() != 2 or x.size(1) != columns or not right:
            raise self._wrong(kind, f'{x.dtype} of shape {list(x.shape)}')
        return x

    def _wrong(self, expected: str, got: str) -> ValueError:
        return ValueError(
            f"Expected '{self.name}' to be {expected} (got {got}). The model "
            f'is built for the features of its task.'
        )
