"""What has been measured, in a file that survives being killed.

A process writes what it has counted and which units of work that is from,
always together and in one file that replaces the last one at once. Whenever
it is killed, the file says the truth: a unit is either counted and marked, or
neither.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gnnbridge.profiling.sampling import Samples, Tally

# Seconds of work that a killed process may have to do again, at most, beside
# the unit that it was at.
_PATIENCE = 2.0
_META = 'meta'

Part: TypeAlias = tuple[Tally, dict[str, str]]


class Ledger:
    """The units of work that a process has done, and what they gave.

    Args:
        directory: Where it is kept; if ``None`` it is not kept.
        fingerprint: Says what is measured of what. Another run in the same
            directory is refused.
        name: Tells processes apart, as ``'0'``.

    Raises:
        ValueError: If the directory holds a run of something else.
    """

    def __init__(
        self, directory: Path | None, fingerprint: str, name: str = '0'
    ) -> None:
        self.directory, self.fingerprint = directory, fingerprint
        self.name = name
        self.tally = Tally()
        self.done: dict[str, str] = {}
        self._saved_at = time.monotonic()
        self._dirty = False
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                self.tally, self.done = _read(self.path, fingerprint)

    @property
    def path(self) -> Path:
        """The file of this process."""
        assert self.directory is not None  # asked for only where it is kept
        return self.directory / f'part-{self.name}.npz'

    def parts(self) -> dict[str, Part]:
        """All parts in the directory by the names of their processes."""
        found = {self.name: (self.tally, self.done)}
        if self.directory is None:
            return found
        for path in sorted(self.directory.glob('part-*.npz')):
            name = path.stem.removeprefix('part-')
            if name != self.name:
                found[name] = _read(path, self.fingerprint)
        return found

    def add(
        self, key: str, digest: str, samples: Samples, reason: str = ''
    ) -> None:
        """Counts a unit in and marks it.

        Args:
            key: Its name.
            digest: Of what it was measured on.
            samples: What it gave.
            reason: Why it gave nothing, if so.
        """
        self.tally.add(samples)
        if reason:
            self.tally.reasons[key] = reason
        self.done[key] = digest
        self._dirty = True
        if time.monotonic() - self._saved_at > _PATIENCE:
            self.save()

    def save(self) -> None:
        """Writes the file anew; whoever reads meanwhile gets the old one."""
        self._saved_at = time.monotonic()
        if self.directory is None or not self._dirty:
            return
        meta = {
            'fingerprint': self.fingerprint,
            'done': self.done,
            'reasons': self.tally.reasons,
        }
        arrays: dict[str, Any] = {
            f'moments/{name}': value
            for name, value in self.tally.moments.items()
        }
        arrays[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        draft = self.path.with_suffix('.tmp')
        with draft.open('wb') as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.path)
        self._dirty = False


def discard(directory: Path) -> None:
    """Deletes the files of a run that is over, and their directory."""
    for path in directory.glob('part-*'):
        path.unlink(missing_ok=True)
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def known_units(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The units that several processes have done.

    Raises:
        ValueError: If one was done twice.
    """
    known: dict[str, str] = {}
    for part in parts:
        if twice := sorted(known.keys() & part.keys()):
            raise ValueError(
                f"Expected '{twice[0]}' to be measured once (got it from two "
                'processes). Start again in an empty directory.'
            )
        known |= part
    return known


def _read(path: Path, fingerprint: str) -> Part:
    with np.load(path) as file:
        meta = json.loads(bytes(file[_META]).decode())
        moments = {
            name.removeprefix('moments/'): file[name]
            for name in file.files
            if name != _META
        }
    if meta['fingerprint'] != fingerprint:
        raise ValueError(
            f"Expected '{path.parent}' to hold an unfinished run of the same "
            'model, text and settings (got one of others). Delete it, or '
            'write to another directory.'
        )
    return Tally(moments, meta['reasons']), meta['done']
