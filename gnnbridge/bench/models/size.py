"""What the layers of a model have in common."""

from __future__ import annotations

from dataclasses import dataclass

HEADS = 4


@dataclass(frozen=True)
class Size:
    """How large layers are.

    Attributes:
        width: The width of the states.
        hidden: The width inside the MLP of a layer that has one.
        rank: Through how many channels features become states, where the
            width is not free; None for all.
    """

    width: int
    hidden: int
    rank: int | None = None


@dataclass(frozen=True)
class Form:
    """What is asked of all layers of a model.

    Attributes:
        layers: Their number.
        relations: The number of relations of the edges.
        edge_features: Whether edges have features that the layers read.
        residual: Whether states are added to what a layer makes of them.
        norm: Whether layers normalise.
        dropout: The chance that a value is dropped.
    """

    layers: int
    relations: int = 1
    edge_features: bool = False
    residual: bool = True
    norm: bool = True
    dropout: float = 0.0
