"""From a model and a text to a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gnnbridge.models.convert import (
    conversion_mode,
    convert,
    is_converted,
    restore,
)
from gnnbridge.models.loading import reinitialize
from gnnbridge.models.support import evaluation_mode
from gnnbridge.profiling.clock import Clock
from gnnbridge.profiling.description import describe, versions
from gnnbridge.profiling.measures import SINK_EPSILON, Found, measure, uniform
from gnnbridge.profiling.reading import compare, outputs, read
from gnnbridge.profiling.result import Profile

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

_STEPS = (
    'tokenise',
    'original',
    'convert',
    'message passing',
    'measures',
    'nulls',
    're-initialised',
)


_NOTES: dict[str, list[str]] = {
    'messages': [],
    'mask': [
        'The attention of this architecture cannot be replaced: it ran as it '
        'is, as dense attention and not as message passing, and its graphs '
        'were read from its scores.'
    ],
}


def profile(
    model: PreTrainedModel,
    tokenizer: Any,
    text: str | None = None,
    *,
    max_tokens: int = 256,
    baseline: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Profile:
    """Measures a model's attention graphs on a text.

    The model's attention is run as message passing and compared with the
    original; each layer's token graph is captured and measured, beside what
    uniform attention and the same architecture with re-initialised weights
    give. The model is left as it came.

    Args:
        model: A decoder (or encoder) of ``transformers``, converted or not.
        tokenizer: Its tokenizer.
        text: What the model reads; by default a page that ships with the
            package.
        max_tokens: How many tokens to read at most. Time and memory grow
            with its square.
        baseline: Whether to measure re-initialised weights as well.
        seed: The seed of these weights.
        progress: Whether to show a progress bar.

    Returns:
        A :class:`Profile`: see its attributes.

    Raises:
        ValueError: If the text holds fewer than two tokens, or tokens that
            the model does not know.
        NotImplementedError: If the model cannot run as message passing, and
            was not converted with ``mode='mask'``.
        RuntimeError: If it does, with other logits than the original's.

    Example:
        >>> import gnnbridge as gb
        >>> result = gb.profile(*gb.load_embedded())
        >>> result.to_html('report.html')
    """
    steps = _STEPS if baseline else _STEPS[:-1]
    arrived_converted = is_converted(model)
    mode = conversion_mode(model) or 'messages'
    with Clock(steps, progress) as clock, evaluation_mode(model):
        with clock('tokenise'):
            reading = read(model, tokenizer, text, max_tokens)
            ids = reading.input_ids
        try:
            if arrived_converted:
                restore(model)
            with clock('original'):
                expected = outputs(model, ids)
            with clock('convert'):
                convert(model, mode=mode)
            with clock('message passing'):
                found = outputs(model, ids)
                parity = compare(expected, found)
            with clock('measures'):
                measured = measure(model, ids, reading.sink_tokens)
        finally:
            if is_converted(model) != arrived_converted:
                if arrived_converted:
                    convert(model, mode=mode)
                else:
                    restore(model)
        with clock('nulls'):
            nulls = uniform(measured, ids.size(1), reading.sink_tokens)
        again = None
        if baseline:
            with clock('re-initialised'):
                fresh = convert(reinitialize(model, seed), mode=mode)
                again = measure(fresh, ids, reading.sink_tokens)
    return Profile(
        model=_describe(model, measured),
        text=reading.text,
        parity=parity,
        measures=measured.measures,
        nulls=nulls,
        baseline=None if again is None else again.as_baseline(),
        graphs=measured.graphs,
        resistance=measured.resistance,
        notes=[
            *reading.notes,
            *reading.sink_notes,
            *_notes(measured),
            *_NOTES[mode],
        ],
        settings={
            'max_tokens': max_tokens,
            'sink_tokens': reading.sink_tokens,
            'sink_epsilon': SINK_EPSILON,
            'baseline': baseline,
            'seed': seed,
            'threads': torch.get_num_threads(),
        },
        versions=versions(),
        timings=clock.timings,
    )


def _describe(model: PreTrainedModel, found: Found) -> dict[str, Any]:
    heads = sorted({len(row) for row in found.measures['entropy']})
    return {
        **describe(model),
        'num_layers': len(found.graphs),
        'num_heads': ' to '.join(str(n) for n in sorted({heads[0], heads[-1]})),
        'hidden_size': found.hidden_size,
    }


def _notes(found: Found) -> list[str]:
    notes = []
    if not found.causal:
        notes.append(
            'Tokens attend to later ones: the effective resistance of causal '
            'graphs is left out.'
        )
    numbers = found.measures['layer']
    if numbers != list(range(len(numbers))):
        notes.append(
            'Layers are counted here in the order of their attention; the '
            f'model numbers them {", ".join(map(str, numbers))}.'
        )
    return notes
