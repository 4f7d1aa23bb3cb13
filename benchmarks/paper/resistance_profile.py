"""Do early tokens have the lower resistance, and does attention follow it?

    python benchmarks/paper/resistance_profile.py

Effective resistances between the tokens of trained decoders that stay as they
are, on held-out sequences of their own tasks: how well every source is heard
by later tokens and by the last one, beside the attention that it receives and
the norms of measured Jacobians. All of it again for new weights, for uniform
attention, and for attention whose rows are shuffled, so that what the causal
graph alone gives is apart from what training adds.

Commute times are undefined on a causal graph, whose walks never come back.
The kind 'restart' lets a walk that has ended start again anywhere: its commute
time is that resistance times the mean length of a cycle. Deviations are over
seeds, of weights and of sequences; of the shipped decoder of sequences alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from arms import Arm, baseline
from profile_figure import draw, variants_of
from profiles import (
    VIEWS,
    Graphs,
    Matrices,
    commute,
    conductances,
    earliness,
    earliness_at_distance,
    graphs_of,
    jacobians,
    later,
    received,
    shuffled,
    together,
    total,
    uniform,
    with_gains,
)
from running import Case, Experiment, Record, cell, main, table
from tasks import (
    BACKCOPY,
    BACKCOPY_TOKENS,
    PAIRS,
    RETRIEVAL,
    TEXT,
    TEXT_TOKENS,
    VOCABULARY,
    Task,
    backcopy_source,
)
from torch import Generator, Tensor
from transformers import LlamaConfig, PreTrainedModel

import gnnbridge as gb
from gnnbridge.datasets.retrieval import key_value_retrieval
from gnnbridge.datasets.text import byte_windows, python_corpus
from gnnbridge.spectral import effective_resistance

ROWS = 12
# With token 0, to which every walk comes in the end.
_WITH_FIRST = ('direct', 'unlimited', 'matched')


@dataclass(frozen=True)
class New(Arm):
    """An arm that is not trained."""

    def trained(self, seed: int, runs: Path) -> PreTrainedModel:
        """New weights."""
        return self.first(seed, runs).eval()


@dataclass(frozen=True)
class Shipped(Arm):
    """The decoder that comes with the library; one, whatever the seed."""

    def config(self) -> LlamaConfig:
        """Its architecture."""
        return gb.load_embedded()[0].config

    def trained(self, seed: int, runs: Path) -> PreTrainedModel:
        """The decoder."""
        return gb.load_embedded()[0]


@dataclass(frozen=True)
class NewShipped(New, Shipped):
    """The architecture of that decoder, with new weights."""


def held_out(task: Task, seed: int) -> tuple[Tensor, Tensor]:
    """Sequences that no decoder was trained on, and what is to be predicted.

    They differ from seed to seed. Those of retrieval end with the last key
    that is asked for.
    """
    generator = Generator().manual_seed(10**6 + seed)
    if task is BACKCOPY:
        ids = backcopy_source().draw(ROWS, BACKCOPY_TOKENS, generator=generator)
        return ids, ids
    if task is RETRIEVAL:
        batch = key_value_retrieval(
            ROWS, PAIRS, VOCABULARY, generator=generator
        )
        end = int(batch.asked_at[-1]) + 1
        return batch.input_ids[:, :end], batch.labels[:, :end]
    ids = byte_windows(
        python_corpus('held_out').text,
        ROWS,
        TEXT_TOKENS,
        bos=VOCABULARY.bos,
        generator=generator,
    )
    return ids, ids


def measure(task: Task) -> Callable[[PreTrainedModel, int], Record]:
    """What is measured of a decoder on a task."""

    def measured(model: PreTrainedModel, seed: int) -> Record:
        model.eval()
        ids, labels = held_out(task, seed)
        graphs = graphs_of(model, ids)
        norms = jacobians(model, ids)
        variants = {
            'own': graphs,
            'uniform': uniform(graphs),
            'shuffled': shuffled(graphs, Generator().manual_seed(seed)),
        }
        found = {name: conductances(one) for name, one in variants.items()}
        found['own']['with gains'] = with_gains(model, ids)
        with torch.no_grad():
            loss = float(model(ids, labels=labels).loss)
        return {
            'loss': loss,
            'hops': graphs.hops,
            'to_first': float(graphs.mean[:, 1:, 0].mean()),
            'graphs': {
                name: {
                    **_figures(found[name], received(one.mean), norms),
                    'commute': _commute(one, norms),
                }
                for name, one in variants.items()
            },
            'measured': _measured(received(graphs.mean), norms),
            'layers': _by_layer(graphs, norms),
            'profiles': _profiles(variants, found, norms),
        }

    return measured


def _figures(kinds: Matrices, heard: Tensor, norms: Tensor) -> Record:
    """By kind and view, beside place, received attention and Jacobians.

    Args:
        kinds: Conductances.
        heard: The attention that sources receive in the same graph.
        norms: Those of the Jacobians of the model itself.
    """

    def of(kind: str, view: str, start: int) -> Record:
        strength = VIEWS[view](kinds[kind])[:, start:]
        truth = VIEWS[view](norms)[:, start:]
        return {
            'earliness': earliness(strength),
            'received': together(strength, heard[:, start:]),
            'jacobian': together(strength, truth),
        }

    return {
        **{view: {kind: of(kind, view, 1) for kind in kinds} for view in VIEWS},
        'later, with token 0': {
            kind: of(kind, 'later', 0) for kind in _WITH_FIRST
        },
        'sum': {
            kind: earliness(total(found)[:, 1:])
            for kind, found in kinds.items()
        },
        'one distance': {
            kind: earliness_at_distance(found) for kind, found in kinds.items()
        },
    }


def _commute(graphs: Graphs, norms: Tensor) -> Record:
    """Short commute times, beside the sum of Jacobians over later tokens."""
    near = -commute(graphs)[:, 1:]
    return {
        'earliness': earliness(near),
        'received': together(near, received(graphs.mean)[:, 1:]),
        'jacobian': together(near, total(norms)[:, 1:]),
    }


def _measured(heard: Tensor, norms: Tensor) -> Record:
    """The Jacobians themselves."""
    found = {
        view: {
            'earliness': earliness(of(norms)[:, 1:]),
            'received': together(of(norms)[:, 1:], heard[:, 1:]),
        }
        for view, of in VIEWS.items()
    }
    return {
        **found,
        'sum': earliness(total(norms)[:, 1:]),
        'one distance': earliness_at_distance(norms),
    }


def _by_layer(graphs: Graphs, norms: Tensor) -> Record:
    """Each layer alone, as it is heard by later tokens."""
    truth = later(norms)[:, 1:]
    depths = {'unlimited': None, 'matched': graphs.hops}
    found: Record = {name: {} for name in depths}
    for name, hops in depths.items():
        rows = []
        for A in graphs.layers.unbind(1):
            flow = effective_resistance(A, hops=hops, conductance=True)
            strength = later(flow)[:, 1:]
            rows.append(
                {
                    'earliness': earliness(strength),
                    'received_given_place': together(
                        strength, received(A)[:, 1:]
                    )['given_place'],
                    'jacobian_given_place': together(strength, truth)[
                        'given_place'
                    ],
                }
            )
        found[name] = {key: [row[key] for row in rows] for key in rows[0]}
    return found


def _profiles(
    variants: dict[str, Graphs], found: dict[str, Matrices], norms: Tensor
) -> Record:
    """Common logarithms of resistances by place, means over sequences.

    Those of Jacobians are the inverse of their relative norms. At matched
    depth resistances are multiplied by the probability of another hop, so
    that they tend to inverse attention where there are few.
    """
    hops = variants['own'].hops
    more = hops / (1 + hops)

    def shown(strength: Tensor) -> list[float]:
        return (-later(strength).log10()).mean(0).tolist()

    profiles = {
        name: {
            'unlimited': shown(found[name]['unlimited']),
            'matched': shown(found[name]['matched'] / more),
            'commute': commute(one).log10().mean(0).tolist(),
        }
        for name, one in variants.items()
    }
    return {
        **profiles,
        'jacobian': shown(norms),
        'received': received(variants['own'].mean).log10().mean(0).tolist(),
    }


def cases() -> dict[str, list[Case]]:
    """Decoders as they were trained, and with new weights."""
    tasks = (BACKCOPY, RETRIEVAL, TEXT)
    return {
        'trained': [
            *(Case(one.name, baseline(one), measure(one)) for one in tasks),
            Case('embedded', Shipped('embedded', TEXT), measure(TEXT)),
        ],
        'new': [
            *(Case(one.name, New('new', one), measure(one)) for one in tasks),
            Case('embedded', NewShipped('new', TEXT), measure(TEXT)),
        ],
    }


_COLUMNS = (
    'early is strong: unlimited', 'matched', 'matched, one distance',
    'matched, sum', 'commute', 'received given place: unlimited', 'matched',
    'Jacobian given place', 'within place',
)  # fmt: skip


def show(result: Record) -> str:
    """Tables of graphs beside nulls, of kinds of resistance, and of layers."""
    return '\n\n'.join((_by_graph(result), _by_kind(result), _layers(result)))


def _by_graph(result: Record) -> str:
    """Resistances to later tokens; Jacobians of a decoder have a row."""
    rows = []
    for model, trained in result['groups']['trained'].items():
        rows.append([f'{model}: Jacobians', '', *_jacobian_cells(trained)])
        for name, figures, graph in variants_of(result, model):
            found = figures['graphs'][graph]
            free, matched = (
                found['later'][kind] for kind in ('unlimited', 'matched')
            )
            cells = [
                figures['hops'],
                free['earliness'],
                matched['earliness'],
                found['one distance']['matched'],
                found['sum']['matched'],
                found['commute']['earliness'],
                free['received']['given_place'],
                matched['received']['given_place'],
                matched['jacobian']['given_place'],
                matched['jacobian']['within_place'],
            ]
            rows.append([f'{model}: {name}', *map(cell, cells)])
    return table(['', 'hops', *_COLUMNS], rows)


def _jacobian_cells(figures: Record) -> list[str]:
    found = figures['measured']
    early = [found['later']['earliness'], found['one distance'], found['sum']]
    heard = found['later']['received']['given_place']
    return ['', *map(cell, early), '', '', cell(heard), '', '']


def _by_kind(result: Record) -> str:
    """Agreement with the Jacobians: given the place, and within places."""
    trained = result['groups']['trained']
    heads = [
        'with Jacobians, given place / within place',
        *(f'{model}, {view}' for model in trained for view in VIEWS),
    ]
    names = next(iter(trained.values()))['graphs']['own']['later']
    rows = []
    for kind in names:
        cells = [
            figures['graphs']['own'][view][kind]['jacobian']
            for figures in trained.values()
            for view in VIEWS
        ]
        rows.append([kind, *(_two(one) for one in cells)])
    return table(heads, rows)


def _two(figure: Record) -> str:
    both = (figure['given_place'], figure['within_place'])
    return ' / '.join(f'{one["mean"]:.2f}' for one in both)


def _layers(result: Record) -> str:
    """Of each layer alone, at unlimited depth."""
    keys = ('earliness', 'received_given_place', 'jacobian_given_place')
    heads = [
        'by layer, unlimited', 'early is strong', 'received given place',
        'Jacobian given place',
    ]  # fmt: skip
    rows = []
    for model, figures in result['groups']['trained'].items():
        means = [figures['layers']['unlimited'][key]['mean'] for key in keys]
        cells = [', '.join(f'{one:.2f}' for one in mean) for mean in means]
        rows.append([model, *cells])
    return table(heads, rows)


if __name__ == '__main__':
    main(
        Experiment('resistance_profile', cases(), draw, show),
        __doc__ or '',
    )
