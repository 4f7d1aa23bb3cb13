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


_Model = Annotated[
    str | None,
    typer.Argument(
        help='A model directory or a name on the hub; by default the '
        'small decoder that ships with the package.',
        show_default=False,
    ),
]
_Text = Annotated[
    Path | None,
    typer.Option(
        help='A UTF-8 text file to read; by default a page that ships '
        'with the package.',
        show_default=False,
    ),
]
_MaxTokens = Annotated[
    int, typer.Option(min=2, help='How many tokens to read at most.')
]
_Device = Annotated[
    str, typer.Option(help="Where the model runs: 'cpu', 'cuda', ...")
]
_Out = Annotated[Path, typer.Option(help='The directory to write to.')]


@app.command()
def profile(
    model: _Model = None,
    text: _Text = None,
    out: _Out = Path('report'),
    max_tokens: _MaxTokens = 256,
    device: _Device = 'cpu',
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
        from gnnbridge.report.terminal import print_profile

        content = None if text is None else _read_text(text)
        _check_out(out)
        found = _profile(model, content, max_tokens, device, baseline)
        if text is not None:
            found.text['source'] = text.name
        paths = [
            found.to_json(out / 'profile.json'),
            found.to_html(out / 'report.html'),
        ]
    print_profile(found.to_dict(), found.summary(), paths)


@app.command()
def rewire(
    model: _Model = None,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            help='The pattern to rewire to, such as sinks, bigbird or '
            'top-k; may be repeated.',
            show_default='causal-resistance',
        ),
    ] = None,
    budget: Annotated[
        int, typer.Option(help='Edges per token, its self-loop included.')
    ] = 16,
    sinks: Annotated[
        int, typer.Option(help='First tokens that all later ones see.')
    ] = 1,
    hops: Annotated[
        float | None,
        typer.Option(
            help='Depth for which resistances are matched, or inf; by '
            'default what the model is measured to have.',
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help='Layers to rewire, as 0,2.', show_default='all'),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(help='Heads to rewire, as 0,2.', show_default='all'),
    ] = None,
    text: _Text = None,
    max_tokens: _MaxTokens = 256,
    pairs: Annotated[
        int, typer.Option(help='Bindings in a retrieval sequence.')
    ] = 16,
    questions: Annotated[
        int, typer.Option(help='How many keys are asked for.')
    ] = 256,
    seed: Annotated[int, typer.Option(help='Source of chance.')] = 0,
    device: _Device = 'cpu',
    out: _Out = Path('rewired'),
) -> None:
    """Measure a model before and after its attention was rewired.

    Writes rewire.json and rewire.png: the token graphs, their resistances,
    perplexity and key-value retrieval.
    """
    with _errors_in_one_line():
        from gnnbridge.profiling.rewiring import compare_rewiring
        from gnnbridge.profiling.rewiring_settings import RewiringSettings
        from gnnbridge.report.terminal import print_comparison
        from gnnbridge.transforms.patterns import PATTERNS

        names = dict.fromkeys(transform or ['causal-resistance'])
        if unknown := [name for name in names if name not in PATTERNS]:
            raise ValueError(
                f"Expected '--transform' to be one of {', '.join(PATTERNS)} "
                f'(got {", ".join(unknown)}).'
            )
        settings = RewiringSettings(
            budget=budget,
            sinks=sinks,
            hops=hops,
            layers=_numbers('--layers', layers),
            heads=_numbers('--heads', heads),
            max_tokens=max_tokens,
            pairs=pairs,
            questions=questions,
            seed=seed,
        )
        content = None if text is None else _read_text(text)
        _check_out(out)
        transforms = {name: name for name in names}
        found = compare_rewiring(
            *_load(model, device), transforms, content, settings=settings
        )
        if text is not None:
            found.text['source'] = text.name
        paths = [
            found.to_json(out / 'rewire.json'),
            found.figure(out / 'rewire.png'),
        ]
    print_comparison(found.to_dict(), paths)


def _numbers(option: str, given: str | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    try:
        return tuple(int(number) for number in given.split(','))
    except ValueError:
        raise ValueError(
            f"Expected '{option}' to be numbers with commas between them "
            f"(got '{given}')."
        ) from None


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
    from gnnbridge.report.terminal import print_models

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
    print_models(swept, table.rows(swept), table.counts(swept))
    if line := table.not_swept(swept):
        typer.echo(line, err=True)


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
    from gnnbridge.profiling.run import profile as run

    model, tokenizer = _load(name, device)
    options: dict[str, Any] = {'max_tokens': max_tokens, 'baseline': baseline}
    try:
        return run(model, tokenizer, text, **options)
    except NotImplementedError:
        # Where attention cannot be replaced it can be read; a note says so.
        convert(model, mode='mask')
        return run(model, tokenizer, text, **options)


def _load(name: str | None, device: str) -> tuple[Any, Any]:
    from gnnbridge.models.embedded import load_embedded
    from gnnbridge.models.loading import load_pretrained

    _check_device(device)
    if name is None:
        model, tokenizer = load_embedded()
        return model.to(device), tokenizer
    model, tokenizer = load_pretrained(name, device=device)
    if tokenizer is None:
        raise ValueError(
            f"Expected a tokenizer with the model '{name}' (got none). Save "
            'it into the same directory.'
        )
    return model, tokenizer


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(
            f"Expected '--out' to be a directory (got the file '{out}')."
        )


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
