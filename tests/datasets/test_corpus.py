import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gnnbridge.datasets.corpus import (
    count_documents,
    describe_source,
    documents,
    read_text,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / 'b.txt').write_text('second')
    (tmp_path / 'a.md').write_text('first')
    (tmp_path / 'empty.txt').write_text(' \n')
    (tmp_path / 'picture.png').write_bytes(b'\x89PNG\0\xff')
    deep = tmp_path / 'deep'
    deep.mkdir()
    lines = [{'text': 'third', 'id': 1}, {'text': ''}, {'text': 'fourth'}]
    content = '\n\n'.join(json.dumps(line) for line in lines)
    (deep / 'c.jsonl').write_text(content + '\n')
    return tmp_path


def test_a_text_is_one_document_even_if_it_looks_like_a_path() -> None:
    assert list(documents('README.md')) == ['README.md']
    assert count_documents('README.md') == 1


def test_a_directory_is_read_in_the_order_of_names(folder: Path) -> None:
    found = list(documents(folder))
    assert found == ['first', 'second', 'third', 'fourth']
    # Empty documents are known to be empty only when they are read.
    assert count_documents(folder) == 6


def test_a_file_is_one_document_or_one_a_line(folder: Path) -> None:
    assert list(documents(folder / 'a.md')) == ['first']
    assert list(documents(folder / 'deep' / 'c.jsonl')) == ['third', 'fourth']
    assert count_documents(folder / 'deep' / 'c.jsonl') == 3
    assert describe_source(folder / 'a.md') == 'a.md'


def test_an_iterable_of_texts_and_of_mappings() -> None:
    items = ['one', {'body': 'two', 'text': 'no'}, '  ']
    assert list(documents(items, field='body')) == ['one', 'two']
    assert count_documents(items) == 3


def test_a_stream_is_read_as_far_as_it_is_asked_for() -> None:
    taken: list[int] = []

    def stream() -> Iterator[str]:
        for number in range(10):
            taken.append(number)
            yield f'text {number}'

    found = documents(stream())
    assert next(found) == 'text 0'
    assert taken == [0]
    assert count_documents(stream()) is None


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'{"text": "a"}\n{"text"', r'JSON in line 2 .*column'),
        (b'{"body": "a"}', "field 'text'.*fields body"),
        (b'{"text": 3}', "field 'text'"),
        (b'{"text": "\xff"}', 'byte 0xff'),
    ],
)
def test_lines_that_cannot_be_read(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / 'x.jsonl'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        list(documents(path))


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='got nothing'):
        list(documents(tmp_path / 'none'))
    with pytest.raises(FileNotFoundError, match=r'files of \.txt'):
        list(documents(tmp_path))
    with pytest.raises(FileNotFoundError, match='with text in it'):
        list(documents(['', ' ']))
    with pytest.raises(TypeError, match="got 'int'"):
        list(documents(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got 'int'"):
        list(documents([3]))  # type: ignore[list-item]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    empty, binary = tmp_path / 'a.txt', tmp_path / 'b.txt'
    empty.write_text('\n')
    binary.write_bytes(b'GIF\0')
    with pytest.raises(ValueError, match='an empty file'):
        read_text(empty)
    with pytest.raises(ValueError, match='an empty file'):
        list(documents(empty))
    with pytest.raises(ValueError, match='a binary file'):
        read_text(binary)
    with pytest.raises(FileNotFoundError, match='a directory'):
        read_text(tmp_path)
