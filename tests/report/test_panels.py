from collections.abc import Callable
from typing import Any

from gnnbridge.report.panels import layer_panel, layer_values

MakeProfile = Callable[..., dict[str, Any]]


def test_layer_values_average_over_heads() -> None:
    assert layer_values([[1.0, 3.0], [None, 5.0], [None]]) == [2.0, 5.0, None]
    assert layer_values([0.5, None]) == [0.5, None]


def test_layer_panel_gives_all_means(make_profile: MakeProfile) -> None:
    profile = make_profile(layers=2)
    profile['measures']['mixing'] = [0.25, 0.75]
    profile['baseline']['measures']['mixing'] = [0.1, None]
    panel = layer_panel(profile, 'mixing', 'Mixing', 'share', null=('nil', 0.0))
    means = 'this model 0.500, re-initialised 0.100; nil: 0'
    assert means in panel.caption
    assert means in panel.alt
