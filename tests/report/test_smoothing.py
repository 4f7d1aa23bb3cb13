from collections.abc import Callable
from typing import Any

from gnnbridge.report.smoothing import smoothing

MakeProfile = Callable[..., dict[str, Any]]


def test_rank_is_given_with_the_largest_that_is_possible(
    make_profile: MakeProfile,
) -> None:
    profile = make_profile(layers=3, tokens=50)
    profile['measures']['effective_rank'] = [41.0, 20.0, 7.5]
    section = smoothing(profile)
    assert section is not None
    assert '41.0 (first layer) to 7.50 (last), of at most 50' in section.seen
    assert len(section.panels) == 4
