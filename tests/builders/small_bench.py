"""A benchmark of tiny tasks and models, importable by other processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnnbridge.bench.cells import Cell, Effort, Suite
from gnnbridge.bench.materials import Materials, Parts
from gnnbridge.bench.task import Splits, Task

#: Names the file by which the model 'mortal' knows that it has died before.
MARKER = 'GNNBRIDGE_TEST_MARKER'
NODES = 4


def graph(kind: str, generator: torch.Generator) -> Data:
    """A ring whose nodes know their answer, noise aside."""
    classes = torch.randint(3, (NODES,), generator=generator)
    noise = 0.3 * torch.randn(NODES, 3, generator=generator)
    x = nn.functional.one_hot(classes, 3) + noise
    ring = torch.arange(NODES)
    edge_index = torch.stack([ring, ring.roll(-1)])
    mask = torch.rand(NODES, generator=generator) < 0.8
    mask[0] = True
    y: Tensor = classes[mask]
    if kind == 'distance':
        y = x[mask, :2] * 2 + 1
        y[0, 0] = float('nan')
    if kind == 'targets':
        y = (x[mask, :2] > 0.5).float()
    return Data(x=x, edge_index=edge_index, y=y, target_mask=mask)


def make_task(name: str, *, root: Path | None = None, graphs: int = 8) -> Task:
    def load(seed: int) -> Splits:
        if name == 'absent':
            raise FileNotFoundError(f"Expected 'absent' in '{root}'.\nGet it.")
        if name == 'damaged':
            raise EOFError('a file ends early')
        generator = torch.Generator().manual_seed(seed)
        return Splits(
            *([graph(name, generator) for _ in range(graphs)] for _ in 'abc')
        )

    if name == 'without_package':
        raise ImportError('Expected a package.')
    metrics = {
        'distance': 'mean_absolute_error',
        'targets': 'average_precision',
    }
    return Task(
        name=name,
        about='Which class a node is of.',
        level='node',
        metric=metrics.get(name, 'accuracy'),  # type: ignore[arg-type]
        outputs=2 if name in metrics else 3,
        features=3,
        layers=2,
        load=load,
        chance=None if name in metrics else 1 / 3,
    )


class Model(nn.Module):
    """A map of each node, and one of the mean of its neighbours."""

    def __init__(self, name: str, task: Task, dropout: float) -> None:
        super().__init__()
        self.name = name
        self.own = nn.Linear(3, task.outputs)
        self.others = nn.Linear(3, task.outputs)
        self.frozen = nn.Parameter(torch.zeros(5), requires_grad=False)
        self.dropout = nn.Dropout(dropout)
        self.calls = 0

    def forward(self, data: Data) -> Tensor:
        self.calls += 1
        if self.name == 'slow':
            time.sleep(0.02)
        source, target = data.edge_index
        x = self.dropout(data.x)
        gathered = torch.zeros_like(x).index_add(0, target, x[source])
        output = (self.own(x) + self.others(gathered))[data.target_mask]
        if self.name == 'diverging' and self.calls > 3:
            return output * float('nan')
        return output


def build_model(
    name: str,
    task: Task,
    *,
    budget: int,
    relations: int,
    dropout: float,
    seed: int,
) -> Model:
    if name == 'refused':
        raise ValueError("Expected 'budget' to hold a model.\nGive more.")
    if name == 'deadly':
        os.kill(os.getpid(), signal.SIGKILL)
    marker = Path(os.environ.get(MARKER, ''))
    if name == 'mortal' and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(name, task, dropout)


def rewired(
    name: str, splits: Splits, strength: float, seed: int
) -> tuple[Splits, int]:
    if name == 'unsuited':
        raise ValueError('Expected an undirected graph (got a directed one).')
    if name == 'none':
        return splits, 1
    both = [
        [
            Data(**{**g, 'edge_index': g['edge_index'].roll(1, 0)})
            for g in map(Data.to_dict, graphs)
        ]
        for graphs in splits
    ]
    return Splits(*both), 2


def strengths(name: str) -> tuple[float, ...]:
    return (0.0,) if name == 'none' else (0.25, 0.5, 1.0)


def is_relational(name: str) -> bool:
    return name != 'slow'


PARTS = Parts(make_task, build_model, rewired, strengths, is_relational)
CELLS = (
    Cell('classes', 'quick'),
    Cell('classes', 'quick', 'turned'),
    Cell('distance', 'quick'),
)


def materials(**changes: object) -> Materials:
    return Materials(PARTS, **changes)  # type: ignore[arg-type]


def suite(cells: tuple[Cell, ...] = CELLS, **changes: int) -> Suite:
    numbers = {'steps': 6, 'draws': 2, 'seeds': 2, 'evaluations': 3, **changes}
    return Suite('small', cells, Effort(**numbers))
