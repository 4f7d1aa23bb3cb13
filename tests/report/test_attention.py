from collections.abc import Callable
from typing import Any

from gnnbridge.report.attention import sinks, spread, token_graphs

MakeProfile = Callable[..., dict[str, Any]]


def test_graphs_of_a_deep_model_are_spread_over_its_layers(
    make_profile: MakeProfile,
) -> None:
    section = token_graphs(make_profile(layers=32, tokens=9))
    assert section is not None
    layers = [
        int(p.alt.split('layer ')[1].split(':')[0]) for p in section.panels
    ]
    assert len(layers) == 12
    assert layers[0] == 0
    assert layers[-1] == 31
    assert layers == sorted(set(layers))
    assert '12 of the 32 layers' in section.seen


def test_sinks_name_their_layer_and_their_null(
    make_profile: MakeProfile,
) -> None:
    profile = make_profile(layers=3, heads=2)
    profile['measures'].update(
        sink_score=[[0.1, 0.1], [0.9, 0.8], [0.4, 0.0]],
        sink_rate=[0.0, 1.0, 0.5],
    )
    section = sinks(profile)
    assert section is not None
    assert section.seen.startswith('50\u00a0% of all heads')
    assert 'the most in layer 1 (100\u00a0% of its heads)' in section.seen
    assert '0.0741 at T = 64' in section.null
    assert section.tables[0].rows[1][:4] == [
        '1',
        '100\u00a0%',
        '0.850',
        '0.900',
    ]


def test_sinks_without_any_name_no_layer(make_profile: MakeProfile) -> None:
    profile = make_profile(layers=2, heads=2)
    profile['measures'].update(
        sink_score=[[0.1, 0.1], [0.2, 0.1]], sink_rate=[0.0, 0.0]
    )
    section = sinks(profile)
    assert section is not None
    assert section.seen.startswith('No heads put more than 0.3')
    assert 'layer' not in section.seen


def test_spread_adds_the_mixing_up_to_hops(make_profile: MakeProfile) -> None:
    profile = make_profile(layers=2)
    profile['measures']['mixing'] = [0.25, 0.5]
    section = spread(profile)
    assert section is not None
    assert '0.75 hops' in section.seen
    assert 'uniform causal: 3.60' in section.panels[0].caption
