from collections.abc import Callable
from typing import Any

from gnnbridge.report.squashing import squashing

MakeProfile = Callable[..., dict[str, Any]]


def test_hardest_position_is_named(make_profile: MakeProfile) -> None:
    profile = make_profile(tokens=4)
    profile['resistance']['last'] = [2.0, 9.0, 3.0, None]
    section = squashing(profile)
    assert section is not None
    assert (
        'position 1 is the hardest to reach (9.00; median 3.00)' in section.seen
    )
    assert 'cannot be reached' not in section.seen


def test_unreachable_positions_are_counted(make_profile: MakeProfile) -> None:
    profile = make_profile(tokens=4)
    profile['resistance']['last'] = [2.0, None, None, None]
    section = squashing(profile)
    assert section is not None
    assert '2 positions cannot be reached' in section.seen


def test_last_token_alone(make_profile: MakeProfile) -> None:
    profile = make_profile(tokens=3)
    profile['resistance'] = {
        'hops': 1.0,
        'last': [None] * 3,
        'mean': [None] * 3,
    }
    section = squashing(profile)
    assert section is not None
    assert 'reaches no other token' in section.seen
