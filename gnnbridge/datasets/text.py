"""Text that every CPython carries: its manual pages and its docstrings.

Nothing is downloaded, so that a model can be trained and a benchmark can be
run on real prose wherever Python runs. The text differs between Python
versions: whoever reports a figure on it reports :attr:`Corpus.sha256` too.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.resources
import platform
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

# Not prose, not documentation, or gone from later versions of Python.
_SKIPPED = frozenset(
    {
        'site-packages', 'dist-packages', 'test', 'tests', 'idle_test',
        'lib2to3', 'distutils', 'idlelib', 'turtledemo', 'encodings',
        'ensurepip', 'pydoc_data', '__phello__',
    }
)  # fmt: skip
_SHORTEST_DOCSTRING = 80
# Shorter lines ("Raises:", "::") recur everywhere and give nothing away.
_SHORTEST_TELLING_LINE = 20
_HELD_OUT_SHARE = 10


@dataclass(frozen=True)
class Corpus:
    """One split of the text, UTF-8 encoded.

    Args:
        topics: The manual pages behind Python's ``help()``.
        docstrings: Docstrings of the standard library.
        python: The version of Python that the text was read from.
    """

    topics: bytes
    docstrings: bytes
    python: str

    @property
    def text(self) -> bytes:
        """All of it: topics first, then docstrings."""
        return self.topics + b'\n\n' + self.docstrings

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of :attr:`text`."""
        return hashlib.sha256(self.text).hexdigest()


def python_corpus(split: str = 'train') -> Corpus:
    r"""Returns the training or the held-out text of this Python.

    A document is a page of ``help()`` or the docstrings of one module of the
    standard library (those of at least 80 characters). It is held out when
    the first byte of the SHA-256 of its name is a multiple of ten. Of the
    held-out documents, every paragraph that shares a line of at least 20
    characters with the training text is dropped, since pages of the manual
    quote one another.

    Args:
        split: ``'train'`` or ``'held_out'``.

    Returns:
        The text; the same object on every call.

    Raises:
        ValueError: If ``split`` is neither of the two.
        FileNotFoundError: If this Python carries no sources.
    """
    if split not in ('train', 'held_out'):
        raise ValueError(
            f"Expected 'split' to be 'train' or 'held_out' (got '{split}')."
        )
    return _splits()[split]


def sample_text() -> str:
    """Returns a page of English prose that no model was trained on.

    It was written for this package and is part of neither split of
    :func:`python_corpus`.
    """
    file = importlib.resources.files('gnnbridge.datasets') / 'sample.txt'
    return file.read_text('utf8').strip()


def byte_windows(
    text: bytes, count: int, length: int, *, bos: int, generator: Generator
) -> Tensor:
    """Draws pieces of a text as byte codes, each behind a first token.

    Args:
        text: The text, longer than a piece.
        count: The number of pieces.
        length: The number of tokens of each, the first token included.
        bos: The first token.
        generator: Source of chance.

    Returns:
        Token ids ``[count, length]`` int64.

    Raises:
        ValueError: If the text is too short.
    """
    if len(text) <= length:
        raise ValueError(
            f'Expected a text of more than {length} bytes (got {len(text)}).'
        )
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    start = torch.randint(len(codes) - length, (count, 1), generator=generator)
    pieces = codes[start + torch.arange(length - 1)]
    return torch.nn.functional.pad(pieces, (1, 0), value=bos)


@functools.lru_cache(maxsize=1)
def _splits() -> Mapping[str, Corpus]:
    topics, docstrings = _topics(), dict(_docstrings())
    if not docstrings:
        raise FileNotFoundError(
            'Expected the sources of the standard library in '
            f"'{_library_root()}' (found none). Use a Python that is "
            'installed with its .py files.'
        )
    train = {
        name: page
        for name, page in {**topics, **docstrings}.items()
        if not _is_held_out(name)
    }
    known = frozenset(
        line for page in train.values() for line in _telling_lines(page)
    )
    held_out = {
        name: _without(page, known)
        for name, page in {**topics, **docstrings}.items()
        if _is_held_out(name)
    }
    return {
        'train': _corpus(train, topics),
        'held_out': _corpus(held_out, topics),
    }


def _corpus(pages: Mapping[str, str], topics: Mapping[str, str]) -> Corpus:
    def joined(wanted: bool) -> bytes:
        chosen = [p for n, p in pages.items() if p and (n in topics) == wanted]
        return '\n\n'.join(chosen).encode()

    return Corpus(joined(True), joined(False), platform.python_version())


def _is_held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % _HELD_OUT_SHARE == 0


def _telling_lines(page: str) -> Iterator[str]:
    for line in page.split('\n'):
        if len(line.strip()) >= _SHORTEST_TELLING_LINE:
            yield line.strip()


def _without(page: str, known: frozenset[str]) -> str:
    paragraphs = page.split('\n\n')
    return '\n\n'.join(
        p for p in paragraphs if not known.intersection(_telling_lines(p))
    )


def _topics() -> dict[str, str]:
    pages = importlib.import_module('pydoc_data.topics').topics
    return {f'topic:{n}': page.strip() for n, page in sorted(pages.items())}


def _library_root() -> Path:
    return Path(sysconfig.get_paths()['stdlib'])


def _docstrings() -> Iterator[tuple[str, str]]:
    root = _library_root()
    for file in sorted(root.rglob('*.py')):
        path = file.relative_to(root)
        if _SKIPPED.isdisjoint(path.parts):
            page = '\n\n'.join(_docstrings_of(file))
            if page:
                yield f'docstrings:{path.as_posix()}', page


def _docstrings_of(file: Path) -> Iterator[str]:
    with_docstring = (
        ast.Module,
        ast.ClassDef,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
    )
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, with_docstring):
            text = ast.get_docstring(node)
            if text and len(text) >= _SHORTEST_DOCSTRING:
                yield text
