"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Argument(
        help='A model directory or a name on the hub; by default the '
        'small decoder that ships with the package.',
        show_default=False,
    ),
]
MaxTokens = Annotated[
    int, typer.Option(min=2, help='How many tokens to read at most.')
]
Device = Annotated[
    str, typer.Option(help="Where the model runs: 'cpu', 'cuda', ...")
]
Out = Annotated[Path, typer.Option(help='The directory to write to.')]
Seed = Annotated[int, typer.Option(help='Source of chance.')]
