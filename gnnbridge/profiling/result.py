"""What a profile holds, and the forms in which it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnbridge.profiling.plain import Result


@dataclass
class Profile(Result):
    """What :func:`profile` found; plain data throughout.

    Attributes:
        model: Name, architecture, sizes, dtype.
        text: Its source, the tokens that were read, whether it was cut.
        parity: How far the logits of the model run as message passing are
            from the original's.
        measures: One entry per layer, or per layer and head, and quantity.
        nulls: The same quantities under uniform attention.
        baseline: ``measures`` and ``resistance`` with re-initialised
            weights; ``None`` if not asked for.
        graphs: The strongest edges of each layer, ``(source, target,
            weight)``.
        resistance: Effective resistance by position of the source token, as
            seen from the last token and from all later ones; ``None`` if the
            attention is not causal.
        notes: What the reader has to know before the figures.
        settings: The arguments of the run.
        versions: Of everything that can change a number.
        timings: Wall time of each step in seconds.
    """

    model: dict[str, Any]
    text: dict[str, Any]
    parity: dict[str, Any]
    measures: dict[str, list[Any]]
    nulls: dict[str, Any]
    baseline: dict[str, Any] | None
    graphs: list[dict[str, Any]]
    resistance: dict[str, Any] | None
    notes: list[str]
    settings: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float]

    def to_html(self, path: str | Path) -> Path:
        """Writes the report, one self-contained page, and returns its path."""
        # Drawing is needed here only, and takes a second to import.
        from gnnbridge.report.html import write

        return write(self.to_dict(), path)

    def summary(self) -> list[dict[str, str]]:
        """One row per layer, ready to print.

        Returns:
            For each layer its values by column; those of re-initialised
            weights follow in brackets.
        """
        measures, base = self.measures, (self.baseline or {}).get('measures')
        rows = []
        for layer in range(len(measures['sink_rate'])):
            row = _summary_row(measures, layer)
            if base is not None:
                again = _summary_row(base, layer)
                row = {k: f'{v} ({again[k]})' for k, v in row.items()}
            rows.append({'layer': str(measures['layer'][layer]), **row})
        return rows


def _summary_row(measures: dict[str, list[Any]], layer: int) -> dict[str, str]:
    # The report's package brings matplotlib, which only drawing needs.
    from gnnbridge.report.section import mean, number, percent

    columns = {
        'mixing': 'mixing',
        'energy': 'dirichlet_energy',
        'effective rank': 'effective_rank',
        'mean cosine': 'mean_cosine',
    }
    return {
        'sink rate': percent(measures['sink_rate'][layer]),
        'highest sink score': number(max(measures['sink_score'][layer]), 2),
        'entropy (nats)': number(mean(measures['entropy'][layer])),
        **{
            column: number(measures[name][layer])
            for column, name in columns.items()
        },
    }
