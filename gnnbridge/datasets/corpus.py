"""Documents of a corpus: a text, a file, a directory, or any iterable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

Source: TypeAlias = str | Path | Iterable[str | Mapping[str, Any]]

_TEXT = ('.txt', '.md', '.rst')
_LINES = ('.jsonl', '.ndjson')


def documents(source: Source, *, field: str = 'text') -> Iterator[str]:
    """The documents of a corpus, one after the other.

    Nothing is held but the document that is read, of a text file all of it.

    Args:
        source: A text (``str``); the :class:`~pathlib.Path` of a UTF-8 text
            file, of a file of JSON lines (``.jsonl``, ``.ndjson``) or of a
            directory, whose text and JSON-lines files are read in the order
            of their names, those in subdirectories too; or an iterable of
            texts or of mappings, such as a dataset of ``datasets``.
        field: The field of mappings and JSON lines that holds the text.

    Yields:
        The texts; of text files one each. Empty ones are left out.

    Raises:
        FileNotFoundError: If there is no such path, or no document.
        TypeError: If an item is neither a text nor a mapping.
        ValueError: If a file is not UTF-8, a line is not JSON, or an item has
            no such field.
    """
    if isinstance(source, str):
        found: Iterator[str] = iter((source,))
    elif isinstance(source, Path):
        found = _of_path(source, field)
    elif isinstance(source, Iterable):
        found = (_text_of(item, field, 'the corpus') for item in source)
    else:
        raise TypeError(
            f'Expected a text, a path or an iterable of texts (got '
            f"'{type(source).__name__}')."
        )
    empty = True
    for text in found:
        if text.strip():
            empty = False
            yield text
    if empty:
        raise FileNotFoundError(
            f'Expected a corpus with text in it (got none in '
            f'{describe_source(source)}).'
        )


def describe_source(source: Source) -> str:
    """What a corpus is called in a report."""
    if isinstance(source, str):
        return 'the text given'
    if isinstance(source, Path):
        return source.name or str(source)
    return 'the corpus given'


def count_documents(source: Source) -> int | None:
    """How many documents there are at most; ``None`` for a stream."""
    if isinstance(source, str):
        return 1
    if isinstance(source, Path):
        files = _files(source) if source.is_dir() else [source]
        return sum(map(_count_in, files))
    return len(source) if isinstance(source, Sized) else None


def _count_in(file: Path) -> int:
    if file.suffix.lower() not in _LINES or not file.is_file():
        return 1
    with file.open('rb') as lines:
        return sum(1 for line in lines if line.strip())


def _files(directory: Path) -> list[Path]:
    return sorted(
        file
        for file in directory.rglob('*')
        if file.suffix.lower() in (*_TEXT, *_LINES) and file.is_file()
    )


def _of_path(path: Path, field: str) -> Iterator[str]:
    if path.is_dir():
        files = _files(path)
        if not files:
            raise FileNotFoundError(
                f'Expected files of {", ".join((*_TEXT, *_LINES))} in '
                f"'{path}' (got none)."
            )
        for file in files:
            yield from _of_file(file, field)
        return
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a text file or a directory at '{path}' (got nothing)."
        )
    if path.suffix.lower() not in _LINES:
        yield read_text(path)
        return
    yield from _of_file(path, field)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text, or an empty one.
    """
    if not path.is_file():
        kind = 'a directory' if path.is_dir() else 'nothing'
        raise FileNotFoundError(
            f"Expected a text file at '{path}' (got {kind})."
        )
    text = _decoded(path)
    if not text.strip():
        raise ValueError(f"Expected a text in '{path}' (got an empty file).")
    return text


def _decoded(path: Path) -> str:
    with _utf8(path):
        text = path.read_text(encoding='utf-8')
    if '\0' in text:
        raise ValueError(
            f"Expected UTF-8 text in '{path}' (got a binary file)."
        )
    return text


def _of_file(path: Path, field: str) -> Iterator[str]:
    if path.suffix.lower() not in _LINES:
        yield _decoded(path)
        return
    with _utf8(path), path.open(encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"line {number} of '{path}'"
                yield _text_of(_parsed(line, where), field, where)


@contextmanager
def _utf8(path: Path) -> Iterator[None]:
    """Says in which file a byte is wrong."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected UTF-8 text in '{path}' (got byte "
            f'0x{error.object[error.start]:02x} at {error.start}).'
        ) from None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f'Expected JSON in {where} (got {error.msg} at column '
            f'{error.colno}).'
        ) from None


def _text_of(item: Any, field: str, where: str) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, Mapping):
        raise TypeError(
            f'Expected texts or mappings in {where} (got '
            f"'{type(item).__name__}')."
        )
    text = item.get(field)
    if not isinstance(text, str):
        raise ValueError(
            f"Expected a text in the field '{field}' in {where} (got the "
            f'fields {", ".join(map(str, item))}). Name the field with the '
            f'text.'
        )
    return text
