import pytest
import torch

from gnnbridge.datasets.text import byte_windows, python_corpus, sample_text


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


def test_windows_are_pieces_of_the_text_behind_bos():
    text = bytes(range(100, 120))
    ids = byte_windows(
        text, 50, 7, bos=256, generator=torch.Generator().manual_seed(0)
    )
    assert ids.shape == (50, 7)
    for first, *piece in ids.tolist():
        assert first == 256
        assert bytes(piece) in text
    # Pieces from all over: 50 draws of 13 starts.
    assert len({row[1] for row in ids.tolist()}) > 9


def test_windows_need_a_longer_text():
    with pytest.raises(ValueError, match=r'more than 7 bytes \(got 7\)'):
        byte_windows(b'seven..', 1, 7, bos=256, generator=torch.Generator())
