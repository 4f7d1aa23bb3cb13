"""Reads a profile: one diagnostic of it, and numbers deep inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Names and headings of the diagnostics, in the order of the page.
TITLES = {
    'sinks': 'Attention sinks',
    'smoothing': 'Over-smoothing',
    'squashing': 'Over-squashing',
    'collapse': 'Last-token collapse',
    'runway': 'Runway and position bias',
    'retrieval': 'Retrieval by place',
}


def as_dict(profile: Any) -> Mapping[str, Any]:
    """A profile as plain data.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.

    Raises:
        ValueError: If it was written in another version of the format.
    """
    found = profile if isinstance(profile, Mapping) else profile.to_dict()
    version = found.get('schema_version')
    if version != 2:
        raise ValueError(
            f"Expected 'schema_version' to be 2 (got {version}). Measure the "
            'model again with this version of gnnbridge.'
        )
    return found


@dataclass(frozen=True)
class Part:
    """One diagnostic of a profile; what was not measured is empty.

    Attributes:
        name: Its name.
        model: What was measured.
        baseline: The same with re-initialised weights.
        null: The same if nothing were learned, in closed form.
        status: ``'measured'``, ``'partly'`` or ``'refused'``.
        reasons: What could not be measured, and why.
        meaning: What it says about a model.
    """

    name: str
    model: Mapping[str, Any]
    baseline: Mapping[str, Any]
    null: Mapping[str, Any]
    status: str
    reasons: Sequence[str]
    meaning: str

    @property
    def sides(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Label, look and data of the model and of its baseline, if any."""
        sides = [
            ('this model', 'model', self.model),
            ('re-initialised', 'reinitialised', self.baseline),
        ]
        return [side for side in sides if side[2]]


def part(profile: Any, name: str) -> Part | None:
    """One diagnostic of a profile, ``None`` if it was not asked for."""
    section = as_dict(profile)['diagnostics'].get(name)
    if section is None:
        return None
    model, baseline = section.get('model') or {}, section.get('baseline') or {}
    if name == 'collapse':
        model, baseline = _with_own(model), _with_own(baseline)
    return Part(
        name,
        model,
        baseline,
        section.get('null') or {},
        section['status'],
        section.get('reasons') or (),
        section.get('meaning') or '',
    )


PAIRS = ('repeat_last', 'substitute_last')


def precisions(pair: Any) -> list[str]:
    """The precisions that a pair was measured in, the model's own first."""
    names = [name for name, found in (pair or {}).items() if found]
    return sorted((n for n in names if n != 'own'), key='bfloat16'.__eq__)


def _with_own(side: Mapping[str, Any]) -> Mapping[str, Any]:
    """The curves in the model's own precision under the name ``own``.

    That is float32 for most models and float16 for others; bfloat16 stands
    beside it.
    """
    found = dict(side)
    for pair in PAIRS:
        if names := precisions(side.get(pair)):
            found[pair] = {**side[pair], 'own': side[pair][names[0]]}
    return found


def measured(profile: Any, name: str) -> Part:
    """One diagnostic of a profile.

    Raises:
        ValueError: If it was not measured.
    """
    found = part(profile, name)
    if found is None or not found.model:
        reasons = '' if found is None else ' '.join(found.reasons)
        raise ValueError(
            f"Expected a profile with the diagnostic '{name}' (got none). "
            + (reasons or 'Ask for it when the profile is made.')
        )
    return found


def dig(data: Any, *path: Any) -> Any:
    """What lies at a path of keys, ``None`` if any of them is missing."""
    for key in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    return data


def values(data: Any, *path: Any) -> list[Any]:
    """The list at a path of keys, empty if there is none."""
    return list(dig(data, *path) or ())


def flat(rows: Any) -> list[Any]:
    """All values of rows that may differ in length."""
    return [value for row in rows or () for value in row or ()]


def by_layer(rows: Any) -> list[float | None]:
    """One value per layer: the mean over its heads."""
    means = []
    for row in rows or ():
        there = [value for value in row or () if value is not None]
        means.append(sum(there) / len(there) if there else None)
    return means


_BEFORE = 'before layer '


def shown_state(states: Sequence[Any], place: int) -> str:
    """The name of a state of the residual stream."""
    if place < len(states) and states[place] is not None:
        return str(states[place])
    return str(place)


def short_states(states: Sequence[Any]) -> list[str] | None:
    """Names of states for an axis, ``None`` if they are too long for it."""
    names = [str(state).removeprefix(_BEFORE) for state in states]
    if len(names) > 1 and all(name.isdigit() for name in names[:-1]):
        names[-1] = 'out'
    return names if names and max(map(len, names)) <= 4 else None


def after_state(states: Sequence[Any], place: int) -> str:
    """What lies between a state and the next."""
    name = shown_state(states, place)
    if name.startswith(_BEFORE):
        return f'in layer {name.removeprefix(_BEFORE)}'
    return f'after state {name}'
