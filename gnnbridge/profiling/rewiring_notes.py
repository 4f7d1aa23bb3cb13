"""What the reader of a comparison has to know before its figures."""

from __future__ import annotations

from collections.abc import Sequence

from gnnbridge.profiling.retrieval import RetrievalTask
from gnnbridge.profiling.rewiring_report import Column
from gnnbridge.profiling.rewiring_settings import Choice, RewiringSettings

_MASK = (
    'The attention of this architecture cannot be replaced: the graphs were '
    'imposed on the scores of dense attention, not run as message passing.'
)
_DENSE = (
    'Curvature is left out where the graph is so dense that it would take long.'
)


def notes(
    settings: RewiringSettings,
    rewirings: Sequence[Choice],
    columns: Sequence[Column],
    task: RetrievalTask | None,
    mode: str | None,
) -> list[str]:
    """All notes on a comparison.

    Args:
        settings: Its settings.
        rewirings: What was compared.
        columns: What was found; the first is the model's own graph.
        task: The retrieval task, if there was room for one.
        mode: How the model was converted.
    """
    found = [_MASK] if mode == 'mask' else []
    found += _on_task(task, settings.pairs)
    if any(choice.budgeted for choice in rewirings):
        found += _on_budget(settings.budget, columns[0], task)
    found += _on_edges(settings.budget, rewirings, columns)
    if any(_has_no_curvature(column) for column in columns):
        found.append(_DENSE)
    return found


def _has_no_curvature(column: Column) -> bool:
    """Whether there are edges, other than self-loops, whose it would be."""
    graph = column.graph
    return graph['mean_curvature'] is None and graph['diameter'] > 0


def _on_task(task: RetrievalTask | None, wanted: int) -> list[str]:
    place = 'vocabulary or context of the model'
    if task is None:
        return [f'Retrieval is left out: {place} has no room for two pairs.']
    if task.num_pairs < wanted:
        return [
            f'Retrieval is among {task.num_pairs} pairs: {place} has no room '
            f'for {wanted}.'
        ]
    return []


def _on_budget(
    budget: int, before: Column, task: RetrievalTask | None
) -> list[str]:
    """Sequences that are so short that all edges are within the budget."""
    lengths = {'the text': before.graph['num_tokens']}
    if task is not None:
        lengths['the retrieval sequences'] = task.asked.input_ids.size(1)
        lengths['the absent-key control'] = task.control.input_ids.size(1)
    idle = [f'{k} ({n} tokens)' for k, n in lengths.items() if n <= budget]
    if not idle:
        return []
    return [
        f'At {budget} edges per token nothing changes in {", ".join(idle)}.'
    ]


def _on_edges(
    budget: int, rewirings: Sequence[Choice], columns: Sequence[Column]
) -> list[str]:
    """Rewirings that left the graph of the text as it was."""
    before = columns[0]
    found = []
    for choice, column in zip(rewirings, columns[1:], strict=True):
        short = choice.budgeted and before.graph['num_tokens'] <= budget
        same = (
            column.edges_by_layer == before.edges_by_layer
            and column.shown['rows'] == before.shown['rows']
        )
        if same and not short:
            found.append(f"'{choice.name}' leaves the edges as they are.")
    return found
