import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.transforms.ranking import rank_within

PROPERTY = settings(deadline=None, max_examples=50, derandomize=True)
ENTRY = st.tuples(st.integers(0, 3), st.integers(0, 5))


@PROPERTY
@given(st.lists(ENTRY, max_size=30), st.booleans())
def test_ranks_are_those_of_sorting_each_group(
    entries: list[tuple[int, int]], noisy: bool
) -> None:
    group = np.array([g for g, _ in entries], dtype=np.int64)
    score = np.array([s for _, s in entries], dtype=np.float64)
    # Rounding that the tie rule does not see.
    noise = np.random.default_rng(0).uniform(-1e-12, 1e-12, score.size)
    rank = rank_within(score * (1 + noise) if noisy else score, group)
    for g in range(4):
        members = np.flatnonzero(group == g)
        order = sorted(members, key=lambda m: (score[m], m))
        assert [rank[m] for m in order] == list(range(len(order)))


def test_one_group_and_small_scores() -> None:
    # Relative differences count: 1e-12 and 2e-12 are not equal.
    score = np.array([2e-12, 1.0, 1e-12, -3.0, 1.0])
    assert rank_within(score).tolist() == [2, 3, 1, 0, 4]
    assert rank_within(-score).tolist() == [2, 0, 3, 4, 1]
