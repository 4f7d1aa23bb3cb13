import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.datasets.copying import (
    BigramBackcopy,
    bigram_table,
    most_frequent_letters,
)

TEXT = b'the cat sat on the mat; the rat ate the tart that the cat left.'


def test_bigram_table_counts_pairs():
    table = bigram_table(TEXT)
    pairs = Counter(itertools.pairwise(TEXT))
    firsts = Counter(TEXT[:-1])
    for (a, b), count in pairs.items():
        assert float(table[a, b]) == pytest.approx(count / firsts[a], rel=1e-12)
    # Rounding of a sum of 256 terms.
    assert torch.allclose(table.sum(1), torch.ones(256).double(), atol=1e-12)
    singles = torch.bincount(torch.tensor(list(TEXT)), minlength=256)
    unseen = table[ord('Z')]
    assert torch.allclose(unseen, singles.double() / len(TEXT), atol=1e-12)


def test_bigram_table_needs_a_pair():
    with pytest.raises(ValueError, match='two bytes'):
        bigram_table(b'a')


def test_most_frequent_letters():
    assert most_frequent_letters(TEXT) == (ord('t'), ord('a'), ord('e'))
    assert most_frequent_letters(b'ba  ..') == (ord('a'), ord('b'), ord('A'))


@given(seed=st.integers(0, 2**31), length=st.integers(1, 41))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_backcopy_rule_holds_token_by_token(seed, length):
    stream = BigramBackcopy(bigram_table(TEXT), (ord('t'), ord('a')), bos=256)
    generator = torch.Generator().manual_seed(seed)
    ids = stream.draw(3, length, generator=generator)
    copies = stream.copies(ids)
    assert ids.shape == (3, length)
    for row, copied in zip(ids.tolist(), copies.tolist(), strict=True):
        assert row[0] == 256
        assert not any(copied[:2])
        for t in range(2, length):
            by_rule = row[t - 1] in b'ta' and row[t - 2] != 256
            assert copied[t] == by_rule
            if by_rule:
                assert row[t] == row[t - 2]
            else:
                assert stream.table[row[t - 1], row[t]] > 0


def test_trigger_behind_bos_copies_nothing():
    everything = tuple(range(256))
    stream = BigramBackcopy(bigram_table(TEXT), everything, bos=256)
    ids = stream.draw(5, 9, generator=torch.Generator().manual_seed(0))
    assert int(ids[:, 1:].max()) < 256
    assert not stream.copies(ids)[:, :3].any()
    assert stream.copies(ids)[:, 3:].all()


def test_draws_follow_the_table():
    stream = BigramBackcopy(bigram_table(TEXT), (), bos=256)
    ids = stream.draw(400, 41, generator=torch.Generator().manual_seed(0))
    before, after = ids[:, 1:-1].flatten(), ids[:, 2:].flatten()
    space = after[before == ord(' ')]
    share = torch.bincount(space, minlength=256) / len(space)
    # About 3000 spaces: standard errors below 0.0092, five of them.
    assert len(space) > 2500
    assert (share - stream.table[ord(' ')]).abs().max() < 0.046
