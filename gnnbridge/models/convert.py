"""Running a model's attention as PyG message passing, and undoing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from gnnbridge.models.backend import BACKEND, register_backend
from gnnbridge.models.configs import (
    Originals,
    privatise_configs,
    restore_configs,
)
from gnnbridge.models.slots import (
    Shared,
    Slot,
    get_slot,
    remove_slot,
    set_frame,
    set_slot,
    slots_of,
)
from gnnbridge.models.support import (
    Trace,
    refuse_unrouted,
    run_once,
    trace_attention,
    trace_inputs,
)
from gnnbridge.nn.choice import check_backend

_ATTRIBUTE = '_gnnbridge_conversion'
# Relative to the largest output. Measured errors are near 1e-6 in float32; a
# feature that the backend got wrong shows at 1e-2 and above. In half
# precision the original differs from itself between kernels by about 1e-2.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}


@dataclass
class _Conversion:
    """What `restore` needs to undo a conversion."""

    configs: Originals
    handles: list[RemovableHandle]


def convert(
    model: PreTrainedModel,
    *,
    example_inputs: dict[str, Tensor] | None = None,
    backend: str = 'auto',
) -> PreTrainedModel:
    """Runs every attention layer of a model as PyG message passing, in place.

    The model's own projections, position encodings and KV cache stay in use;
    between them, :class:`gnnbridge.nn.AttentionConv` aggregates the values
    over the edges of the token graph that the model's mask describes. Outputs
    equal the original's up to rounding. Generation, training and saving go on
    as before. :func:`restore` undoes the conversion.

    Attention layers are found by running the model once on eight tokens, and
    its output is compared with the original's before this returns.

    Args:
        model: A model of ``transformers``, in memory, of any device and dtype.
        example_inputs: Keyword inputs for that run, for models that take
            neither token ids nor pixels.
        backend: Kernel that runs every graph, as in
            :func:`gnnbridge.nn.plan_attention`. By default each graph gets the
            fastest that fits it: a causal mask torch's dense kernel, without
            a list of its edges; ``'scatter'`` passes a message along each.

    Returns:
        The model that was given. A model already converted is returned as is.

    Raises:
        TypeError: If this is no model of ``transformers``.
        ValueError: If there is no such backend, or the model is converted to
            another one.
        NotImplementedError: If its attention does not go through
            transformers' attention interface, wholly or in part, or passes a
            keyword that the backend does not honour.
        RuntimeError: If the converted model gives other numbers.
    """
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"Expected a transformers 'PreTrainedModel' (got "
            f"'{type(model).__name__}'). Load it with from_pretrained."
        )
    check_backend(backend)
    if is_converted(model):
        now = _backend_of(model)
        if backend not in ('auto', now):
            raise ValueError(
                f'Expected a model to be converted to one backend (got '
                f"'{backend}' for one converted to '{now}'). Restore it with "
                f'gnnbridge.restore first.'
            )
        return model
    register_backend()
    inputs = trace_inputs(model) if example_inputs is None else example_inputs
    expected = run_once(model, inputs)
    configs = privatise_configs(model, BACKEND)
    try:
        trace = trace_attention(model, inputs, backend)
        refuse_unrouted(model, trace)
        _refuse_other_numbers(model, expected, trace.output)
    except BaseException:
        restore_configs(configs)
        raise
    _install_slots(model, trace, backend)
    handles = [
        module.register_forward_pre_hook(set_frame, with_kwargs=True)
        for module in slots_of(model)
    ]
    handles += _install_weight_requests(model)
    setattr(model, _ATTRIBUTE, _Conversion(configs, handles))
    return model


def restore(model: PreTrainedModel) -> PreTrainedModel:
    """Undoes :func:`convert`: the model runs its original attention again.

    Args:
        model: A converted model.

    Returns:
        The model that was given; outputs equal the original's exactly.

    Raises:
        ValueError: If the model is not converted.
    """
    if not is_converted(model):
        raise ValueError(
            f'Expected a converted model (got an original '
            f"'{type(model).__name__}'). Convert it with gnnbridge.convert."
        )
    conversion = getattr(model, _ATTRIBUTE)
    for handle in conversion.handles:
        handle.remove()
    for module in model.modules():
        remove_slot(module)
    restore_configs(conversion.configs)
    delattr(model, _ATTRIBUTE)
    return model


def is_converted(model: nn.Module) -> bool:
    """Whether a model runs on the backend."""
    return hasattr(model, _ATTRIBUTE)


@contextmanager
def converted(
    model: PreTrainedModel, **options: Any
) -> Iterator[PreTrainedModel]:
    """Converts a model for the time of a context, if it is not converted."""
    if is_converted(model):
        yield model
        return
    convert(model, **options)
    try:
        yield model
    finally:
        restore(model)


def _install_slots(model: PreTrainedModel, trace: Trace, backend: str) -> None:
    names = {module: name for name, module in model.named_modules()}
    shared = Shared(type(model).__name__, backend)
    for layer, (module, cross) in enumerate(trace.routed.items()):
        set_slot(module, Slot(names[module], layer, shared, cross=cross))
    own = [m for m, cross in trace.routed.items() if not cross]
    indices = [getattr(module, 'layer_idx', None) for module in own]
    numbered = all(isinstance(i, int) and i >= 0 for i in indices)
    if not numbered or len(set(indices)) < len(indices):
        # Encoders, and models that call one module for several layers, have
        # no index of their own: they are numbered in the order of calls.
        indices = list(range(len(own)))
    for module, index in zip(own, indices, strict=True):
        get_slot(module).layer = index


def _install_weight_requests(model: PreTrainedModel) -> list[RemovableHandle]:
    """Notices requests for attention weights at the door of the model.

    Several architectures do not pass the request on to the attention function,
    and an answer without weights would be an empty tuple and no error.
    """
    handles = []
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            handles += [
                part.register_forward_pre_hook(
                    _request_weights, with_kwargs=True
                ),
                part.register_forward_hook(_end_request, always_call=True),
            ]
    return handles


def _request_weights(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    shared = _shared_of(module)
    wanted = kwargs.get('output_attentions')
    if wanted is None:
        wanted = getattr(module.config, 'output_attentions', False)
    if shared is not None and shared.weights_for is None and wanted:
        shared.weights_for = module


def _end_request(module: Any, args: Any, output: Any) -> None:
    shared = _shared_of(module)
    if shared is not None and shared.weights_for is module:
        shared.weights_for = None


def _backend_of(model: nn.Module) -> str:
    shared = _shared_of(model)
    return 'auto' if shared is None else shared.backend


def _shared_of(model: nn.Module) -> Shared | None:
    slots = (get_slot(module) for module in model.modules())
    return next((slot.shared for slot in slots if slot is not None), None)


def _refuse_other_numbers(
    model: PreTrainedModel, expected: Tensor, output: Tensor | None
) -> None:
    tolerance = _TOLERANCE.get(expected.dtype)
    if tolerance is None or output is None:
        return
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    error = float((output - expected).abs().max() / scale)
    if not error <= tolerance:
        raise RuntimeError(
            f"Expected the converted '{type(model).__name__}' to equal the "
            f'original (got a relative error of {error:.1e}, above '
            f'{tolerance:.0e}). The conversion was undone. Load the model with '
            f"attn_implementation='eager': other kernels drop features of some "
            f'architectures; if the error stays, this one does something that '
            f'the backend does not know.'
        )
