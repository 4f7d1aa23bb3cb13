"""``gnnbridge bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnbridge.cli.errors import check_out, errors_in_one_line
from gnnbridge.cli.loading import check_device
from gnnbridge.cli.options import Out

if TYPE_CHECKING:
    from gnnbridge.bench.suites import Suite
    from gnnbridge.bench.tables import Board


def bench(
    quick: Annotated[
        bool,
        typer.Option('--quick', help='The same as --suite quick: minutes.'),
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(
            help='What to run: quick, default (an hour on two cores) or full.',
            show_default='default',
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help='Which tasks, as csbm,key_value.',
            show_default='those of the suite',
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help='Which models, as gcn,gatv2.', show_default='all'),
    ] = None,
    rewirings: Annotated[
        str | None,
        typer.Option(
            help='Which rewirings, as fosr,laser, on every task; or none.',
            show_default='those of the suite',
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help='Trials per cell.', show_default='that of the suite'
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            min=1,
            help='Settings that the search tries, the same for every cell.',
            show_default='that of the suite',
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help='Training steps of a trial.',
            show_default='that of the suite',
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            min=1,
            help='Parameters of a model, at most.',
            show_default='that of the suite',
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help='How many processes.')] = 1,
    root: Annotated[
        Path | None,
        typer.Option(
            help='The directory of stored data sets.', show_default=False
        ),
    ] = None,
    out: Out = Path('benchmark'),
    device: Annotated[
        str, typer.Option(help="Where models train: 'cpu', 'cuda', ...")
    ] = 'cpu',
) -> None:
    """Compare graph neural networks, attention and rewirings on graph tasks.

    Writes trials.jsonl, summary.json, leaderboard.md and leaderboard.html. A
    run that was stopped goes on where it was when it is started again.
    """
    with errors_in_one_line():
        from gnnbridge.bench.board import board
        from gnnbridge.bench.materials import Materials
        from gnnbridge.bench.runner import run_suite
        from gnnbridge.bench.suites import select, with_effort
        from gnnbridge.bench.summary import summarize
        from gnnbridge.report.leaderboard_terminal import print_leaderboard

        chosen = select(
            _suite(suite, quick),
            tasks=_names('--tasks', tasks),
            models=_names('--models', models),
            rewirings=_names('--rewirings', rewirings),
        )
        chosen = with_effort(
            chosen, seeds=seeds, draws=draws, steps=steps, budget=budget
        )
        check_out(out)
        check_device(device)
        materials = Materials(root=root, device=device)
        trials = out / 'trials.jsonl'
        run = run_suite(chosen, trials, jobs=jobs, materials=materials)
        if not run.trials:
            raise ValueError(
                'Expected a task whose data is there (got '
                f'{", ".join(run.skipped)}). Name others, or a --root.'
            )
        summary = summarize(run, chosen, materials)
        tables = board(summary)
        paths = _write(summary, tables, out)
    print_leaderboard(tables, [trials, *paths])


def _suite(name: str | None, quick: bool) -> Suite:
    """The suite of that name, or the one that the flag is short for."""
    from gnnbridge.bench.suites import SUITES

    if quick and name not in (None, 'quick'):
        raise ValueError(
            f"Expected '--quick' or '--suite', not both (got '{name}')."
        )
    name = 'quick' if quick else name or 'default'
    if name not in SUITES:
        raise ValueError(
            f"Expected '--suite' to be one of {', '.join(SUITES)} (got "
            f"'{name}')."
        )
    return SUITES[name]


def _names(option: str, given: str | None) -> list[str] | None:
    if given is None:
        return None
    names = [name.strip() for name in given.split(',')]
    if not all(names):
        raise ValueError(
            f"Expected '{option}' to be names with commas between them (got "
            f"'{given}')."
        )
    return names


def _write(summary: dict[str, Any], tables: Board, out: Path) -> list[Path]:
    """Writes what was found, for programs, for Markdown and as a page."""
    from gnnbridge.bench.leaderboard import leaderboard
    from gnnbridge.report.leaderboard import write_leaderboard

    plain, markdown = out / 'summary.json', out / 'leaderboard.md'
    text = json.dumps(summary, indent=1, allow_nan=False) + '\n'
    plain.write_text(text, encoding='utf-8')
    markdown.write_text(leaderboard(summary), encoding='utf-8')
    page = write_leaderboard(summary, tables, out / 'leaderboard.html')
    return [plain, markdown, page]
