"""How fast do the last tokens of two sequences come together in one layer?

    python benchmarks/last_token_collapse.py

One attention layer with one head of width 64 on tokens drawn at random, in
float64 (the protocol of Barbero et al., 2024, appendix C): the last token of a
sequence against that of the same sequence with its last token repeated, and
with its last token replaced; without position encoding and with three, on the
causal graph and on a window, with and without a learned sink. Writes
benchmarks/results/last_token_collapse.json.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gnnbridge.diagnostics.collapse import (
    CollapseCurve,
    collapse_slope,
    representation_collapse,
)
from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.rotary import rotate

WIDTH, SEEDS, WINDOW, SINK = 64, 20, 32, 6.0
LENGTHS = tuple(2**k for k in range(3, 13))
# Where a window is full, and a sink of exp(6) has become one key of many.
TAIL = 512
# One head of ALiBi has the slope 2^-8.
SLOPE, THETA = 2.0**-8, 10000.0
RESULTS = Path(__file__).parent / 'results' / 'last_token_collapse.json'


@dataclass(frozen=True)
class Variant:
    """One kind of layer.

    Attributes:
        positions: ``'none'``, ``'rope'``, ``'alibi'`` or ``'absolute'``.
        window: The keys that a query sees; all earlier ones if ``None``.
        sink: The logit of a learned sink; ``None`` without.
        scale: The factor of the scores; 0 is uniform attention.
        independent: Whether queries, keys and values are drawn on their own
            instead of projected from one embedding.
    """

    positions: str = 'none'
    window: int | None = None
    sink: float | None = None
    scale: float = WIDTH**-0.5
    independent: bool = False


VARIANTS = {
    'no encoding': Variant(),
    'no encoding, independent q, k, v': Variant(independent=True),
    'RoPE': Variant('rope'),
    'ALiBi': Variant('alibi'),
    'absolute': Variant('absolute'),
    'uniform attention': Variant(scale=0.0),
    f'window {WINDOW}': Variant(window=WINDOW),
    f'RoPE, window {WINDOW}': Variant('rope', window=WINDOW),
    f'sink logit {SINK:g}': Variant(sink=SINK),
}


class OneLayer:
    """One layer of attention on the tokens of each seed, a head for each.

    Row ``s`` of what it reads is written in the vocabulary of seed ``s``.

    Args:
        variant: The kind of layer.
        vocabulary: How many tokens each seed has.
        seeds: How many seeds.
    """

    def __init__(
        self, variant: Variant, vocabulary: int, seeds: int = SEEDS
    ) -> None:
        self.variant, self.conv = variant, AttentionConv()
        drawn = [self._draw(seed, vocabulary) for seed in range(seeds)]
        # Tokens first, so that a row of tokens is a row of heads.
        self.tables = [
            torch.stack([one[part] for one in drawn], dim=1) for part in (0, 1)
        ]

    def _draw(self, seed: int, vocabulary: int) -> tuple[Tensor, Tensor]:
        """Queries, keys and values ``[V, 3, d]``, projections ``[3, d, d]``."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        maps = normal(3, WIDTH, WIDTH) / math.sqrt(WIDTH)
        if self.variant.independent:
            return normal(vocabulary, 3, WIDTH), maps
        embedding = normal(vocabulary, WIDTH)
        return torch.einsum('vd,pde->vpe', embedding, maps), maps

    def __call__(self, ids: Tensor) -> Tensor:
        """The outputs ``[S, d]`` at the last token of rows ``[S, T]``."""
        length, variant = ids.size(1), self.variant
        table, maps = self.tables
        head = torch.arange(ids.size(0))
        tokens = table[ids.T, head].unbind(2)  # each [T, S, d]
        position = torch.arange(length)
        if variant.positions == 'absolute':
            shift = torch.einsum('td,psde->ptse', _waves(length), maps)
            tokens = [x + s for x, s in zip(tokens, shift, strict=True)]
        query, key, value = tokens
        query = query[-1:]
        if variant.positions == 'rope':
            query = rotate(query, position[-1:], THETA)
            key = rotate(key, position, THETA)
        edges = _into_last(length, variant.window)
        bias = None
        if variant.positions == 'alibi':
            bias = -SLOPE * (length - 1 - edges[0]).double()
        sink = None
        if variant.sink is not None:
            sink = value.new_full((len(head),), variant.sink)
        out = self.conv(
            query, key, value, edges,
            scale=variant.scale, edge_bias=bias, s_aux=sink,
        )  # fmt: skip
        return out[0]


@lru_cache(maxsize=2)
def _into_last(length: int, window: int | None) -> Tensor:
    """The edges into the last token, as those of a single query."""
    if window is None:
        graph = causal_graph(length)
    else:
        graph = sliding_window_graph(length, window)
    source, target = graph.edge_index
    source = source[target == length - 1]
    return torch.stack([source, torch.zeros_like(source)])


def _waves(length: int) -> Tensor:
    """Absolute positions as sines and cosines ``[T, d]``."""
    step = torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH
    angle = torch.arange(length).unsqueeze(1) * THETA**-step
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def curve(
    variant: Variant,
    pair: Any = 'repeat_last',
    lengths: tuple[int, ...] = LENGTHS,
    seeds: int = SEEDS,
) -> CollapseCurve:
    """The collapse of one kind of layer over its seeds."""
    size = max(lengths) + 1
    layer = OneLayer(variant, size, seeds)
    generator = torch.Generator().manual_seed(seeds)
    order = torch.rand(seeds, size, generator=generator).argsort(1)
    return representation_collapse(layer, order, lengths, pair=pair)


def summary(found: CollapseCurve) -> dict[str, Any]:
    """Means over the seeds, and the exponents of all and of the long."""
    mean = found.l1.mean(0)
    tail = [k for k, n in enumerate(found.lengths) if n >= TAIL]
    long = collapse_slope([found.lengths[k] for k in tail], mean[tail])
    return {
        'l1': [round(x, 6) for x in mean.tolist()],
        'l1_deviation': [round(x, 6) for x in found.l1.std(0).tolist()],
        'linf': [round(x, 7) for x in found.linf.mean(0).tolist()],
        'cosine': [round(x, 6) for x in found.cosine.mean(0).tolist()],
        'slope': [round(x, 3) for x in found.slope],
        'slope_of_the_tail': [round(x, 3) for x in long],
    }


def measure() -> dict[str, Any]:
    """All kinds of layers, both pairs."""
    work = [
        (p, v) for p in ('repeat_last', 'substitute_last') for v in VARIANTS
    ]
    found: dict[str, Any] = {}
    for pair, name in tqdm(work):
        found.setdefault(pair, {})[name] = summary(curve(VARIANTS[name], pair))
    return found


def table(result: dict[str, Any]) -> str:
    """The mean L1 distance of the repeated token, by length, and exponents."""
    shown = [k for k, n in enumerate(result['lengths']) if k % 2 == 0 or k == 9]
    heads = [f'n = {result["lengths"][k]}' for k in shown]
    heads += ['slope', f'slope from {TAIL}', 'slope, replaced token']
    lines = [
        '| layer | ' + ' | '.join(heads) + ' |',
        '|---' * (1 + len(heads)) + '|',
    ]
    for name, row in result['repeat_last'].items():
        other = result['substitute_last'][name]
        slopes = [row['slope'], row['slope_of_the_tail'], other['slope']]
        cells = [f'{row["l1"][k]:.3g}' for k in shown]
        cells += [f'{slope:.2f} ± {error:.2f}' for slope, error in slopes]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    """Measures, writes the results and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--out', type=Path, default=RESULTS)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    result = {
        'python': platform.python_version(),
        'torch': torch.__version__,
        'width': WIDTH,
        'seeds': SEEDS,
        'lengths': LENGTHS,
        'tail': TAIL,
        **measure(),
    }
    out.write_text(json.dumps(result, indent=1) + '\n')
    print(table(result))


if __name__ == '__main__':
    main()
