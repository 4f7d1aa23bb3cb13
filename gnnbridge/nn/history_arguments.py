"""What histories ask of the layers that they are given to."""

from __future__ import annotations

from typing import Optional, Union

from gnnbridge.nn.history import KINDS, AttentionHistory, Previous
from gnnbridge.nn.history_state import HistoryState
from gnnbridge.nn.maps import Maps


def history_of(
    history: Union[AttentionHistory, str, None], heads: int
) -> Optional[AttentionHistory]:
    """The history that a layer was given, by name or as a module.

    Raises:
        TypeError: If it is neither.
        ValueError: If its name is unknown or it has another number of heads.
    """
    if isinstance(history, str):
        return AttentionHistory(history, heads)
    if history is not None and not isinstance(history, AttentionHistory):
        raise TypeError(
            f"Expected 'history' to be None, one of {', '.join(KINDS)}, or an "
            f'AttentionHistory (got {type(history).__name__}).'
        )
    if history is not None and history.heads != heads:
        raise ValueError(
            f"Expected 'history' of {heads} heads (got {history.heads}). Build "
            f'it with as many heads as the layer.'
        )
    return history


def check_history(
    history: Optional[AttentionHistory],
    maps: Maps,
    layer: int,
    previous: Optional[Previous],
    state: Optional[HistoryState],
) -> None:
    """Raises a ValueError where history is missing, or given to no use."""
    of_layer = history is not None and not history.of_rows
    if of_layer and previous is None and layer > 0:
        raise ValueError(
            f"Expected 'previous' in layer {layer} with history 'layer' (got "
            f'None). Pass the query and key of the layer below, or its map; '
            f'only layer 0 has none.'
        )
    if not of_layer and previous is not None:
        kind = None if history is None else history.kind
        raise ValueError(
            f"Expected no 'previous' with history {kind!r} (got one). Build "
            f"the layer with history='layer'."
        )
    if history is None or of_layer:
        return
    num_keys, num_queries = maps.plan.graph_size
    if state is None and num_keys > num_queries:
        raise ValueError(
            f"Expected 'state' for {num_queries} queries of {num_keys} keys "
            f'with history {history.kind!r} (got None): the rows before them '
            f'are unknown. Pass the HistoryState that saw these, or an empty '
            f'one if there are none.'
        )
    if state is not None:
        state.check(maps.plan, history.heads)
