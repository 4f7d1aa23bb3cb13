"""One architecture against its original: what converts, and how exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging

from gnnbridge.models.convert import convert, restore
from gnnbridge.models.rewire import rewire
from gnnbridge.models.slots import slots_of
from gnnbridge.models.zoo.tiny import (
    VOCABULARY,
    CannotBuild,
    build,
    model_types,
)

Status: TypeAlias = Literal[
    'messages', 'mask', 'refused', 'no attention', 'not built', 'wrong'
]
# Relative to the largest logit, float32. What the backend gets wrong shows at
# 1e-2 and above; rounding at 1e-6, some times more where experts are routed.
TOLERANCE = 1e-4
LENGTH, PADDING, NEW_TOKENS = 13, 4, 5


@dataclass
class Entry:
    """The outcome for one architecture.

    Attributes:
        model_type: transformers' name of it.
        status: ``'messages'`` or ``'mask'`` if logits and generation are
            equal in that mode, ``'refused'``, ``'no attention'`` where none
            weighs tokens by a softmax, ``'not built'``, or ``'wrong'``.
        reason: Why it is not ``'messages'``.
        error: Largest error of a logit relative to the largest logit.
        padded_error: The same with left padding, where that is understood.
        rewired_error: Largest of these errors once more when the model is
            rewired to its own graph.
        generated: Whether cached greedy generation, left-padded too where
            that is understood, gives the same tokens; None where the original
            does not generate.
        layers: Attention layers found.
        isolated: Whether tokens are independent once each sees only itself,
            which shows that rewiring reaches all that mixes them.
        notes: What else was seen.
    """

    model_type: str
    status: Status
    reason: str = ''
    error: float | None = None
    padded_error: float | None = None
    rewired_error: float | None = None
    generated: bool | None = None
    layers: int = 0
    isolated: bool | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The entry for JSON, without what does not apply."""
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None and value != [] and value != ''
        }


def sweep(only: Collection[str] = ()) -> Iterator[Entry]:
    """Sweeps all architectures, or some, one after the other."""
    # Configs this small draw warnings that say nothing about a user's model.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    kinds = [kind for kind in model_types() if not only or kind in only]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            for kind in (progress := tqdm(kinds)):
                progress.set_postfix_str(kind)
                yield sweep_one(kind)
    finally:
        logging.set_verbosity(verbosity)


class _Outcomes(NamedTuple):
    """Logits and generated tokens, of whole and of left-padded sequences."""

    logits: Tensor
    padded: Tensor | None
    tokens: Tensor | None
    padded_tokens: Tensor | None


def sweep_one(model_type: str) -> Entry:
    """Builds one architecture, converts it and compares it with itself."""
    try:
        model = build(model_type)
    except CannotBuild as error:
        return Entry(model_type, 'not built', str(error))
    probe = _Probe()
    notes: list[str] = []
    try:
        original = probe.outcomes(model, notes)
    except Exception as error:  # whatever the original raises
        return Entry(model_type, 'not built', f'does not run: {_line(error)}')
    if not bool(original.logits.isfinite().all()):
        return Entry(model_type, 'not built', 'its logits are not finite')
    entry = Entry(model_type, *_convert(model), notes=notes)
    if entry.status not in ('messages', 'mask'):
        return entry
    entry.layers = len(slots_of(model))
    ours = probe.outcomes(model, notes)
    _compare(entry, original, ours, probe)
    if entry.status != 'wrong':
        with rewire(model, lambda _, data: data):
            rewired = probe.outcomes(model, notes)
        _compare_rewired(entry, ours, rewired, probe)
    entry.isolated = probe.isolates(model)
    restore(model)
    if not torch.equal(_logits(model, *probe.whole), original.logits):
        entry.status, entry.reason = 'wrong', 'the restored model differs'
    entry.notes = sorted(set(notes))
    return entry


def _convert(model: PreTrainedModel) -> tuple[Status, str]:
    """Converts a model in the better mode; its status, and why no better."""
    try:
        convert(model)
        return 'messages', ''
    except (NotImplementedError, RuntimeError) as error:
        reason = str(error)
    try:
        convert(model, mode='mask')
        return 'mask', reason
    except (NotImplementedError, RuntimeError) as error:
        none = 'no attention runs' in str(error)
        return 'no attention' if none else 'refused', str(error)


class _Probe:
    """The inputs that every architecture gets: two sequences of tokens."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)
        mask = torch.ones_like(ids)
        self.whole = ids, mask
        self.padded = ids.clone(), mask.clone()
        for x in self.padded:
            x[1, :PADDING] = 0
        self.real = self.padded[1].bool()

    def outcomes(self, model: PreTrainedModel, notes: list[str]) -> _Outcomes:
        """What a model makes of the inputs; what it refuses is noted."""
        logits = _logits(model, *self.whole)
        padded = _try(notes, 'padding', _logits, model, *self.padded)
        tokens = _try(notes, 'generation', _generate, model, *self.whole)
        more = None
        if padded is not None and tokens is not None:
            more = _generate(model, *self.padded)
        return _Outcomes(logits, padded, tokens, more)

    def padded_sdpa(self, model_type: str, notes: list[str]) -> Tensor | None:
        """Padded logits of the original with transformers' sdpa."""
        other = build(model_type)
        _try(notes, 'sdpa', other.set_attn_implementation, 'sdpa')
        return _try(notes, 'sdpa', _logits, other, *self.padded)

    def padded_error(self, ours: Tensor | None, theirs: Tensor) -> float:
        """Error over what is no padding."""
        if ours is None:
            return float('inf')
        return _error(ours[self.real], theirs[self.real])

    def isolates(self, model: PreTrainedModel) -> bool:
        """Whether the last token is blind once each sees only itself."""
        ids, mask = self.whole
        other = ids.clone()
        other[:, 2:5] = (other[:, 2:5] + 17) % (VOCABULARY - 3) + 3
        with rewire(model, _only_itself):
            one, two = (_logits(model, x, mask)[:, -1] for x in (ids, other))
        return _error(one, two) <= TOLERANCE


def _only_itself(layer: int, data: Data) -> Data:
    source, target = data.edge_index
    data.edge_index = data.edge_index[:, source == target]
    return data


def _compare(
    entry: Entry, original: _Outcomes, ours: _Outcomes, probe: _Probe
) -> None:
    entry.error = _error(ours.logits, original.logits)
    if original.padded is not None:
        entry.padded_error = probe.padded_error(ours.padded, original.padded)
        if entry.padded_error > TOLERANCE:
            # Padding attends to nothing: to eager attention that means to all
            # alike, to sdpa and to us it is zero. In some models it leaks.
            sdpa = probe.padded_sdpa(entry.model_type, entry.notes)
            if sdpa is not None:
                entry.padded_error = probe.padded_error(ours.padded, sdpa)
                entry.notes.append(
                    'padding: compared with sdpa, from which eager differs'
                )
    if original.tokens is not None:
        entry.generated = all(map(_same_tokens, ours[2:], original[2:]))
    wrong = [
        name
        for name, bad in (
            ('logits', not entry.error <= TOLERANCE),
            ('padding', not (entry.padded_error or 0.0) <= TOLERANCE),
            ('generation', entry.generated is False),
        )
        if bad
    ]
    if wrong:
        entry.status, entry.reason = 'wrong', f'{", ".join(wrong)} differ'


def _compare_rewired(
    entry: Entry, ours: _Outcomes, rewired: _Outcomes, probe: _Probe
) -> None:
    """Rewired to its own graph, a model is what it was."""
    entry.rewired_error = _error(rewired.logits, ours.logits)
    if ours.padded is not None:
        padded = probe.padded_error(rewired.padded, ours.padded)
        entry.rewired_error = max(entry.rewired_error, padded)
    same = _same_tokens(rewired.tokens, ours.tokens)
    if not (entry.rewired_error <= TOLERANCE and same):
        entry.status = 'wrong'
        entry.reason = 'it differs when rewired to its own graph'
    elif not _same_tokens(rewired.padded_tokens, ours.padded_tokens):
        entry.notes.append(
            'generation: with a cache it attends to padding, which is no node '
            'of a graph'
        )


def _logits(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask)
    return output.logits.float()


def _generate(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0,
        )  # fmt: skip


def _try(
    notes: list[str], name: str, function: Callable[..., Any], *given: Any
) -> Any:
    """What a function gives, or None and a note where the model refuses."""
    try:
        return function(*given)
    except Exception as error:  # whatever the original raises
        notes.append(f'{name}: {_line(error)}')
        return None


def _line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [''])[0][:160]
    return f'{type(error).__name__}: {line}'


def _same_tokens(ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return torch.equal(ours, theirs)


def _error(ours: Tensor, theirs: Tensor) -> float:
    scale = theirs.abs().max().clamp_min(1e-12)
    return float((ours - theirs).abs().max() / scale)
