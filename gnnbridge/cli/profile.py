"""``gnnbridge profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnbridge.cli.errors import check_out, errors_in_one_line
from gnnbridge.cli.loading import load
from gnnbridge.cli.options import Device, MaxTokens, Model, Out, Seed

if TYPE_CHECKING:
    from gnnbridge.profiling.result import Profile

_UNITS = {'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}


def profile(
    model: Model = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help='A UTF-8 text file, a file of JSON lines, or a directory of '
            'these; by default a page that ships with the package.',
            show_default=False,
        ),
    ] = None,
    out: Out = Path('report'),
    diagnostics: Annotated[
        str | None,
        typer.Option(
            help='Which to run, as sinks,retrieval: of sinks, smoothing, '
            'squashing, collapse, runway and retrieval.',
            show_default='all',
        ),
    ] = None,
    max_tokens: MaxTokens = 256,
    batch_size: Annotated[
        int, typer.Option(min=1, help='Sequences that run together.')
    ] = 8,
    max_sequences: Annotated[
        int | None,
        typer.Option(
            min=1, help='How many to read at most.', show_default='all'
        ),
    ] = None,
    split: Annotated[
        bool,
        typer.Option(
            '--split',
            help='Read long texts to their end, as several sequences.',
        ),
    ] = False,
    field: Annotated[
        str, typer.Option(help='The field of JSON lines with the text.')
    ] = 'text',
    baseline: Annotated[
        bool,
        typer.Option(
            '--baseline/--no-baseline',
            help='Measure re-initialised weights as well.',
        ),
    ] = True,
    seed: Seed = 0,
    rewire: Annotated[
        str | None,
        typer.Option(
            help='Also measure the model rewired to a pattern, such as sinks '
            'or bigbird, and set both side by side.',
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        int, typer.Option(min=1, help='Edges per token of that pattern.')
    ] = 16,
    device: Device = 'cpu',
    device_map: Annotated[
        str | None,
        typer.Option(
            help="Spread the model over devices, as transformers does: 'auto'.",
            show_default=False,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            help='What the run may take, as 8G.', show_default='what is free'
        ),
    ] = None,
) -> None:
    """Measure how a model fails as a graph, and write a report.

    Writes profile.json and report.html, one page that needs no network. A run
    that was killed goes on where it was when it is started again. Several
    processes share the work under torchrun.
    """
    with errors_in_one_line():
        from gnnbridge.profiling.processes import local_device, processes

        check_out(out)
        options: dict[str, Any] = {
            'max_tokens': max_tokens,
            'batch_size': batch_size,
            'max_sequences': max_sequences,
            'split': split,
            'baseline': baseline,
            'seed': seed,
        }
        if diagnostics is not None:
            options['diagnostics'] = tuple(diagnostics.split(','))
        given: dict[str, Any] = {
            'text': text,
            'field': field,
            'max_memory': None if max_memory is None else _bytes(max_memory),
            **options,
        }
        what = None
        if rewire is not None:
            what = _pattern(rewire, budget, max_tokens, seed)
        device = local_device(device)
        loaded = load(model, device, device_map)
        with processes(device) as group:
            found = {'before': _run(*loaded, out / '.unfinished', **given)}
            if rewire is not None:
                found[rewire] = _run(
                    *loaded,
                    out / '.unfinished-rewired',
                    **given,
                    rewiring=what,
                )
            if group.is_first:
                _write(found, out)


def _run(model: Any, tokenizer: Any, checkpoint: Path, **given: Any) -> Profile:
    from gnnbridge.models.convert import convert
    from gnnbridge.profiling.run import profile as run

    try:
        return run(model, tokenizer, checkpoint=checkpoint, **given)
    except NotImplementedError:
        # Where attention cannot be replaced it can be read; a note says so.
        convert(model, mode='mask')
        return run(model, tokenizer, checkpoint=checkpoint, **given)


def _write(found: dict[str, Profile], out: Path) -> None:
    """Writes and prints what was found; then nothing is unfinished."""
    from gnnbridge.profiling.ledger import discard
    from gnnbridge.profiling.result import write_comparison
    from gnnbridge.report.terminal import print_profile

    first, *others = found.values()
    paths = [
        first.to_json(out / 'profile.json'),
        first.to_html(out / 'report.html'),
    ]
    for name, other in zip(list(found)[1:], others, strict=True):
        paths += [
            other.to_json(out / f'profile-{name}.json'),
            write_comparison(
                [first, other], list(found), out / 'comparison.html'
            ),
        ]
    for directory in ('.unfinished', '.unfinished-rewired'):
        discard(out / directory)
    print_profile(first.to_dict(), paths)


def _pattern(name: str, budget: int, tokens: int, seed: int) -> Any:
    from gnnbridge.transforms.patterns import pattern

    return pattern(name, budget, tokens, seed=seed)


def _bytes(given: str) -> int:
    number = given.strip().upper().removesuffix('B').removesuffix('I')
    factor = _UNITS.get(number[-1:], 1)
    try:
        size = float(number.rstrip(''.join(_UNITS))) * factor
    except ValueError:
        size = 0
    if not size >= 1:
        raise ValueError(
            f"Expected '--max-memory' to be a size such as 8G (got '{given}')."
        )
    return int(size)
