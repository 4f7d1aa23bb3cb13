"""One command for each experiment: train, measure, summarise, write, draw."""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from arms import SIZES, Arm, chosen
from experiments import SEEDS
from tqdm import tqdm
from transformers import PreTrainedModel

RESULTS = Path(__file__).parents[1] / 'results'
Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One arm under one condition.

    Attributes:
        name: What it is called in the results.
        arm: The decoder.
        measure: From the trained decoder and the seed to figures: numbers,
            lists of them, or mappings.
    """

    name: str
    arm: Arm
    measure: Callable[[PreTrainedModel, int], Record]


@dataclass(frozen=True)
class Experiment:
    """What one command runs.

    Attributes:
        name: The name of the results.
        cases: Everything that is compared, by group.
        draw: Draws the figure of the results to a path.
        show: The table of the results, in Markdown.
    """

    name: str
    cases: Mapping[str, list[Case]]
    draw: Callable[[Record, Path], None]
    show: Callable[[Record], str]


def main(experiment: Experiment, about: str) -> None:
    """Runs what is missing, and writes all that is there."""
    parser = argparse.ArgumentParser(description=about.split('\n\n')[0])
    parser.add_argument('--runs', type=Path, default=Path('runs/paper'))
    parser.add_argument('--seeds', type=int, nargs='+', default=list(SEEDS))
    parser.add_argument('--size', choices=SIZES, default='small')
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument(
        '--anew', action='store_true', help='measure again what was measured'
    )
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # sums in one order: one seed, one model
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings('ignore', message='.*pin_memory.*')
    runs = asked.runs if asked.size == 'small' else asked.runs / asked.size
    groups = {
        name: _measured(experiment.name, name, cases, asked, runs)
        for name, cases in experiment.cases.items()
    }
    result = {
        'machine': _machine(),
        'size': asked.size,
        'seeds': asked.seeds,
        'groups': groups,
    }
    suffix = '' if asked.size == 'small' else f'_{asked.size}'
    path = asked.results / f'paper_{experiment.name}{suffix}.json'
    path.write_text(_on_lines(rounded(result)))
    experiment.draw(rounded(result), path.with_suffix('.png'))
    print(experiment.show(rounded(result)))


def _measured(
    experiment: str,
    group: str,
    cases: list[Case],
    asked: argparse.Namespace,
    runs: Path,
) -> Record:
    """The figures of every case of a group, over its seeds."""
    found: Record = {}
    work = [(case, seed) for seed in asked.seeds for case in cases]
    for case, seed in (progress := tqdm(work, desc=group)):
        progress.set_postfix_str(f'{case.name}, seed {seed}')
        name = '-'.join((group, case.name, str(seed))).replace(' ', '_')
        file = runs / 'measured' / experiment / f'{name}.json'
        if asked.anew or not file.exists():
            arm = SIZES[asked.size](case.arm)
            model = arm.trained(seed, runs)
            record = case.measure(model, seed)
            if arm.rates:
                losses = arm.losses(runs)
                record['loss_at_rate'] = {f'{r:g}': losses[r] for r in losses}
            record['parameters'] = sum(p.numel() for p in model.parameters())
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(record))
        found.setdefault(case.name, []).append(json.loads(file.read_text()))
    return {name: over_seeds(records) for name, records in found.items()}


def over_seeds(records: list[Any]) -> Any:
    """Means, deviations and the values of all seeds, leaf by leaf.

    Lists of numbers become lists of means and of deviations. A figure that is
    missing, or no number, for one of the seeds is None.
    """
    first = records[0]
    if isinstance(first, Mapping):
        return {key: over_seeds([one[key] for one in records]) for key in first}
    if isinstance(first, list):
        columns = [list(column) for column in zip(*records, strict=True)]
        both = [over_seeds(column) for column in columns]
        return {
            'mean': [one and one['mean'] for one in both],
            'deviation': [one and one['deviation'] for one in both],
        }
    values = [one for one in records if one is not None and math.isfinite(one)]
    if len(values) < len(records):
        return None
    return {
        'mean': statistics.fmean(values),
        'deviation': statistics.stdev(values) if len(values) > 1 else 0.0,
        'values': values,
    }


def rounded(value: Any) -> Any:
    """Six digits of every float."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f'{value:.6g}') if isinstance(value, float) else value


def cell(figure: Record | None, digits: int = 2) -> str:
    """A mean with its deviation over seeds, for a table."""
    if figure is None:
        return '-'
    mean, deviation = figure['mean'], figure['deviation']
    return f'{mean:.{digits}f} ± {deviation:.{digits}f}'


def rate_of(figures: Record) -> float:
    """The learning rate that an arm was trained at, of those it had."""
    losses = figures['loss_at_rate']
    return chosen({float(rate): losses[rate]['mean'] for rate in losses})


def at(figure: Record, place: int) -> Record:
    """One of a list of figures, such as those by layer."""
    return {part: figure[part][place] for part in ('mean', 'deviation')}


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _on_lines(result: Record) -> str:
    """JSON with every list of numbers on a line of its own."""
    text = json.dumps(result, indent=1)
    lists = re.compile(r'\[[^\[\]{}]*\]')
    return lists.sub(lambda m: re.sub(r'\s+', ' ', m[0]), text) + '\n'


def _machine() -> Record:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        'processor': platform.processor() or platform.machine(),
        'gpu': gpu,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'transformers': transformers.__version__,
    }
