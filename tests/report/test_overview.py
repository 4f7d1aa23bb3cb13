import re
from typing import Any

from gnnbridge.report.overview import counted, tiles, told, worst


def test_findings_of_the_profile_are_told_and_made_if_it_has_none(
    profile: dict[str, Any],
) -> None:
    made = told(profile)
    assert made
    profile['findings'] = made[:1]
    assert told(profile) == made[:1]


def test_tiles_have_the_worst_severity_of_their_diagnostic(
    profile: dict[str, Any],
) -> None:
    found = told(profile)
    by_name = {tile.anchor: tile for tile in tiles(profile)}
    assert len(by_name) == 6
    for name, tile in by_name.items():
        levels = {f['severity'] for f in found if f['diagnostic'] == name}
        assert tile.severity in levels
        if 'high' in levels:
            assert tile.severity == 'high'
        assert counted(found, name) == sum(
            f['diagnostic'] == name and f['severity'] != 'info' for f in found
        )
    assert worst(found, 'nothing') == ''


def test_the_scale_has_all_three_in_their_order(
    profile: dict[str, Any],
) -> None:
    tile = next(t for t in tiles(profile) if t.anchor == 'smoothing')
    model = float(re.findall(r'cx="([\d.]+)"', tile.scale)[0])
    base = float(re.findall(r'x="([\d.]+)" y', tile.scale)[0]) + 4
    null = float(re.findall(r'null" d="M([\d.]+)', tile.scale)[0])
    # Rank 1 when collapsed, 7.5 of this model, 36 re-initialised.
    assert null < model < base
    assert (tile.model, tile.null) == ('7.55', '1.00')


def test_tiles_of_refused_diagnostics_are_empty(
    refused: dict[str, Any],
) -> None:
    by_name = {tile.anchor: tile for tile in tiles(refused)}
    assert 'retrieval' not in by_name
    assert by_name['squashing'].status == 'refused'
    assert by_name['squashing'].scale == ''
    assert by_name['sinks'].baseline == '–'
    assert 'class="base"' not in by_name['sinks'].scale
