from typing import Any

from gnnbridge.report.figures import (
    plot_head_kinds,
    plot_jacobian,
    plot_runway,
    plot_sinks,
)
from gnnbridge.report.panels import panel


def test_title_unit_and_legend_leave_the_figure(
    profile: dict[str, Any],
) -> None:
    made = panel(plot_jacobian, profile, 'What it shows.')
    assert made.title == 'Sensitivity of the last token'
    assert made.unit == 'Jacobian norm'
    assert [(key.label, key.color, key.dash) for key in made.legend] == [
        ('this model', 'blue', ''),
        ('re-initialised', 'vermilion', '5 3'),
        ('uniform causal', 'ink', '1.5 2.5'),
    ]
    for gone in (made.title, made.unit, 'this model'):
        assert f'>{gone}</text>' not in made.image
    assert 'aria-label="Sensitivity of the last token. What it shows."' in (
        made.image
    )


def test_one_line_needs_no_legend(profile: dict[str, Any]) -> None:
    assert panel(plot_runway, profile, 'c').legend == []


def test_maps_keep_their_labels(profile: dict[str, Any]) -> None:
    made = panel(plot_sinks, profile, 'c', quantity='entropy')
    assert made.unit == ''
    assert '>layer</text>' in made.image
    assert '>nats</text>' in made.image


def test_bars_have_patches_in_their_legend(profile: dict[str, Any]) -> None:
    legend = panel(plot_head_kinds, profile, 'c').legend
    assert all(key.filled for key in legend)
    assert [key.color for key in legend] == ['rule', 'blue', 'amber', 'green']
