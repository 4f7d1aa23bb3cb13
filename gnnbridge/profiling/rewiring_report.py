"""What a comparison of rewirings holds, and the forms of writing it down."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnbridge.diagnostics.token_graph import (
    resistance_by_distance,
    resistance_metrics,
    token_graph_metrics,
)
from gnnbridge.profiling.plain import Result
from gnnbridge.profiling.token_graphs import ModelGraph

if TYPE_CHECKING:
    from gnnbridge.report.section import Table


@dataclass(frozen=True)
class Column:
    """One graph: that of the model as it came, or a rewired one.

    Attributes:
        name: ``'before'``, or the name of the transform.
        transform: The transform; ``None`` for the first.
        edges: Edges of a layer, the mean over layers and heads.
        edges_by_layer: The mean over the heads of each.
        graph: The :class:`~gnnbridge.diagnostics.TokenGraphMetrics` of the
            attention on the text, the mean over layers and heads.
        even: The causal resistance of the same edges with even attention.
        by_distance: Quantiles of the resistances in ``graph`` over the pairs
            at each distance from 1 on: ``low`` (5 %), ``median``, ``high``.
        shown: The edges of one ``layer`` and ``head``: for each token the
            ``rows``, ranges ``[first, end)`` of the tokens it attends to.
        perplexity: ``nats_per_token`` and ``perplexity`` on the text.
        retrieval: ``accuracy`` and that ``by_place`` of the binding; how often
            the value of each place is named for an absent key, and the most
            that any is. ``None`` where the task has no room.
    """

    name: str
    transform: str | None
    edges: float
    edges_by_layer: list[float]
    graph: dict[str, Any]
    even: dict[str, Any]
    by_distance: dict[str, list[float]]
    shown: dict[str, Any]
    perplexity: dict[str, float]
    retrieval: dict[str, Any] | None

    @classmethod
    def of(
        cls,
        name: str,
        graph: ModelGraph,
        hops: float | None,
        perplexity: dict[str, float],
        retrieval: dict[str, Any] | None,
    ) -> Column:
        """All that is measured on a graph, beside what the model can do."""
        low, median, high = resistance_by_distance(graph.attention, hops=hops)
        even = resistance_metrics(graph.even, hops=hops)
        return cls(
            name=name,
            transform=None,
            edges=graph.edges,
            edges_by_layer=graph.num_edges,
            graph=token_graph_metrics(graph.attention, hops=hops).to_dict(),
            even=dataclasses.asdict(even),
            by_distance={
                'low': low.tolist(),
                'median': median.tolist(),
                'high': high.tolist(),
            },
            shown=graph.shown.to_dict(),
            perplexity=perplexity,
            retrieval=retrieval,
        )


@dataclass
class RewiringReport(Result):
    """What :func:`compare_rewiring` found; plain data throughout.

    Attributes:
        model: Name, architecture, number of layers, size, dtype.
        text: Its source, the tokens that were read, whether it was cut.
        task: What the retrieval task is; ``None`` if there is no room for it.
        depth: The ``hops`` for which resistances are matched, and the
            ``source`` of that number.
        columns: The graphs, the first of them the model's own.
        notes: What the reader has to know before the figures.
        settings: The arguments of the run.
        versions: Of everything that can change a number.
        timings: Wall time of each step in seconds.
    """

    model: dict[str, Any]
    text: dict[str, Any]
    task: dict[str, Any] | None
    depth: dict[str, Any]
    columns: list[Column]
    notes: list[str]
    settings: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float]

    def figure(self, path: str | Path) -> Path:
        """Draws graphs and metrics to a PNG or SVG file, by its ending.

        Raises:
            ValueError: If the path ends otherwise.
        """
        # Drawing is needed here only, and takes a second to import.
        from gnnbridge.report.rewiring import write_figure

        return write_figure(self.to_dict(), path)

    def summary(self) -> Table:
        """All metrics, ready to print.

        Returns:
            A row per metric, a column per graph and, with one rewiring, the
            ratio of after and before.
        """
        from gnnbridge.report.comparison import comparison

        return comparison(self.to_dict())
