"""The token graphs that a profile carries: packed as text, read as edges."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Edges(NamedTuple):
    """Edges of a layer, the strongest first.

    Attributes:
        source: The keys ``[E]``.
        target: The queries ``[E]``.
        weight: How much attention they get ``[E]`` float64.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def layers_of(profile: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The layers whose graphs a profile carries."""
    return (profile.get('graphs') or {}).get('layers') or ()


def layer_of(profile: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
    """The graph of one layer.

    Raises:
        ValueError: If the profile does not carry it.
    """
    found = layers_of(profile)
    for graph in found:
        if graph['layer'] == layer:
            return graph
    known = ', '.join(str(graph['layer']) for graph in found) or 'none'
    raise ValueError(f"Expected 'layer' to be one of {known} (got {layer}).")


def edges_of(
    graph: Mapping[str, Any], num_tokens: int, head: int | None = None
) -> Edges:
    """The edges of a layer that a profile carries.

    Of every query and head these are the strongest keys only, so that the
    mean over heads counts what is left out as nothing.

    Args:
        graph: What a profile holds of the layer.
        num_tokens: The number of tokens.
        head: The head, the mean over all by default.

    Raises:
        ValueError: If there is no such head.
    """
    heads, keep = graph['heads'], graph['keep']
    if head is not None and not 0 <= head < heads:
        raise ValueError(
            f"Expected 'head' to be from 0 to {heads - 1} (got {head})."
        )
    shape = (heads, num_tokens, keep)
    sources = _unpacked(graph['source'], '<u2').reshape(shape)
    weights = _unpacked(graph['weight'], 'u1').reshape(shape) / 255
    if head is not None:
        sources, weights = sources[head : head + 1], weights[head : head + 1]
    targets = np.broadcast_to(np.arange(num_tokens)[:, None], weights.shape)
    return _merged(sources.ravel(), targets.ravel(), weights, num_tokens)


def _unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def _merged(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    num_tokens: int,
) -> Edges:
    """Adds up what several heads give to one edge, and divides by them."""
    pair = target * num_tokens + source.astype(np.int64)
    there = weights.ravel() > 0
    pairs, place = np.unique(pair[there], return_inverse=True)
    total = np.bincount(place, weights.ravel()[there], len(pairs))
    weight: np.ndarray = total / len(weights)
    order = np.argsort(-weight, kind='stable')
    pairs = pairs[order]
    return Edges(pairs % num_tokens, pairs // num_tokens, weight[order])
