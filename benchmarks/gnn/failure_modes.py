"""The failure modes of GNNs and of a decoder, by the same measures.

    python benchmarks/gnn/failure_modes.py

GNNs of eight layers that were trained on block models (over-smoothing) and on
RingTransfer (over-squashing), beside the decoder that ships with the package
on prose. Measures, of all of them: the Dirichlet energy of states over their
norm, layer by layer; how much the states of nodes at a distance change a
node's last state (norms of Jacobians); and whether the effective resistance of
the graph tells which pairs hear each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from by_size import COLORS, MARKERS, arguments, plt, rounded, table
from over_smoothing import BATCH_NODES, energies
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_networkx
from tqdm import tqdm

from gnnbridge.bench.batching import collate
from gnnbridge.bench.models.graph_model import GraphModel
from gnnbridge.bench.models.registry import build_model
from gnnbridge.bench.statistics import interval
from gnnbridge.bench.summary import machine
from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.registry import make_task
from gnnbridge.bench.training import Schedule, fit
from gnnbridge.datasets.text import byte_windows, python_corpus
from gnnbridge.diagnostics.agreement import partial_spearman, spearman
from gnnbridge.diagnostics.jacobian import jacobian_norms
from gnnbridge.diagnostics.oversmoothing import dirichlet_energy
from gnnbridge.models.capture import capture
from gnnbridge.models.embedded import load_embedded
from gnnbridge.models.stack import block_stack
from gnnbridge.spectral.resistance import effective_resistance

MODELS = ('gcn', 'gin', 'gatv2', 'gps', 'graph_transformer', 'differential')
SEEDS = (0, 1, 2, 3, 4)
STEPS, RATE, BUDGET, LAYERS = 300, 3e-3, 16_000, 8
TOKENS = 48
DECODER = 'decoder (embedded)'


def main() -> None:
    """Measures what is missing, and writes all that is there."""
    asked = arguments(__doc__ or '')
    torch.set_num_threads(1)
    small = {'graphs': (8, 4, 4)} if asked.tiny else {}
    blocks = make_task('csbm', **small)
    ring = make_task('ring_transfer', size=2 * LAYERS, **small)
    seeds = SEEDS[:2] if asked.tiny else SEEDS
    names = [*MODELS, DECODER]
    found: dict[str, list[Any]] = {name: [] for name in names}
    work = [(name, seed) for seed in seeds for name in names]
    # What was trained with other settings is not taken for the same.
    steps = 2 if asked.tiny else STEPS
    settings = f'{steps}-{BUDGET}-{LAYERS}-{BATCH_NODES}'
    folder = asked.runs / f'failure_modes-{settings}'
    for name, seed in (progress := tqdm(work)):
        progress.set_postfix_str(f'{name}, seed {seed}')
        file = folder / f'{name}-{seed}.json'
        if asked.tiny or not file.exists():
            record = (
                of_decoder(seed)
                if name == DECODER
                else of_gnn(name, blocks, ring, seed, steps)
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(record))
        found[name].append(json.loads(file.read_text()))
    result = {
        'machine': machine('cpu'),
        'seeds': list(seeds),
        'layers': LAYERS,
        'models': {name: summed(records) for name, records in found.items()},
    }
    path = asked.results / 'gnn_failure_modes.json'
    path.write_text(json.dumps(rounded(result), indent=1) + '\n')
    draw(rounded(result), path.with_suffix('.png'))
    print(show(rounded(result)))


def of_gnn(
    name: str, blocks: Task, ring: Task, seed: int, steps: int
) -> dict[str, Any]:
    """Energies and resistances on block models, distances on rings."""
    on_blocks, batch, accuracy = _trained(name, blocks, seed, steps)
    graph = batch.get_example(0)
    norms = _norms(on_blocks, graph)
    resistance = effective_resistance(
        graph.edge_index, num_nodes=graph.num_nodes, kind='undirected'
    )
    on_ring, batch, right = _trained(name, ring, seed, steps)
    one = batch.get_example(0)
    return {
        'accuracy': accuracy,
        'accuracy_on_ring': right,
        'energy': energies(on_blocks, batch=_test(blocks, seed)),
        'by_distance': _by_distance(_norms(on_ring, one), _distances(one)),
        **_agreement(resistance, norms, _distances(graph)),
    }


def of_decoder(seed: int) -> dict[str, Any]:
    """The same of the decoder, on a window of held-out prose."""
    model, _ = load_embedded()
    generator = torch.Generator().manual_seed(seed)
    text, bos = python_corpus('held_out').text, model.config.bos_token_id
    ids = byte_windows(text, 1, TOKENS, bos=bos, generator=generator)
    graphs = capture(model, ids)
    with block_stack(model, ids) as stack:
        norms = jacobian_norms(*stack, method='exact').norm
        last = stack.outgoing
    energy = [*dirichlet_energy(graphs, normalized=True).tolist()]
    mean = graphs[-1]
    energy.append(
        float(
            dirichlet_energy(
                last, mean.edge_index, mean.edge_weight, normalized=True
            )
        )
    )
    place = torch.arange(TOKENS)
    distance = place.unsqueeze(1) - place
    resistance = torch.stack(
        [
            effective_resistance(
                g.edge_index, g.edge_weight, TOKENS, hops=len(graphs),
                renormalize=True,
            )
            for g in graphs
        ]
    ).mean(0)  # fmt: skip
    return {
        'energy': energy,
        'by_distance': _by_distance(norms, distance),
        **_agreement(resistance, norms, distance),
    }


def _trained(
    name: str, task: Task, seed: int, steps: int
) -> tuple[GraphModel, Any, float]:
    batches = collate(task.load(seed), nodes=BATCH_NODES, seed=seed)
    model = build_model(name, task, budget=BUDGET, layers=LAYERS, seed=seed)
    fitted = fit(model, batches, task, Schedule(steps, 10, RATE, seed))
    return model.eval(), batches.test[0], fitted.test


def _test(task: Task, seed: int) -> Any:
    return collate(task.load(seed), nodes=BATCH_NODES, seed=seed).test[0]


def _norms(model: GraphModel, graph: Data) -> Tensor:
    """Norms of the derivatives of last states by first ones ``[N, N]``."""
    with torch.no_grad():
        states = model.states(graph)[0]
    return jacobian_norms(
        lambda x: model.from_states(x, graph), states, method='exact'
    ).norm


def _distances(graph: Data) -> Tensor:
    """Hops from each source to each receiver; -1 if there is no path."""
    size = int(graph.num_nodes or 0)
    found = torch.full((size, size), -1)
    lengths = nx.all_pairs_shortest_path_length(to_networkx(graph))
    for source, reached in lengths:
        for receiver, hops in reached.items():
            found[receiver, source] = hops
    return found


def _by_distance(norms: Tensor, distance: Tensor) -> list[float]:
    """The mean norm at each distance, over that of a node in itself."""
    most = int(distance.max())
    means = [float(norms[distance == d].mean()) for d in range(most + 1)]
    return [mean / means[0] for mean in means]


def _agreement(
    resistance: Tensor, norms: Tensor, distance: Tensor
) -> dict[str, float]:
    """How well low resistance orders Jacobians, also given the distance."""
    pairs = (distance > 0) & resistance.isfinite()
    low, heard = -resistance[pairs].numpy(), norms[pairs].numpy()
    given = [distance[pairs].numpy()]
    return {
        'spearman': spearman(low, heard),
        'given_distance': partial_spearman(low, heard, given),
    }


def summed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and intervals over seeds; of curves in the logarithm."""
    found: dict[str, Any] = {}
    for key, value in records[0].items():
        values = [one[key] for one in records]
        if isinstance(value, list):
            shortest = min(map(len, values))
            rows = np.log([row[:shortest] for row in values])
            found[key] = np.exp(rows.mean(0)).tolist()
        else:
            mean, half_width = interval(values)
            found[key] = {'mean': mean, 'half_width': half_width}
    return found


def show(result: Mapping[str, Any]) -> str:
    """One line for each model, of both families."""
    heads = [
        '', 'accuracy, blocks', 'accuracy, ring of 16',
        'energy, last over first', 'Jacobian at distance 4 over own',
        'at distance 8', 'low resistance is heard', 'given distance',
    ]  # fmt: skip
    rows = []
    for name, of in result['models'].items():
        cells = [
            _cell(of[key]) if key in of else ''
            for key in ('accuracy', 'accuracy_on_ring')
        ]
        cells.append(f'{of["energy"][-1] / of["energy"][0]:.2g}')
        cells += [f'{of["by_distance"][d]:.1e}' for d in (4, 8)]
        cells += [_cell(of[key]) for key in ('spearman', 'given_distance')]
        rows.append([name, *cells])
    return table(heads, rows)


def _cell(figure: Mapping[str, float]) -> str:
    return f'{figure["mean"]:.2f} ± {figure["half_width"]:.2f}'


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Energy by depth, Jacobians by distance, agreement with resistance."""
    figure, axes = plt.subplots(1, 3, figsize=(17, 4.8), layout='constrained')
    for place, ((name, of), color, marker) in enumerate(
        zip(result['models'].items(), COLORS, MARKERS, strict=False)
    ):
        energy = np.array(of['energy'])
        share = np.linspace(0, 1, len(energy))
        style = {
            'color': color,
            'marker': marker,
            'ms': 4,
            'label': name,
            'lw': 2.5 if name == DECODER else 1.5,
        }
        axes[0].semilogy(share, energy / energy[0], **style)
        axes[1].semilogy(of['by_distance'], **style)
        for key, shift, fill in (
            ('spearman', -0.15, color),
            ('given_distance', 0.15, 'white'),
        ):
            axes[2].errorbar(
                of[key]['mean'], place + shift, xerr=of[key]['half_width'],
                color=color, marker='o', mfc=fill, capsize=3,
            )  # fmt: skip
    axes[0].set_xlabel('share of the layers')
    axes[0].set_ylabel('Dirichlet energy over norm, of the first')
    axes[1].set_xlabel('distance of the source (hops; tokens)')
    axes[1].set_ylabel("Jacobian, over that of a node's own")
    axes[2].set_yticks(range(len(result['models'])), list(result['models']))
    axes[2].axvline(0, color='#7F7F7F', lw=0.8)
    axes[2].set_xlabel(
        'rank correlation of conductance and Jacobian\n'
        '(hollow: given the distance)'
    )
    axes[2].invert_yaxis()
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == '__main__':
    main()
