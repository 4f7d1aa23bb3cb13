import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_decoder import byte_tokenizer, tiny_decoder

import gnnbridge as gb
from gnnbridge.diagnostics.token_graph import token_graph_metrics
from gnnbridge.graph import causal_graph, sliding_window_graph
from gnnbridge.models.convert import is_converted
from gnnbridge.profiling.perplexity import perplexity
from gnnbridge.profiling.rewiring import compare_rewiring
from gnnbridge.profiling.rewiring_report import RewiringReport
from gnnbridge.profiling.rewiring_settings import RewiringSettings
from gnnbridge.profiling.token_graphs import model_graph
from gnnbridge.transforms.patterns import pattern
from gnnbridge.transforms.sliding_window import SlidingWindow

TEXT = 'A graph of tokens, read once and then once more.'
IDS = byte_tokenizer()(TEXT, return_tensors='pt').input_ids
SIZE = IDS.size(1)
SMALL = RewiringSettings(budget=8, pairs=6, questions=18)


def compare(
    transforms: Any,
    settings: RewiringSettings = SMALL,
    model: Any = None,
    text: str | None = TEXT,
) -> RewiringReport:
    return compare_rewiring(
        tiny_decoder() if model is None else model,
        byte_tokenizer(),
        transforms,
        text,
        settings=settings,
        progress=False,
    )


@pytest.fixture(scope='module')
def found() -> RewiringReport:
    return compare({'sinks': 'sinks', 'measured': 'top-k'})


def test_columns_are_the_model_and_its_rewirings(found: RewiringReport) -> None:
    assert [c.name for c in found.columns] == ['before', 'sinks', 'measured']
    assert found.columns[0].transform is None
    assert (
        found.columns[1].transform
        == 'AttentionSinks(window=7, sinks=1, causal=None)'
    )
    assert found.columns[2].transform == 'TopK(k=8, causal=None)'


def test_before_is_the_model_itself(found: RewiringReport) -> None:
    before = found.columns[0]
    model = tiny_decoder()
    assert before.perplexity == perplexity(model, IDS)
    graph = model_graph(model, IDS, mixing=True)
    hops = sum(graph.mixing)
    assert found.depth == {'hops': hops, 'source': 'measured mixing'}
    expected = token_graph_metrics(graph.attention, hops=hops)
    assert before.graph == expected.to_dict()
    assert before.edges == SIZE * (SIZE + 1) / 2
    # Uniform attention over all edges is that of the builder's graph.
    even = token_graph_metrics(causal_graph(SIZE), hops=hops).resistance
    assert before.even['total'] == pytest.approx(even.total, rel=1e-6)


def test_after_is_the_model_on_the_graph(found: RewiringReport) -> None:
    model, hops = tiny_decoder(), found.depth['hops']
    for column, name in zip(found.columns[1:], ['sinks', 'top-k'], strict=True):
        with gb.rewire(model, pattern(name, 8, SIZE, hops=hops)):
            assert column.perplexity == perplexity(model, IDS)
            graph = model_graph(model, IDS)
        expected = token_graph_metrics(graph.attention, hops=hops)
        assert column.graph == expected.to_dict()
        # Eight edges each, but for the first seven tokens.
        assert column.edges_by_layer == [8 * SIZE - 28] * 2
    sinks = found.columns[1]
    window = sliding_window_graph(SIZE, 7, sinks=1)
    alone = token_graph_metrics(window, hops=hops)
    assert sinks.graph['diameter'] == alone.diameter
    assert sinks.graph['least_curvature'] == alone.least_curvature
    assert sinks.even['worst'] == pytest.approx(
        alone.resistance.worst, rel=1e-6
    )
    assert sinks.shown['rows'][20] == [[0, 1], [14, 21]]


def test_distances_and_retrieval_are_there(found: RewiringReport) -> None:
    for column in found.columns:
        assert {len(v) for v in column.by_distance.values()} == {SIZE - 1}
        low, median, high = column.by_distance.values()
        assert all(
            a <= b <= c for a, b, c in zip(low, median, high, strict=True)
        )
        assert column.retrieval is not None
        assert 0 <= column.retrieval['accuracy'] <= 1
        assert len(column.retrieval['absent_key_by_place']) == 6
    assert found.task is not None
    assert found.task['name'] == 'random tokens of the vocabulary'
    assert found.task['chance'] == 1 / 6


def test_graphs_of_the_task_are_of_its_own_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As it matters to FoSR, whose budget is for all edges together.
    lengths = []

    def noted(name: str, budget: int, num_tokens: int, **options: Any) -> Any:
        lengths.append(num_tokens)
        return pattern(name, budget, num_tokens, **options)

    monkeypatch.setattr('gnnbridge.profiling.rewiring_settings.pattern', noted)
    report = compare('fosr')
    assert report.task is not None
    assert report.task['tokens'] == report.task['control_tokens'] == 14
    # The first is of the check of its name.
    assert lengths[0] == 9
    assert set(lengths[1:]) == {SIZE, 14}


def test_report_says_what_was_run(found: RewiringReport) -> None:
    assert found.model['architecture'] == 'LlamaForCausalLM'
    assert found.model['num_layers'] == 2
    assert found.text['num_tokens'] == SIZE
    assert found.settings['budget'] == 8
    assert found.settings['transforms'] == ['sinks', 'measured']
    assert found.versions['transformers'] == transformers.__version__
    assert {'read', 'before: graph', 'measured: retrieval'} <= set(
        found.timings
    )
    assert found.notes == []


def test_report_repeats_itself(found: RewiringReport) -> None:
    again = compare({'sinks': 'sinks', 'measured': 'top-k'}).to_dict()
    first = found.to_dict()
    for record in (first, again):
        del record['timings']
    assert first == again


def test_report_is_written_and_drawn(
    found: RewiringReport, tmp_path: Path
) -> None:
    path = found.to_json(tmp_path / 'deep' / 'rewire.json')
    read = json.loads(path.read_text())
    assert read == found.to_dict()
    assert set(read) == {
        'model', 'text', 'task', 'depth', 'columns', 'notes', 'settings',
        'versions', 'timings',
    }  # fmt: skip
    for column in read['columns']:
        assert set(column) == {
            'name', 'transform', 'edges', 'edges_by_layer', 'graph', 'even',
            'by_distance', 'shown', 'perplexity', 'retrieval',
        }  # fmt: skip
        assert set(column['graph']) == {
            'num_tokens', 'num_edges', 'edges_per_token', 'unreachable_pairs',
            'diameter', 'resistance', 'gap', 'mean_curvature',
            'least_curvature',
        }  # fmt: skip
        assert set(column['even']) == {'total', 'worst', 'worst_pair', 'hops'}
    for ending, start in (('png', b'\x89PNG'), ('svg', b'<?xml')):
        drawn = found.figure(tmp_path / 'new' / f'rewire.{ending}')
        assert drawn.read_bytes().startswith(start)
    table = found.summary()
    assert list(table.columns) == ['', 'before', 'sinks', 'measured']


@pytest.mark.parametrize('arrives', ['original', 'converted', 'training'])
def test_model_is_left_as_it_came(arrives: str) -> None:
    model = tiny_decoder()
    if arrives == 'converted':
        gb.convert(model)
    model.train(arrives == 'training')
    before = model(IDS).logits
    compare('causal-resistance', model=model)
    assert is_converted(model) == (arrives == 'converted')
    assert model.training == (arrives == 'training')
    assert torch.equal(model(IDS).logits, before)


def test_model_is_left_as_it_came_after_an_error() -> None:
    model = tiny_decoder()
    before = model(IDS).logits

    def fail(layer: int, graph: Any) -> Any:
        raise RuntimeError('no graph')

    with pytest.raises(RuntimeError, match='no graph'):
        compare(fail, model=model)
    assert not is_converted(model)
    assert torch.equal(model(IDS).logits, before)


def test_layers_and_heads_reach_the_model() -> None:
    settings = RewiringSettings(
        budget=8, pairs=6, questions=6, layers=(-1,), heads=(2,)
    )
    report = compare('window', settings)
    full, few = SIZE * (SIZE + 1) / 2, 8 * SIZE - 28
    assert report.columns[1].edges_by_layer == [full, (2 * full + few) / 3]
    shown = report.columns[1].shown
    assert (shown['layer'], shown['head']) == (1, 2)
    assert shown['rows'][20] == [[13, 21]]
    assert report.columns[0].shown['rows'][20] == [[0, 21]]
    assert report.settings['layers'] == (-1,)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'layers': (5,)}, "'layers' to choose from"),
        ({'heads': (0, 3)}, "'heads' to choose from 3 heads"),
    ],
)
def test_layers_and_heads_that_are_not_there(change: Any, said: str) -> None:
    settings = RewiringSettings(budget=8, pairs=4, questions=4, **change)
    with pytest.raises(ValueError, match=said):
        compare('window', settings)


@pytest.mark.parametrize(
    ('hops', 'depth'),
    [
        (2.5, {'hops': 2.5, 'source': 'given'}),
        (math.inf, {'hops': None, 'source': 'unlimited'}),
    ],
)
def test_depths_that_are_given(hops: float, depth: dict[str, Any]) -> None:
    settings = RewiringSettings(budget=8, pairs=4, questions=4, hops=hops)
    report = compare('causal-resistance', settings)
    assert report.depth == depth
    assert report.columns[1].graph['resistance']['hops'] == depth['hops']
    transform = report.columns[1].transform
    assert transform is not None
    assert f'hops={depth["hops"]}' in transform


def test_without_mixing_the_depth_is_the_number_of_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def graph(*args: Any, mixing: bool, **options: Any) -> Any:
        return model_graph(*args, **options)

    monkeypatch.setattr('gnnbridge.profiling.rewiring.model_graph', graph)
    report = compare('window')
    assert report.depth == {'hops': 2, 'source': 'number of layers'}


def test_a_transform_of_ones_own() -> None:
    report = compare(SlidingWindow(5))
    assert report.columns[1].name == 'SlidingWindow'
    assert report.columns[1].shown['rows'][9] == [[5, 10]]


def test_a_graph_for_one_layer() -> None:
    graph = sliding_window_graph(SIZE, 4)
    report = compare({1: graph})
    assert report.columns[1].name == 'dict'
    assert report.columns[1].shown['layer'] == 1
    assert report.columns[1].edges_by_layer[0] == SIZE * (SIZE + 1) / 2
    assert report.columns[1].edges_by_layer[1] == graph.num_edges


def test_a_budget_for_all_edges_changes_nothing() -> None:
    settings = RewiringSettings(budget=SIZE, pairs=6, questions=6)
    report = compare('sinks', settings)
    before, after = report.columns
    assert after.graph == before.graph
    # The original's attention and message passing differ by rounding.
    assert after.perplexity['perplexity'] == pytest.approx(
        before.perplexity['perplexity'], rel=1e-5
    )
    assert report.notes == [
        f'At {SIZE} edges per token nothing changes in the text ({SIZE} '
        'tokens), the retrieval sequences (14 tokens), the absent-key control '
        '(14 tokens).'
    ]


def test_a_rewiring_that_does_nothing_is_told_of() -> None:
    report = compare({'wide': SlidingWindow(SIZE), 'narrow': SlidingWindow(3)})
    assert report.notes == ["'wide' leaves the edges as they are."]


def test_encoders_and_pairs_of_stacks_are_refused() -> None:
    bert = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=257, hidden_size=24, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32,
        )
    )  # fmt: skip
    with pytest.raises(ValueError, match="'BertForMaskedLM', whose tokens"):
        compare('window', model=bert.eval())


def test_masks_where_messages_cannot_be_passed() -> None:
    bloom = transformers.BloomForCausalLM(
        transformers.BloomConfig(
            vocab_size=300, hidden_size=32, n_layer=1, n_head=4
        )
    )
    report = compare('window', model=bloom.eval())
    assert report.columns[1].edges == 8 * SIZE - 28
    assert 'not run as message passing' in report.notes[0]


def test_the_embedded_model_is_the_default_example() -> None:
    report = compare_rewiring(
        *gb.load_embedded(),
        'causal-resistance',
        settings=RewiringSettings(max_tokens=48, questions=32),
        progress=False,
    )
    before, after = report.columns
    assert before.retrieval is not None
    assert after.retrieval is not None
    # Its card says 0.999 of 16 pairs; two edges in five are gone.
    assert before.retrieval['accuracy'] >= 0.9
    assert after.retrieval['accuracy'] < before.retrieval['accuracy']
    assert after.edges == 16 * 48 - 120
    assert after.graph['unreachable_pairs'] == 0
    # The pattern that is made for it has the least resistance of its kind.
    random = compare_rewiring(
        *gb.load_embedded(),
        'bigbird',
        settings=RewiringSettings(max_tokens=48, questions=1),
        progress=False,
    )
    assert after.even['total'] < random.columns[1].even['total']
