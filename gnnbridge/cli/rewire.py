"""``gnnbridge rewire``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnnbridge.cli.errors import check_out, errors_in_one_line
from gnnbridge.cli.loading import load
from gnnbridge.cli.options import Device, MaxTokens, Model, Out, Seed


def rewire(
    model: Model = None,
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
    text: Annotated[
        Path | None,
        typer.Option(
            help='A UTF-8 text file to read; by default a page that ships '
            'with the package.',
            show_default=False,
        ),
    ] = None,
    max_tokens: MaxTokens = 256,
    pairs: Annotated[
        int, typer.Option(help='Bindings in a retrieval sequence.')
    ] = 16,
    questions: Annotated[
        int, typer.Option(help='How many keys are asked for.')
    ] = 256,
    seed: Seed = 0,
    device: Device = 'cpu',
    out: Out = Path('rewired'),
) -> None:
    """Measure a model before and after its attention was rewired.

    Writes rewire.json and rewire.png: the token graphs, their resistances,
    perplexity and key-value retrieval.
    """
    with errors_in_one_line():
        from gnnbridge.datasets.corpus import read_text
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
        content = None if text is None else read_text(text)
        check_out(out)
        transforms = {name: name for name in names}
        found = compare_rewiring(
            *load(model, device), transforms, content, settings=settings
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
