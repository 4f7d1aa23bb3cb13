"""What each section says, in the numbers of the profile."""

from typing import Any

import pytest

from gnnbridge.report.html import SECTIONS
from gnnbridge.report.reading import TITLES, Part, measured, part
from gnnbridge.report.section import Section, percent
from gnnbridge.report.sections.wanted import (
    drawn,
    from_to,
    least_and_most,
)
from gnnbridge.report.sections.wanted import (
    refused as refused_section,
)


def build(profile: dict[str, Any], name: str) -> Section:
    return SECTIONS[name](profile, measured(profile, name))


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have their own tests, and take their time."""

    def none(profile: object, part: Part, wanted: list) -> list:
        return [item for item in wanted if item.needs]

    for name in SECTIONS:
        monkeypatch.setattr(f'gnnbridge.report.sections.{name}.drawn', none)


@pytest.mark.parametrize('name', SECTIONS)
def test_sections_speak_of_what_is_seen_meant_and_compared(
    name: str, profile: dict[str, Any], tiny: dict[str, Any]
) -> None:
    for data in (profile, tiny):
        section = build(data, name)
        assert (section.anchor, section.title) == (name, TITLES[name])
        assert section.meaning == data['diagnostics'][name]['meaning']
        for text in (section.seen, section.compare):
            assert text.endswith('.')
            assert 'None' not in text
        for table in section.tables:
            assert table.rows
            assert {len(row) for row in table.rows} == {len(table.columns)}
    assert 're-initialised' in build(profile, name).compare.lower()


@pytest.mark.parametrize('name', SECTIONS)
def test_sections_without_a_baseline_say_nothing_of_it(
    name: str, profile: dict[str, Any]
) -> None:
    profile['diagnostics'][name]['baseline'] = None
    section = build(profile, name)
    assert 're-initialised' not in section.compare.lower()
    for table in section.tables:
        assert not any('re-initialised' in column for column in table.columns)


@pytest.mark.parametrize('name', SECTIONS)
def test_sections_of_nothing_are_drawn_all_the_same(
    name: str, profile: dict[str, Any]
) -> None:
    section = profile['diagnostics'][name]
    for side in ('model', 'baseline'):
        section[side] = dict.fromkeys(section[side])
    section['null'] = {}
    assert 'None' not in build(profile, name).seen


def test_sinks_name_share_and_layer(profile: dict[str, Any]) -> None:
    model = profile['diagnostics']['sinks']['model']
    model.update(
        sink_rate=[0.0, 1.0, 0.5], sink_score=[[0.1] * 4, [0.9] * 4, [0.5] * 4]
    )
    section = build(profile, 'sinks')
    assert section.seen.startswith('50\u00a0% of all heads')
    assert 'most in layer 1.' in section.seen
    assert 'scores 0.0741, with 3.60 nats' in section.compare
    row = section.tables[0].rows[1]
    assert [row[0], row[1], row[5], row[6]] == [
        '1',
        '100\u00a0%',
        '0.900',
        '0.900',
    ]


def test_smoothing_gives_why_parts_were_not_taken_out(
    refused: dict[str, Any],
) -> None:
    section = build(refused, 'smoothing')
    assert section.status == 'partly'
    assert list(section.reasons) == [
        'Parts of a hybrid block cannot be taken out.'
    ]


def test_squashing_names_positions_and_proxies(
    profile: dict[str, Any],
) -> None:
    model = profile['diagnostics']['squashing']['model']
    curve = [1.0] * 40
    curve[20:24] = [0.01] * 4
    model['jacobian_last'] = curve
    model['resistance']['last'] = [1.0, 9.0, None]
    model['proxies']['conductance']['all'] = 0.99
    section = build(profile, 'squashing')
    # Of 39 positions the sixth tenth begins at the twentieth.
    assert 'depends least on positions 20–22' in section.seen
    assert 'position 1 is the hardest to reach (9.00' in section.seen
    proxies, bounds, reach = section.tables
    assert [row[0] for row in proxies.rows][:2] == ['conductance', 'rollout']
    assert len(proxies.rows) == len(model['proxies'])
    assert bounds.rows[0][:3] == ['theorem C/D, layered T', 'proved', '1.40']
    assert reach.rows[0] == ['layers', '3', '3']


def test_collapse_says_from_where_precision_ends(
    profile: dict[str, Any],
) -> None:
    section = build(profile, 'collapse')
    assert 'to bfloat16 they are equal from 128 tokens' in section.seen
    assert 'bfloat16 tells the two apart at every length' in section.seen
    rows = {tuple(row[:2]): row[2:] for row in section.tables[0].rows}
    row = rows['last token repeated, bfloat16', 'this model']
    assert row[0] == '−0.970'
    assert row[-1] == '128'


def test_runway_gives_gaps_and_asymmetries(profile: dict[str, Any]) -> None:
    section = build(profile, 'runway')
    influences, pairs = section.tables
    assert influences.rows[0][:3] == ['Jacobian', '1.60', '38']
    assert pairs.rows[0] == ['first over last', '0.72', '0.014']
    assert percent(0.97) in pairs.caption


def test_retrieval_gives_controls_and_lengths(profile: dict[str, Any]) -> None:
    section = build(profile, 'retrieval')
    places, lengths = section.tables
    assert [row[:2] for row in places.rows] == [
        ['Key-value retrieval', 'this model'],
        ['Key-value retrieval', 're-initialised'],
        ['Needle in a text', 'this model'],
        ['Needle in a text', 're-initialised'],
    ]
    assert lengths.rows[1] == [
        'copying the last item', '8 to 128', '100\u00a0%', '33\u00a0%',
    ]  # fmt: skip


def test_refused_sections_keep_their_reasons(refused: dict[str, Any]) -> None:
    found = part(refused, 'squashing')
    assert found is not None
    section = refused_section(found)
    assert section.status == 'refused'
    assert 'hybrid model' in section.reasons[0]
    assert section.meaning
    assert not section.panels


def test_captions_say_where_curves_begin_and_end(
    profile: dict[str, Any],
) -> None:
    found = measured(profile, 'smoothing')
    assert from_to(found, 'effective_rank', null=1.0) == (
        'From first to last: this model 48.0 to 7.55; re-initialised 48.0 to '
        '36.2; collapsed 1.00.'
    )
    found.model['mixing'][:] = [0.5, None, 0.5]
    assert least_and_most(found, 'mixing').startswith(
        'Range: this model 0.500; '
    )


def test_panels_are_drawn_where_their_data_are(
    profile: dict[str, Any],
) -> None:
    # The one that the fixture above does not replace.
    from gnnbridge.report.figures import plot_mixing
    from gnnbridge.report.sections.wanted import Wanted

    found = measured(profile, 'smoothing')
    wanted = [
        Wanted(('mixing',), plot_mixing, 'c'),
        Wanted(('ablations', 'nothing'), plot_mixing, 'c'),
        Wanted(('ablation_reason',), plot_mixing, 'c'),
    ]
    assert [p.title for p in drawn(profile, found, wanted)] == ['Mixing']
