from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoder import byte_tokenizer, tiny_decoder
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

import gnnbridge as gb
from gnnbridge.profiling.ledger import Ledger
from gnnbridge.profiling.pieces import Batch, batches
from gnnbridge.profiling.processes import Processes
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.settings import ProfileSettings
from gnnbridge.profiling.work import Worker, sample_graphs


class Edges:
    """Counts the edges of every layer."""

    name, meaning = 'edges', 'There are edges.'

    def __init__(self, refuses: str = '') -> None:
        self.refuses = refuses

    def sampler(self, settings: ProfileSettings) -> Any:
        section = self

        class Sampler:
            def __init__(self) -> None:
                self.graphs: list[Data] = []

            def add(self, graph: Data) -> None:
                if section.refuses == 'add':
                    raise NotImplementedError('Expected edges (got none).')
                self.graphs.append(graph)

            def result(self, outgoing: list[Tensor]) -> Samples:
                if section.refuses == 'result':
                    raise NotImplementedError('Expected more (got less).')
                count = len(outgoing)
                edges = [graph.num_edges / count for graph in self.graphs]
                last = [float(states.norm()) for states in outgoing]
                return {
                    'edges/each': np.tile(edges, (count, 1)),
                    'edges/last': np.array(last)[:, None],
                }

        return Sampler()

    def tasks(self, subject: Subject) -> list[Task]:
        return []

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        return {}

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        return {}


@pytest.fixture(scope='module')
def subject() -> Subject:
    model = gb.convert(tiny_decoder())
    return Subject(
        model, byte_tokenizer(), ProfileSettings(), 2, True, (), True
    )


def sequences(count: int = 5) -> list[Tensor]:
    return [torch.arange(3 + place % 2) + place for place in range(count)]


def worker(group: Processes | None = None, **known: str) -> Worker:
    return Worker(
        Ledger(None, 'x'), group or Processes(), known, tqdm(disable=True)
    )


def read(subject: Subject, group: Processes, size: int = 2) -> Tally:
    working = worker(group)
    grouped = batches(sequences(), size)
    working.read_corpus(subject, grouped, [Edges()], 'model/')
    return working.ledger.tally


def test_samplers_see_every_layer_and_what_leaves_the_last(
    subject: Subject,
) -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    samples, reasons = sample_graphs(subject, ids, [Edges()])
    assert reasons == {}
    np.testing.assert_array_equal(samples['edges/each'], [[6, 6], [6, 6]])
    states = subject.model.model(ids, output_hidden_states=True)
    # Before the final norm: transformers returns the last state after it.
    norm = subject.model.model.norm
    handle = norm.register_forward_pre_hook(
        lambda module, args: expected.append(args[0])
    )
    expected: list[Tensor] = []
    subject.model.model(ids)
    handle.remove()
    lengths = expected[0].flatten(1).norm(dim=1)
    np.testing.assert_allclose(
        samples['edges/last'][:, 0], lengths.detach().numpy(), rtol=1e-5
    )
    assert len(states.hidden_states) == 3


@pytest.mark.parametrize('refuses', ['add', 'result'])
def test_a_sampler_may_refuse_and_others_go_on(
    refuses: str, subject: Subject
) -> None:
    stubborn = Edges(refuses)
    stubborn.name = 'stubborn'
    ids = torch.tensor([[1, 2, 3]])
    samples, reasons = sample_graphs(subject, ids, [stubborn, Edges()])
    assert list(reasons) == ['stubborn']
    assert 'got' in reasons['stubborn']
    assert samples['edges/each'].shape == (1, 2)


@pytest.mark.parametrize('size', [2, 3])
def test_processes_share_the_batches_and_find_the_same(
    size: int, subject: Subject
) -> None:
    alone = read(subject, Processes())
    shared = Tally()
    for rank in range(size):
        shared.merge(read(subject, Processes(rank, size)))
    for name, moments in alone.moments.items():
        # The order of adding differs, in float64.
        np.testing.assert_allclose(shared.moments[name], moments, rtol=1e-12)


def test_known_units_are_not_done_again(subject: Subject) -> None:
    grouped = list(batches(sequences(), 2))
    known = {'model/corpus/0': grouped[0].digest}
    working = worker(**known)
    working.read_corpus(subject, iter(grouped), [Edges()], 'model/')
    done = list(working.ledger.done)
    assert done == [f'model/corpus/{n}' for n in range(1, len(grouped))]


def test_another_text_is_noticed(subject: Subject) -> None:
    working = worker(**{'model/corpus/0': 'of other tokens'})
    batch = Batch(0, torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match='an earlier run'):
        working.read_corpus(subject, [batch], [Edges()], 'model/')


def test_tasks_are_done_once_and_may_refuse(subject: Subject) -> None:
    ran: list[str] = []

    def task(key: str, refuses: bool = False) -> Task:
        def run(subject: Subject) -> Samples:
            ran.append(key)
            if refuses:
                raise NotImplementedError('Expected room (got none).')
            return {key: np.ones((1, 1))}

        return Task(key, run, 10.0, 0)

    tasks: Sequence[Task] = [task('a'), task('b', refuses=True), task('c')]
    working = worker(**{'model/c': ''})
    working.do_tasks(subject, tasks, 'model/')
    assert ran == ['a', 'b']
    assert list(working.ledger.tally.moments) == ['model/a']
    assert working.ledger.tally.reasons == {
        'model/b': 'Expected room (got none).'
    }
    assert list(working.ledger.done) == ['model/a', 'model/b']
