"""A file of JSON lines that survives the death of its writer."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any


class RecordFile:
    """Records in a file, one on a line, each safe on disk once it is added.

    A last line that a killed run has left unfinished is cut off, with a
    warning; what it would have said has to be found out again. Lines in the
    middle that cannot be read are left as they are, with a warning.

    Args:
        path: The file; made, with its directory, if it is not there.

    Raises:
        IsADirectoryError: If the path is a directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.records: dict[str, dict[str, Any]] = {}
        lines = path.read_bytes().splitlines(keepends=True)
        whole = sum(map(len, lines))
        if lines and not lines[-1].endswith(b'\n'):
            whole -= len(lines.pop())
            os.truncate(path, whole)
            warnings.warn(
                f"The last line of '{path}' was unfinished. It is dropped, "
                f'and its trial is run again.',
                stacklevel=2,
            )
        for number, line in enumerate(lines, 1):
            self._read(number, line)

    def add(self, record: dict[str, Any]) -> None:
        """Writes a record, and waits until it is on disk.

        Args:
            record: It has a ``'key'``.

        Raises:
            ValueError: If a number in it is not finite.
        """
        line = json.dumps(record, allow_nan=False) + '\n'
        with self.path.open('ab') as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.records[record['key']] = record

    def _read(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            self.records[record['key']] = record
        except (ValueError, KeyError, TypeError):
            warnings.warn(
                f"Line {number} of '{self.path}' cannot be read. Its trial "
                f'is run again.',
                stacklevel=3,
            )
