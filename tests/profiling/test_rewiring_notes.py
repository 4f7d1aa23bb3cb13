from types import SimpleNamespace
from typing import Any

from tiny_decoder import byte_tokenizer, tiny_decoder

from gnnbridge.profiling.retrieval import retrieval_task
from gnnbridge.profiling.rewiring_notes import notes
from gnnbridge.profiling.rewiring_settings import RewiringSettings, choices

SETTINGS = RewiringSettings(budget=8, pairs=6, questions=4)
TASK = retrieval_task(
    tiny_decoder(), byte_tokenizer(), pairs=6, questions=4, bos=True, seed=0
)


def column(**graph: Any) -> Any:
    facts = {
        'num_tokens': 40,
        'mean_curvature': 1.0,
        'diameter': 1,
        **graph,
    }
    return SimpleNamespace(
        graph=facts, edges_by_layer=[5.0], shown={'rows': [len(graph)]}
    )


def found(**changes: Any) -> list[str]:
    arguments = {
        'settings': SETTINGS,
        'columns': [column(), column(any=1)],
        'task': TASK,
        'mode': 'messages',
        **changes,
    }
    rewirings = choices('window', arguments['settings'])
    return notes(rewirings=rewirings, **arguments)


def test_nothing_is_said_without_need() -> None:
    assert found() == []


def test_masks_are_named() -> None:
    assert 'dense attention' in found(mode='mask')[0]


def test_a_task_without_room() -> None:
    assert found(task=None) == [
        'Retrieval is left out: vocabulary or context of the model has no '
        'room for two pairs.'
    ]
    wanted = RewiringSettings(budget=8, pairs=9)
    assert found(settings=wanted) == [
        'Retrieval is among 6 pairs: vocabulary or context of the model has '
        'no room for 9.'
    ]


def test_short_sequences_are_named() -> None:
    wide = RewiringSettings(budget=14, pairs=6)
    assert found(settings=wide) == [
        'At 14 edges per token nothing changes in the retrieval sequences (14 '
        'tokens), the absent-key control (14 tokens).'
    ]


def test_edges_that_stayed() -> None:
    same = [column(), column()]
    assert found(columns=same) == ["'window' leaves the edges as they are."]
    # Said once, where it is due to the budget.
    wide = RewiringSettings(budget=40, pairs=6)
    assert len(found(columns=same, settings=wide)) == 1


def test_curvature_is_missed_where_there_are_edges() -> None:
    dense = column(mean_curvature=None)
    assert 'so dense' in found(columns=[column(), dense])[0]
    bare = column(mean_curvature=None, diameter=0)
    assert found(columns=[column(), bare]) == []
