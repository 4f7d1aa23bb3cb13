import json
from typing import Any

from gnnbridge.report.explorer import explorer_data, most_sunk


def test_graphs_are_carried_whole_and_cannot_end_their_element(
    profile: dict[str, Any],
) -> None:
    token = '</script><!--<script>&amp;\u2028'
    profile['text']['tokens'][3] = token
    text = explorer_data([profile], ['<name>'])
    assert text is not None
    for sign in '<>&\u2028':
        assert sign not in text
    [panel] = json.loads(text)['panels']
    assert panel['name'] == '<name>'
    assert panel['tokens'][3] == token
    assert len(panel['tokens']) == panel['size'] == 40
    layer = profile['graphs']['layers'][2]
    assert panel['layers'][2]['source'] == layer['source']
    scores = profile['diagnostics']['sinks']['model']['sink_score'][2]
    assert panel['layers'][2]['scores'] == scores


def test_a_lone_surrogate_is_no_obstacle(profile: dict[str, Any]) -> None:
    profile['text']['tokens'][0] = '\ud800'
    text = explorer_data([profile], ['a'])
    assert text is not None
    assert '\\ud800' in text.encode('ascii').decode()


def test_profiles_without_graphs(
    profile: dict[str, Any], refused: dict[str, Any]
) -> None:
    assert explorer_data([refused], ['a']) is None
    text = explorer_data([refused, profile], ['a', 'b'])
    assert text is not None
    first, second = json.loads(text)['panels']
    assert (first['size'], first['layers']) == (0, [])
    assert second['size'] == 40
    del profile['diagnostics']['sinks']
    text = explorer_data([profile], ['a'])
    assert text is not None
    assert json.loads(text)['panels'][0]['layers'][0]['scores'] is None


def test_the_layer_with_the_strongest_sink_is_shown_first(
    profile: dict[str, Any], refused: dict[str, Any]
) -> None:
    for place, share in enumerate((0.2, 0.7, None)):
        profile['graphs']['layers'][place]['first_token_share'] = share
    assert most_sunk(profile) == 1
    assert most_sunk(refused) is None
