"""Running a model's attention as PyG message passing, and undoing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from gnnbridge.models.backend import BACKEND, FLOAT_BACKEND, register_backend
from gnnbridge.models.configs import (
    Originals,
    privatise_configs,
    restore_configs,
)
from gnnbridge.models.injection import OwnGraph, install_modes, trace_scores
from gnnbridge.models.install import (
    install_frames,
    install_guards,
    install_slots,
    install_weight_requests,
    shared_of,
)
from gnnbridge.models.overrides import install_overrides, remove_overrides
from gnnbridge.models.slots import (
    remove_slot,
    slots_of,
)
from gnnbridge.models.support import (
    refuse_unrouted,
    run_once,
    trace_attention,
    trace_inputs,
)
from gnnbridge.nn.choice import check_backend

Mode: TypeAlias = Literal['messages', 'mask']

_ATTRIBUTE = '_gnnbridge_conversion'
# Relative to the largest output. Measured errors are near 1e-6 in float32; a
# feature that the backend got wrong shows at 1e-2 and above. In half
# precision the original differs from itself between kernels by about 1e-2.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}


@dataclass
class _Conversion:
    """What `restore` needs to undo a conversion."""

    mode: Mode
    configs: Originals = field(default_factory=list)
    overridden: list[nn.Module] = field(default_factory=list)
    handles: list[RemovableHandle] = field(default_factory=list)


def convert(
    model: PreTrainedModel,
    *,
    example_inputs: dict[str, Tensor] | None = None,
    backend: str = 'auto',
    mode: Mode = 'messages',
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
        mode: ``'messages'``; or ``'mask'`` for architectures whose attention
            cannot be replaced. It is **no message passing**: the model runs
            its own dense attention, and graphs of :func:`gnnbridge.rewire` are
            imposed on its scores as masks.

    Returns:
        The model that was given. A model already converted is returned as is.

    Raises:
        TypeError: If this is no model of ``transformers``.
        ValueError: If there is no such backend or mode, or the model is
            converted to another one.
        NotImplementedError: If its attention does not go through
            transformers' attention interface, wholly or in part, or passes a
            keyword that the backend does not honour.
        RuntimeError: If the converted model gives other numbers.
    """
    if not isinstance(model, PreTrainedModel):
        advice = 'Load it with from_pretrained.'
        if hasattr(model, 'get_base_model'):  # an adapter of PEFT
            advice = 'Convert model.get_base_model(), which it runs.'
        raise TypeError(
            f"Expected a transformers 'PreTrainedModel' (got "
            f"'{type(model).__name__}'). {advice}"
        )
    check_backend(backend)
    if mode not in ('messages', 'mask'):
        raise ValueError(
            f"Expected 'mode' to be 'messages' or 'mask' (got '{mode}')."
        )
    if is_converted(model):
        now, how = _backend_of(model), conversion_mode(model)
        if backend not in ('auto', now) or mode != how:
            raise ValueError(
                f'Expected a model to be converted in one way (got mode '
                f"'{mode}' and backend '{backend}' for one converted with mode "
                f"'{how}' and backend '{now}'). Restore it with "
                f'gnnbridge.restore first.'
            )
        return model
    inputs = trace_inputs(model) if example_inputs is None else example_inputs
    conversion = _Conversion(mode)
    try:
        if mode == 'messages':
            _pass_messages(model, inputs, backend, conversion)
        else:
            _impose_masks(model, inputs, backend, conversion)
    except BaseException:
        _undo(model, conversion)
        raise
    setattr(model, _ATTRIBUTE, conversion)
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
    _undo(model, getattr(model, _ATTRIBUTE))
    delattr(model, _ATTRIBUTE)
    return model


def is_converted(model: nn.Module) -> bool:
    """Whether a model runs on the backend."""
    return hasattr(model, _ATTRIBUTE)


def conversion_mode(model: nn.Module) -> Mode | None:
    """How a model is converted: ``'messages'``, ``'mask'``, or not at all."""
    conversion = getattr(model, _ATTRIBUTE, None)
    return None if conversion is None else conversion.mode


@contextmanager
def converted(
    model: PreTrainedModel, mode: Mode | None = 'messages'
) -> Iterator[PreTrainedModel]:
    """Converts a model for the time of a context, if it is not converted.

    Without a mode, to messages if that is possible, and else to masks.
    """
    if is_converted(model):
        yield model
        return
    try:
        convert(model, mode=mode or 'messages')
    except NotImplementedError:
        if mode is not None:
            raise
        convert(model, mode='mask')
    try:
        yield model
    finally:
        restore(model)


def _pass_messages(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    backend: str,
    conversion: _Conversion,
) -> None:
    register_backend()
    expected = run_once(model, inputs)
    conversion.overridden = install_overrides(model)
    # Models that were written for eager attention alone may calculate with
    # their masks, which have to be floats then.
    name = BACKEND if model._supports_sdpa else FLOAT_BACKEND
    conversion.configs = privatise_configs(model, name)
    trace = trace_attention(model, inputs, backend)
    refuse_unrouted(
        model,
        trace,
        "transformers' attention interface",
        "It cannot be run as message passing; mode='mask' imposes graphs on "
        'dense attention instead.',
    )
    _refuse_other_numbers(model, expected, trace.output)
    install_slots(model, trace, backend)
    conversion.handles = install_frames(model) + install_guards(model)
    conversion.handles += install_weight_requests(model)


def _impose_masks(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    backend: str,
    conversion: _Conversion,
) -> None:
    expected = run_once(model, inputs)
    trace = trace_scores(model, inputs)
    refuse_unrouted(
        model,
        trace,
        'a softmax over all tokens',
        'This architecture cannot be converted.',
    )
    install_slots(model, trace, backend)
    conversion.handles = install_frames(model)
    conversion.handles += install_modes(trace.routed)
    # Imposing the model's own graph must change nothing.
    own = OwnGraph()
    for slot in slots_of(model).values():
        slot.source = own
    output = run_once(model, inputs)
    for slot in slots_of(model).values():
        slot.source = None
    _refuse_other_numbers(model, expected, output)


def _undo(model: nn.Module, conversion: _Conversion) -> None:
    for handle in conversion.handles:
        handle.remove()
    for module in model.modules():
        remove_slot(module)
    remove_overrides(conversion.overridden)
    restore_configs(conversion.configs)


def _backend_of(model: nn.Module) -> str:
    shared = shared_of(model)
    return 'auto' if shared is None else shared.backend


def _error(expected: Tensor, output: Tensor | None) -> float:
    """Relative error, zero where rounding would hide what is wrong."""
    if expected.dtype not in _TOLERANCE or output is None:
        return 0.0
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((output - expected).abs().max() / scale)


def _is_close(expected: Tensor, output: Tensor | None) -> bool:
    return _error(expected, output) <= _TOLERANCE.get(expected.dtype, 0.0)


def _refuse_other_numbers(
    model: PreTrainedModel, expected: Tensor, output: Tensor | None
) -> None:
    if not _is_close(expected, output):
        raise RuntimeError(
            f"Expected the converted '{type(model).__name__}' to equal the "
            f'original (got a relative error of '
            f'{_error(expected, output):.1e}, above '
            f'{_TOLERANCE[expected.dtype]:.0e}). The conversion was undone. '
            f"Load the model with attn_implementation='eager': other kernels "
            f'drop features of some architectures; if the error stays, this '
            f'one does something that the backend does not know.'
        )
