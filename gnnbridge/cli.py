"""The command line, ``gnnbridge`` or ``python -m gnnbridge``.

Heavy imports happen inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnbridge import __version__

if TYPE_CHECKING:
    from gnnbridge.profiling.result import Profile

app = typer.Typer(
    name='gnnbridge',
    help='A graph-theory bridge between PyTorch Geometric and attention.',
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line."""
    app(prog_name='gnnbridge')


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'gnnbridge {__version__}')
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            '--version',
            help='Print the version and exit.',
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


@app.command()
def profile(
    model: Annotated[
        str | None,
        typer.Argument(
            help='A model directory or a name on the hub; by default the '
            'small decoder that ships with the package.',
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help='A UTF-8 text file to read; by default a page that ships '
            'with the package.',
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help='The directory to write to.')
    ] = Path('report'),
    max_tokens: Annotated[
        int, typer.Option(min=2, help='How many tokens to read at most.')
    ] = 256,
    device: Annotated[
        str, typer.Option(help="Where the model runs: 'cpu', 'cuda', ...")
    ] = 'cpu',
    baseline: Annotated[
        bool,
        typer.Option(
            '--baseline/--no-baseline',
            help='Measure re-initialised weights as well.',
        ),
    ] = True,
) -> None:
    """Measure a model's attention graphs on a text and write a report.

    Writes profile.json and report.html, one page that needs no network.
    """
    with _errors_in_one_line():
        content = None if text is None else _read_text(text)
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(
                f"Expected '--out' to be a directory (got the file '{out}')."
            )
        found = _profile(model, content, max_tokens, device, baseline)
        if text is not None:
            found.text['source'] = text.name
        paths = [
            found.to_json(out / 'profile.json'),
            found.to_html(out / 'report.html'),
        ]
    _print_profile(found, paths)


@app.command()
def models(
    sweep: Annotated[
        bool,
        typer.Option(
            '--sweep',
            help='Build and convert every architecture of the installed '
            'transformers now (about a minute).',
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help='Show this architecture only; may be repeated.'),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help='Also write models.json and models.md to this directory.',
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show which of transformers' causal language models convert, and how.

    "messages" is message passing, "mask" dense attention on which graphs are
    imposed. Errors are those of tiny random models against their originals.
    """
    from gnnbridge.models.zoo import table
    from gnnbridge.models.zoo.sweep import sweep as run
    from gnnbridge.models.zoo.tiny import model_types

    with _errors_in_one_line():
        if unknown := sorted(set(only or ()) - set(model_types())):
            raise ValueError(
                f"Expected '--only' to name causal language models of "
                f'transformers (got {", ".join(unknown)}).'
            )
        swept = table.result(run(only or ())) if sweep else table.shipped()
        if only:
            swept['entries'] = [
                entry for entry in swept['entries']
                if entry['model_type'] in only
            ]  # fmt: skip
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(swept, indent=1) + '\n'
            (out / 'models.json').write_text(text, encoding='utf-8')
            (out / 'models.md').write_text(table.markdown(swept), 'utf-8')
    _print_models(swept, table.rows(swept), table.counts(swept))
    if line := table.not_swept(swept):
        typer.echo(line, err=True)


def _print_models(
    swept: dict[str, Any], rows: list[dict[str, str]], counts: dict[str, int]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    total = ', '.join(f'{n} {status}' for status, n in counts.items())
    grid = Table(
        title=f'causal language models of transformers {swept["transformers"]}',
        caption=f'{len(rows)} entries: {total}',
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in rows[0] if rows else ():
        grid.add_column(column)
    for row in rows:
        grid.add_row(*row.values())
    Console().print(grid)
    for entry in swept['entries']:
        if entry['status'] not in ('messages', 'mask') and len(rows) < 9:
            typer.echo(f'{entry["model_type"]}: {entry["reason"]}')


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """What a user can mend is one line on stderr and exit code 2."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        line = ' '.join(str(error).split()) or type(error).__name__
        typer.echo(f'gnnbridge: {line}', err=True)
        raise typer.Exit(2) from None


def _read_text(path: Path) -> str:
    if not path.is_file():
        kind = 'a directory' if path.is_dir() else 'nothing'
        raise FileNotFoundError(
            f"Expected a text file at '{path}' (got {kind})."
        )
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected UTF-8 text in '{path}' (got byte "
            f'0x{error.object[error.start]:02x} at {error.start}).'
        ) from None
    if '\0' in text:
        raise ValueError(
            f"Expected UTF-8 text in '{path}' (got a binary file)."
        )
    if not text.strip():
        raise ValueError(f"Expected a text in '{path}' (got an empty file).")
    return text


def _profile(
    name: str | None,
    text: str | None,
    max_tokens: int,
    device: str,
    baseline: bool,
) -> Profile:
    from gnnbridge.models.convert import convert
    from gnnbridge.models.embedded import load_embedded
    from gnnbridge.models.loading import load_pretrained
    from gnnbridge.profiling.run import profile as run

    _check_device(device)
    if name is None:
        model, tokenizer = load_embedded()
        model = model.to(device)
    else:
        model, tokenizer = load_pretrained(name, device=device)
    if tokenizer is None:
        raise ValueError(
            f"Expected a tokenizer with the model '{name}' (got none). Save "
            'it into the same directory.'
        )
    options: dict[str, Any] = {'max_tokens': max_tokens, 'baseline': baseline}
    try:
        return run(model, tokenizer, text, **options)
    except NotImplementedError:
        # Where attention cannot be replaced it can be read; a note says so.
        convert(model, mode='mask')
        return run(model, tokenizer, text, **options)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    # A build without a backend asserts, one without the device raises.
    except (AssertionError, ImportError, RuntimeError):
        raise ValueError(
            "Expected '--device' to name a device that is there "
            f"(got '{device}')."
        ) from None


def _print_profile(found: Profile, paths: list[Path]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = found.summary()
    table = Table(
        title=Text(f'{found.model["name"]} on {found.text["source"]}'),
        caption=None
        if found.baseline is None
        else 'in brackets: the same architecture with re-initialised weights',
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_lines=found.baseline is not None,
    )
    for column in rows[0]:
        table.add_column(column, justify='right')
    for row in rows:
        # The baseline under the value: eight columns fit into 80 characters.
        table.add_row(*(cell.replace(' (', '\n(') for cell in row.values()))
    console = Console()
    console.print(table)
    error = found.parity['relative_error']
    console.print(
        Text(
            f'Message passing gives the original {found.parity["outputs"]} '
            f'to {error:.1e} of their scale.'
        )
    )
    for note in found.notes:
        console.print(Text(note))
    for path in paths:
        # Never folded, so that it can be copied whole.
        console.print(Text(str(path)), soft_wrap=True)
