"""The section on retrieval, copying and counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnnbridge.report.extracts import chance_of, total_accuracy
from gnnbridge.report.figures.retrieval import (
    TASKS,
    plot_by_length,
    plot_margin,
    plot_retrieval,
)
from gnnbridge.report.reading import TITLES, Part, dig, values
from gnnbridge.report.section import (
    Section,
    Table,
    last,
    mean,
    numeral,
    percent,
    whole,
)
from gnnbridge.report.sections.wanted import Wanted, drawn


def retrieval(profile: Mapping[str, Any], part: Part) -> Section:
    """Accuracy by place with its control, copying and counting by length."""
    chance = chance_of('key_value', part.model, part.null)
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        seen=_seen(part),
        compare=(
            f'A guess is right in {percent(chance)}. The value of each place '
            'is named for absent keys as well: only what exceeds that is '
            f'retrieval.{_again(part)}'
        ),
        status=part.status,
        reasons=part.reasons,
        panels=drawn(profile, part, _panels(part)),
        tables=[table for table in (_by_place(part), _by_length(part))
                if table.rows],
    )  # fmt: skip


def _seen(part: Part) -> str:
    parts = []
    found = dig(part.model, 'key_value')
    if found:
        parts.append(
            f'{percent(total_accuracy(part.model))} of the '
            f'{found.get("questions")} key-value questions '
            f'({found.get("task")}) are answered; the ends are better than '
            'the middle by '
            f'{numeral(found.get("u_depth"), 2)}.'
        )
    needle = dig(part.model, 'needle')
    if needle:
        parts.append(
            f'A needle in {whole(needle.get("tokens"))} tokens is found in '
            f'{percent(mean(values(needle, "accuracy")))}.'
        )
    if copied := values(part.model, 'copying', 'last'):
        lengths = values(part.model, 'copying', 'lengths')
        parts.append(
            f'The last of {whole(last(lengths))} items is copied in '
            f'{percent(copied[-1])}.'
        )
    return ' '.join(parts)


def _again(part: Part) -> str:
    again = total_accuracy(part.baseline)
    if again is None:
        return ''
    return f' Re-initialised weights answer {percent(again)}.'


def _panels(part: Part) -> list[Wanted]:
    return [
        *(
            Wanted(
                (task,),
                plot_retrieval,
                _shape(dig(part.model, task)),
                {'task': task},
            )
            for task in TASKS
        ),
        Wanted(
            ('needle', 'margin'),
            plot_margin,
            'Log probability of the right answer less that of the best wrong '
            'one, mean over questions.',
        ),
        *(
            Wanted(
                (task,),
                plot_by_length,
                f'Right in the longest: {_longest(part, task)}.',
                {'task': task},
            )
            for task in ('copying', 'counting')
        ),
    ]


def _shape(found: Any) -> str:
    return (
        f'Depth of the U {numeral(dig(found, "u_depth"), 2)}, slopes '
        f'{numeral(dig(found, "primacy_slope"), 2)} (first half) and '
        f'{numeral(dig(found, "recency_slope"), 2)} (second half), all with '
        'the answers for absent keys taken off.'
    )


def _longest(part: Part, task: str) -> str:
    name = 'last' if task == 'copying' else 'accuracy'
    return ', '.join(
        f'{label} {percent(curve[-1])}'
        for label, _, side in part.sides
        if (curve := values(side, task, name))
    )


def _by_place(part: Part) -> Table:
    rows = []
    for task, (name, _, _) in TASKS.items():
        for label, _, side in part.sides:
            found = dig(side, task)
            if not found:
                continue
            rows.append(
                [
                    name,
                    label,
                    percent(mean(values(found, 'accuracy'))),
                    percent(mean(values(found, 'absent'))),
                    numeral(found.get('u_depth'), 2),
                    numeral(found.get('primacy_slope'), 2),
                    numeral(found.get('recency_slope'), 2),
                ]
            )
    return Table(
        ['task', 'weights', 'accuracy', 'absent key', 'U', 'primacy',
         'recency'],
        rows,
        'Means over places; the U and its slopes are of accuracy less what is '
        'named for an absent key.',
    )  # fmt: skip


def _by_length(part: Part) -> Table:
    rows = []
    for task, name, label in (
        ('copying', 'first', 'copying the first item'),
        ('copying', 'last', 'copying the last item'),
        ('counting', 'accuracy', 'counting'),
        ('counting', 'mean_error', 'counting, mean error'),
    ):
        lengths = values(part.model, task, 'lengths')
        curve = values(part.model, task, name)
        if not curve or not lengths:
            continue
        write = numeral if name == 'mean_error' else percent
        rows.append(
            [
                label,
                f'{lengths[0]} to {lengths[-1]}',
                write(curve[0]),
                write(curve[-1]),
            ]
        )
    return Table(
        ['task', 'lengths', 'shortest', 'longest'],
        rows,
        'From the shortest to the longest list.',
    )
