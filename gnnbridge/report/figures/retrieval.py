"""Figures of retrieval, copying and counting."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import dig, measured, values

TASKS = {
    'key_value': ('Key-value retrieval', 'places', 'place of the binding'),
    'needle': ('Needle in a text', 'depths', 'depth of the needle'),
}
LENGTHS = {
    'copying': ('Copying', {'first': 'first item', 'last': 'last item'}),
    'counting': ('Counting', {'accuracy': 'right counts'}),
}


@in_house_style
def plot_retrieval(
    profile: Any, task: str = 'key_value', ax: Axes | None = None
) -> Axes:
    """Draws accuracy by place, beside the answers for an absent key.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        task: ``'key_value'`` or ``'needle'``.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the task is not in the profile.
    """
    part = measured(profile, 'retrieval')
    found = dig(part.model, task)
    if task not in TASKS or not found:
        raise ValueError(
            f"Expected 'task' to be one of {', '.join(TASKS)}, and in the "
            f"profile (got '{task}')."
        )
    title, places, x_label = TASKS[task]
    x = values(found, places)
    lines = [
        Line(
            'accuracy',
            values(found, 'accuracy'),
            'model',
            x,
            values(found, 'standard_error') or None,
        ),
        Line('named for an absent key', values(found, 'absent'), 2, x),
        Line('accuracy less absent', values(found, 'corrected'), 3, x),
    ]
    if again := values(part.baseline, task, 'accuracy'):
        lines.append(
            Line('accuracy, re-initialised', again, 'reinitialised', x)
        )
    frame = _frame(title, x_label, 'share of the questions', found)
    axes = draw_lines(axes_or_new(ax), lines, frame)
    low, _ = axes.get_ylim()
    axes.set_ylim(min(low, -0.03), 1.03)
    return axes


def _frame(title: str, x_label: str, y_label: str, found: Any) -> Frame:
    chance = dig(found, 'chance')
    return Frame(
        title, x_label, y_label,
        level=None if chance is None else (chance, 'a guess'),
    )  # fmt: skip


@in_house_style
def plot_margin(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws by how much the right answer of a needle leads, by its depth."""
    part = measured(profile, 'retrieval')
    lines = [
        Line(label, ys, look, values(part.model, 'needle', 'depths'))
        for label, look, side in part.sides
        if (ys := values(side, 'needle', 'margin'))
    ]
    frame = Frame(
        'Lead of the right answer', 'depth of the needle', 'nats',
        level=(0.0, 'no lead'),
    )  # fmt: skip
    return draw_lines(axes_or_new(ax), lines, frame)


@in_house_style
def plot_by_length(
    profile: Any, task: str = 'copying', ax: Axes | None = None
) -> Axes:
    """Draws accuracy over the length of what is copied or counted.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        task: ``'copying'`` or ``'counting'``.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the task is not in the profile.
    """
    part = measured(profile, 'retrieval')
    found = dig(part.model, task)
    if task not in LENGTHS or not found:
        raise ValueError(
            f"Expected 'task' to be one of {', '.join(LENGTHS)}, and in the "
            f"profile (got '{task}')."
        )
    title, names = LENGTHS[task]
    x = values(found, 'lengths')
    lines = [
        Line(label, values(found, name), 3 * place, x)
        for place, (name, label) in enumerate(names.items())
    ]
    for name, label in names.items():
        if again := values(part.baseline, task, name):
            again_label = f'{label}, re-initialised'
            lines.append(Line(again_label, again, 'reinitialised', x))
            break
    axes = draw_lines(
        axes_or_new(ax), lines, _frame(title, 'length', 'accuracy', found)
    )
    axes.set_ylim(-0.03, 1.03)
    return axes
