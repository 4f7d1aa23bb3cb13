"""What goes wrong, said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What a user can mend is one line on stderr and exit code 2."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        line = ' '.join(str(error).split()) or type(error).__name__
        typer.echo(f'gnnbridge: {line}', err=True)
        raise typer.Exit(2) from None


def check_out(out: Path) -> None:
    """Refuses a file in place of a directory."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(
            f"Expected '--out' to be a directory (got the file '{out}')."
        )
