"""The same cells on one task at several sizes, resumable, as one result."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch_geometric.data import Data

from gnnbridge.bench.cells import Cell, Effort, Suite
from gnnbridge.bench.materials import Materials
from gnnbridge.bench.runner import Run, run_suite
from gnnbridge.bench.search import draw as draw_settings
from gnnbridge.bench.statistics import best_group
from gnnbridge.bench.summary import machine, summarize

RESULTS = Path(__file__).parents[1] / 'results'
Record = dict[str, Any]
# Okabe and Ito's, which colour-blind readers can tell apart, and three more;
# black first.
COLORS = (
    '#000000', '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00',
    '#56B4E9', '#8C6D31', '#7F7F7F', '#882255',
)  # fmt: skip
MARKERS = 'osD^vPX<>p'


@dataclass(frozen=True)
class Sweep:
    """A task whose size grows.

    Attributes:
        name: The name of the results.
        task: The task.
        axis: What grows, for tables and figures.
        sizes: What the task is made with, by what is shown of it.
        cells: Pairs of a model and a rewiring.
        effort: The same for all cells.
        published: What the reference found, in words, with its source.
        efforts: At sizes that have another one, theirs.
        shows_train: Whether accuracy on what was trained on is shown as well.
        graphs: What to measure of the graphs that are reported, by the name
            of a row; each a function of one graph.
    """

    name: str
    task: str
    axis: str
    sizes: Mapping[str, Mapping[str, Any]]
    cells: Sequence[tuple[str, str]]
    effort: Effort
    published: str
    efforts: Mapping[str, Effort] = field(default_factory=dict)
    shows_train: bool = False
    graphs: Mapping[str, Callable[[Data], float]] = field(default_factory=dict)


def main(sweep: Sweep, about: str) -> None:
    """Runs what is missing, writes the results, and prints the table."""
    asked = arguments(about)
    warnings.filterwarnings('ignore', message='.*lr_scheduler.step.*')
    cells = tuple(Cell(sweep.task, *pair) for pair in sweep.cells)
    found: dict[str, list[Record]] = {}
    measured: dict[str, dict[str, dict[str, float]]] = {}
    efforts: dict[str, Effort] = {}
    shown = dict(list(sweep.sizes.items())[: 1 if asked.tiny else None])
    for label, sizes in shown.items():
        effort = sweep.efforts.get(label, sweep.effort)
        if asked.tiny:
            sizes = {**sizes, 'graphs': (8, 4, 4)}
            effort = Effort(steps=2, budget=effort.budget, draws=1, seeds=2)
        efforts[label] = effort
        materials = Materials(sizes={sweep.task: sizes})
        path = asked.runs / f'{sweep.name}.jsonl'
        suite = Suite(sweep.name, cells, effort)
        run = run_suite(suite, path, jobs=asked.jobs, materials=materials)
        summary = summarize(run, suite, materials)
        found[label] = [_short(cell, run) for cell in summary['cells']]
        chance = summary['tasks'][sweep.task]['chance']
        found[label].append({'model': 'chance', 'mean': chance})
        for name, of_graph in sweep.graphs.items():
            for rewiring in dict.fromkeys(how for _, how in sweep.cells):
                values = _of_graphs(of_graph, sweep, materials, rewiring)
                row = measured.setdefault(name, {}).setdefault(rewiring, {})
                row[label] = sum(values) / len(values)
    result = {
        'machine': machine('cpu'),
        'task': sweep.task,
        'axis': sweep.axis,
        'efforts': {label: {**vars(of)} for label, of in efforts.items()},
        'published': sweep.published,
        'sizes': {label: dict(of) for label, of in shown.items()},
        'cells': found,
        'shows_train': sweep.shows_train,
        'graphs': measured,
    }
    path = asked.results / f'gnn_{sweep.name}.json'
    path.write_text(json.dumps(rounded(result), indent=1) + '\n')
    draw(rounded(result), path.with_suffix('.png'))
    print(show(rounded(result)))


def arguments(about: str) -> argparse.Namespace:
    """The options that all commands have."""
    parser = argparse.ArgumentParser(description=about.split('\n\n')[0])
    parser.add_argument('--runs', type=Path, default=Path('runs/gnn'))
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    parser.add_argument(
        '--tiny', action='store_true', help='two steps of hardly anything'
    )
    return parser.parse_args()


def _of_graphs(
    of_graph: Callable[[Data], float],
    sweep: Sweep,
    materials: Materials,
    rewiring: str,
) -> list[float]:
    """A value of each graph that is reported for the first seed."""
    # What a search of one draw takes.
    settings = draw_settings(0, materials.parts.strengths(rewiring))
    batches, _ = materials.batches(
        (sweep.task, 0),
        (rewiring, settings.strength),
        nodes=sweep.effort.batch_nodes,
    )
    return [
        of_graph(graph)
        for batch in batches.test
        for graph in batch.to_data_list()
    ]


def _short(cell: Record, run: Run) -> Record:
    kept = (
        'model', 'rewiring', 'mean', 'half_width', 'values', 'train_mean',
        'parameters', 'failed',
    )  # fmt: skip
    of = Cell(cell['task'], cell['model'], cell['rewiring'])
    by_seed = {
        trial.job.seed: trial.train
        for trial in run.trials
        if trial.job.cell == of and trial.job.stage == 'final'
    }
    values = [by_seed[seed] for seed in sorted(by_seed)]
    return {**{name: cell[name] for name in kept}, 'train_values': values}


def rounded(value: Any) -> Any:
    """Five digits of every float."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f'{value:.5g}') if isinstance(value, float) else value


def series(result: Record) -> dict[str, list[Record]]:
    """The cells of each model and rewiring by size."""
    lines: dict[str, list[Record]] = {}
    for cells in result['cells'].values():
        for cell in cells:
            lines.setdefault(_name(cell), []).append(cell)
    return lines


def _name(cell: Record) -> str:
    rewiring = cell.get('rewiring', 'none')
    return cell['model'] + ('' if rewiring == 'none' else f' + {rewiring}')


def show(result: Record) -> str:
    """A line for each model, a column for each size: mean ± half width.

    In bold the best of a size and all that are not significantly worse. Below
    it, what was measured of the graphs by rewiring.
    """
    columns = [
        _column(cells, result['shows_train'])
        for cells in result['cells'].values()
    ]
    names = list(series(result))
    rows = [list(row) for row in zip(names, *columns, strict=True)]
    tables = [table([result['axis'], *result['cells']], rows)]
    for name, by_rewiring in result['graphs'].items():
        rows = [
            [rewiring, *(f'{value:.1f}' for value in of.values())]
            for rewiring, of in by_rewiring.items()
        ]
        tables.append(table([name, *result['cells']], rows))
    return '\n\n'.join(tables)


def _column(cells: Sequence[Record], shows_train: bool) -> list[str]:
    best = _best(cells, 'values')
    fitted = _best(cells, 'train_values') if shows_train else []
    texts = []
    for cell in cells:
        text = f'{cell["mean"]:.2f}'
        if 'values' in cell:
            text = _marked(f'{text} ± {cell["half_width"]:.2f}', cell, best)
        if 'values' in cell and shows_train:
            train = _marked(f'{cell["train_mean"]:.2f}', cell, fitted)
            text = f'{text} ({train})'
        texts.append(text)
    return texts


def _best(cells: Sequence[Record], of: str) -> list[str]:
    values = {_name(cell): cell[of] for cell in cells if of in cell}
    return best_group(values, higher_is_better=True)


def _marked(text: str, cell: Record, best: Sequence[str]) -> str:
    return f'**{text}**' if _name(cell) in best else text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def draw(result: Record, path: Path) -> None:
    """Accuracy against size, in one panel or more.

    Models alone and with rewiring, where any stands with and without; new
    graphs and those that were trained on, where both are shown.
    """
    lines = series(result)
    both = {n.split(' + ')[0] for n in lines if ' + ' in n} & set(lines)
    changed = {n: c for n, c in lines.items() if n.split(' + ')[0] in both}
    plain = {
        n: c for n, c in lines.items() if ' + ' not in n or n not in changed
    }
    panels = [('accuracy', plain, 'mean')]
    if both:
        changed['chance'] = lines['chance']
        panels.append(('accuracy', changed, 'mean'))
    if result['shows_train']:
        panels.append(('accuracy on what was trained on', plain, 'train_mean'))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(8 * len(panels), 4.6),
        layout='constrained', squeeze=False,
    )  # fmt: skip
    for axis, (title, some, value) in zip(axes[0], panels, strict=True):
        _lines(axis, some, list(result['cells']), value)
        axis.set(xlabel=result['axis'], ylabel=title, ylim=(0, 1.03))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(
    axis: Axes,
    lines: Mapping[str, list[Record]],
    labels: list[str],
    value: str,
) -> None:
    places = range(len(labels))
    style = cycle(zip(COLORS, MARKERS, strict=True))
    for name, cells in lines.items():
        if name == 'chance':
            means = [cell['mean'] for cell in cells]
            axis.plot(places, means, ':', color='#7F7F7F', label=name)
            continue
        color, marker = next(style)
        spread = [cell['half_width'] or 0 for cell in cells]
        axis.errorbar(
            places, [cell[value] for cell in cells],
            spread if value == 'mean' else None,
            color=color, marker=marker, ms=4.5, lw=1.5, capsize=2, label=name,
        )  # fmt: skip
    axis.set_xticks(list(places), labels)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1.01, 1.0))
