import pytest

from gnnbridge.datasets.text import python_corpus, sample_text


def telling_lines(text: bytes) -> set[str]:
    lines = {line.strip() for line in text.decode().split('\n')}
    return {line for line in lines if len(line) >= 20}


def test_splits_share_no_telling_line():
    train, held_out = python_corpus('train'), python_corpus('held_out')
    assert not telling_lines(train.text) & telling_lines(held_out.text)
    # Both kinds of text are on both sides, and enough of each to measure on.
    assert len(train.topics) > 300_000
    assert len(train.docstrings) > 800_000
    assert len(held_out.topics) > 10_000
    assert len(held_out.docstrings) > 50_000


def test_corpus_is_fixed():
    train = python_corpus()
    assert train is python_corpus('train')
    assert len(train.sha256) == 64
    assert train.sha256 != python_corpus('held_out').sha256
    assert train.text.startswith(train.topics[:100])


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"'train' or 'held_out' \(got 'x'\)"):
        python_corpus('x')


def test_sample_is_prose_that_is_in_neither_split():
    sample = sample_text()
    assert 600 <= len(sample) <= 900
    assert sample.isascii()
    everything = python_corpus('train').text + python_corpus('held_out').text
    for line in telling_lines(sample.encode()):
        assert line.encode() not in everything
