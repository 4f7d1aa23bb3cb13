"""The weights of one attention layer as a PyG module of its own."""

from __future__ import annotations

import copy
from itertools import product

from torch import nn
from transformers import PreTrainedModel

from gnnbridge.models.convert import converted
from gnnbridge.models.observation import Observation
from gnnbridge.models.slots import Slot, self_attention_slots
from gnnbridge.nn.projected_attention import ProjectedAttention

# What architectures with four plain projections call them.
_NAMES = (
    ('q_proj', 'k_proj', 'v_proj', 'o_proj'),
    ('q_proj', 'k_proj', 'v_proj', 'out_proj'),
)
# Relative error against the model's own module, in float32.
_TOLERANCE = 1e-4


def extract_attention(model: PreTrainedModel, layer: int) -> ProjectedAttention:
    """The attention of one layer as a PyG module that needs no transformers.

    Queries, keys, values and the output projection are copied, with the
    default rotary embedding if the model has one. The result is compared with
    the model's own module before it is returned.

    Args:
        model: A model of ``transformers``; it is not changed.
        layer: Number of the layer; negative numbers count from the end.

    Returns:
        A :class:`gnnbridge.nn.ProjectedAttention` with
        ``attention(x, edge_index, position=None)``.

    Raises:
        ValueError: If there is no such layer.
        NotImplementedError: If the layer has other than four plain projections,
            or does more than they, the graph and a default rotary embedding
            explain (norms of queries and keys, softcaps, sinks, gates).
    """
    with converted(model):
        module, slot = next(iter(self_attention_slots(model, [layer]).items()))
        seen = Observation(model, module, slot)
    projections = _projections(module)
    if projections is None:
        raise _refusal(model, slot, 'no four plain projections')
    width = projections[0].out_features // seen.heads
    # Some architectures scale queries before they hand them over.
    scales = (seen.scale, seen.scale * width**-0.5)
    for theta, scale in product(_thetas(module), scales):
        result = _build(module, projections, seen.heads, theta, scale)
        error = seen.error_of(result)
        if error <= _TOLERANCE:
            return result.train(model.training)
    raise _refusal(model, slot, f'a relative error of {error:.1e}')


def _projections(module: nn.Module) -> list[nn.Linear] | None:
    for names in _NAMES:
        found = [getattr(module, name, None) for name in names]
        linears = [x for x in found if type(x) is nn.Linear]
        # Wider queries hold a gate as well.
        if len(linears) == 4 and (
            linears[0].out_features == linears[3].in_features
        ):
            return linears
    return None


def _thetas(module: nn.Module) -> list[float | None]:
    """Bases that the rotary embedding may have; None where there is none."""
    config = getattr(module, 'config', None)
    rope = getattr(config, 'rope_parameters', None)
    theta = rope.get('rope_theta') if isinstance(rope, dict) else None
    if theta is None:
        theta = getattr(config, 'rope_theta', None)
    return [None] if theta is None else [float(theta), None]


def _build(
    module: nn.Module,
    projections: list[nn.Linear],
    heads: int,
    theta: float | None,
    scale: float,
) -> ProjectedAttention:
    query, key, value, out = projections
    width = query.out_features // heads
    result = ProjectedAttention(
        query.in_features, heads, kv_heads=key.out_features // width,
        width=width, out_channels=out.out_features, rope_theta=theta,
        scale=scale, dropout=float(getattr(module, 'dropout', 0.0) or 0.0),
    )  # fmt: skip
    for name, linear in zip(
        ('lin_query', 'lin_key', 'lin_value', 'lin_out'),
        (query, key, value, out),
        strict=True,
    ):
        setattr(result, name, copy.deepcopy(linear))
    return result.to(query.weight.device)


def _refusal(
    model: PreTrainedModel, slot: Slot, what: str
) -> NotImplementedError:
    return NotImplementedError(
        f"Expected layer {slot.layer} ('{slot.name}') of "
        f"'{type(model).__name__}' to be four plain projections around "
        f'attention (got {what}). Use gnnbridge.convert_layer, which keeps the '
        f"model's own block."
    )
