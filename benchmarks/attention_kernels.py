"""Attention over graphs at the speed that their structure allows.

Every line sets a kernel beside its peer in the same run, alternating, and
beside the bound that the machine's matrix products and memory set. Without a
GPU it runs on the CPU in float32; with `--device cuda` in bfloat16, against
flash attention and flex attention, with absolute times.

    python benchmarks/attention_kernels.py               all, on this CPU
    python benchmarks/attention_kernels.py --only window --only plan
    python benchmarks/attention_kernels.py --device cuda

writes benchmarks/results/attention_kernels.json (`_cuda.json` on a GPU) after
every line; lines that are there already are measured again only if `--only`
names them, or with `--all`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from torch import Tensor
from torch_geometric.nn import TransformerConv
from tqdm import tqdm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from attention.graphs import expander, random_causal, sparse_digraph, window
from attention.measure import (
    Clock,
    bound,
    bounds,
    inputs,
    measure_growth,
    peak_memory,
    trained,
)
from attention.peers import (
    OursAsTransformerConv,
    have_torch_scatter,
    message_passing,
    sdpa,
    torch_scatter_passing,
)

from gnnbridge.nn import AttentionConv, plan_attention

HEADS, WIDTH = 12, 64


class Bench:
    """Makes the lines of the table."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.dtype = torch.float32 if device == 'cpu' else torch.bfloat16
        self.clock = Clock(device)
        self.conv = AttentionConv()
        self.rates = bounds(device, self.dtype)

    def against(
        self,
        edge_index: Tensor | str,
        nodes: int,
        peer: Callable[..., Tensor],
        *,
        backward: bool,
        shape: tuple[int, int] = (HEADS, WIDTH),
    ) -> dict[str, Any]:
        """One kernel beside one peer."""
        tensors = inputs(nodes, *shape, self.device, self.dtype)
        plan = plan_attention(edge_index, (nodes, nodes)).to(self.device)

        def ours(*given: Tensor) -> Tensor:
            out = self.conv(*given, plan)
            assert isinstance(out, Tensor)
            return out

        with torch.no_grad():
            error = (ours(*tensors).float() - peer(*tensors).float()).abs()
        if backward:
            row = self.clock.pair(
                trained(ours, tensors), trained(peer, tensors)
            )
        else:
            with torch.no_grad():
                row = self.clock.pair(
                    lambda: ours(*tensors), lambda: peer(*tensors)
                )
        limit = bound(
            self.rates, plan.num_edges, nodes, *shape,
            self.dtype.itemsize, backward,
        )  # fmt: skip
        return {
            **row,
            'backend': plan.backend,
            'edges': plan.num_edges,
            'largest_difference': float(error.max()),
            'bound_s': limit,
            'share_of_bound': limit / row['ours_s'],
        }

    def planning(self, edge_index: Tensor, nodes: int, **shape: int) -> Any:
        """Planning a graph beside one forward pass over it."""
        heads, width = shape.get('heads', HEADS), shape.get('width', WIDTH)
        edge_index = edge_index.to(self.device)
        tensors = inputs(nodes, heads, width, self.device, self.dtype)
        plan = plan_attention(edge_index, (nodes, nodes))
        # A copy is a graph that was never seen.
        return self.clock.pair(
            lambda: plan_attention(edge_index.clone(), (nodes, nodes)),
            lambda: self.conv(*tensors, plan),
            seconds=6.0,
        )


Line = Callable[[Bench], Any]


def mask_of(edge_index: Tensor, nodes: int) -> Tensor:
    """The dense mask of a graph."""
    return plan_attention(edge_index, (nodes, nodes)).mask[0]


def causal(nodes: int, backward: bool) -> Line:
    """A full causal graph beside torch's causal kernel."""
    return lambda bench: bench.against(
        'causal', nodes, lambda *x: sdpa(*x, is_causal=True), backward=backward
    )


def dense_mask(
    graph: Callable[[int], Tensor], nodes: int, backward: bool
) -> Line:
    """A sparse graph beside torch's kernel with its mask."""

    def line(bench: Bench) -> Any:
        edge_index = graph(nodes)
        mask = mask_of(edge_index, nodes).to(bench.device)
        return bench.against(
            edge_index, nodes, lambda *x: sdpa(*x, attn_mask=mask),
            backward=backward,
        )  # fmt: skip

    return line


def gather_scatter(
    peer: str, graph: Callable[[int], Tensor], nodes: int
) -> Line:
    """A sparse graph beside gather, softmax and scatter."""

    def line(bench: Bench) -> Any:
        edge_index = graph(nodes).to(bench.device)
        return bench.against(
            edge_index, nodes, lambda *x: PEERS[peer](*x, edge_index),
            backward=False,
        )  # fmt: skip

    return line


def propagate(
    query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor
) -> Tensor:
    """The message passing of PyG's TransformerConv, on given projections."""
    heads, width = query.shape[1:]
    conv = TransformerConv(heads * width, width, heads=heads)
    return conv.propagate(
        edge_index, query=query, key=key, value=value, edge_attr=None
    )


PEERS = {
    'pyg': message_passing,
    'torch_scatter': torch_scatter_passing,
    'transformer_conv': propagate,
}


def gnn(backward: bool) -> Line:
    """PyG's whole TransformerConv on a large sparse graph."""

    def line(bench: Bench) -> Any:
        torch.manual_seed(0)
        edge_index = sparse_digraph().to(bench.device)
        peer = TransformerConv(128, 32, heads=4).to(bench.device)
        ours = OursAsTransformerConv(peer)
        plan = plan_attention(edge_index, (100_000, 100_000))
        x = torch.randn(100_000, 128, device=bench.device)
        with torch.no_grad():
            error = (ours(x, plan) - peer(x, edge_index)).abs().max()
        if backward:
            row = bench.clock.pair(
                trained(lambda y: ours(y, plan), [x]),
                trained(lambda y: peer(y, edge_index), [x]),
                seconds=40.0,
            )
        else:
            with torch.no_grad():
                row = bench.clock.pair(
                    lambda: ours(x, plan), lambda: peer(x, edge_index),
                    seconds=25.0,
                )  # fmt: skip
        return {
            **row, 'backend': plan.backend, 'edges': plan.num_edges,
            'largest_difference': float(error),
        }  # fmt: skip

    return line


def growth(bench: Bench) -> Any:
    """Times of an expander with a window as it grows."""
    rows = []
    for nodes in (2048, 4096, 8192, 16384):
        edge_index = expander(nodes).to(bench.device)
        plan = plan_attention(edge_index, (nodes, nodes))
        tensors = inputs(nodes, HEADS, WIDTH, bench.device, bench.dtype)
        both = trained(lambda *x, plan=plan: bench.conv(*x, plan), tensors)
        with torch.no_grad():
            ours = lambda tensors=tensors, plan=plan: bench.conv(*tensors, plan)  # noqa: E731
            forward = sorted(bench.clock.once(ours) for _ in range(6))[2]
        backward = sorted(bench.clock.once(both) for _ in range(4))[1]
        rows.append(
            {
                'tokens': nodes,
                'edges': plan.num_edges,
                'backend': plan.backend,
                'forward_s': forward,
                'forward_backward_s': backward,
            }  # fmt: skip
        )
    size = torch.tensor([row['edges'] for row in rows]).log()
    slopes = {}
    for name in ('forward_s', 'forward_backward_s'):
        spent = torch.tensor([row[name] for row in rows]).log()
        centred = size - size.mean()
        slopes[name] = float((centred * spent).sum() / centred.square().sum())
    return {'rows': rows, 'exponent': slopes}


def planning(graph: Callable[[], Tensor], nodes: int, **shape: int) -> Line:
    """Planning a graph beside one forward pass over it."""
    return lambda bench: bench.planning(graph(), nodes, **shape)


def full_causal_list(tokens: int) -> Tensor:
    """All edges of a causal graph, listed."""
    return plan_attention('causal', (tokens, tokens)).edge_index


# -- memory: each figure from a process of its own --------------------------

GRAPHS: dict[str, Callable[[], Tensor]] = {
    'window': lambda: window(4096),
    'random': lambda: random_causal(4096),
    'expander': lambda: expander(16384),
}


def grown(kind: str, graph: str, backward: bool) -> int:
    """Bytes that planning and running a graph need beyond its inputs."""
    conv, edge_index = AttentionConv(), GRAPHS[graph]()
    nodes = int(edge_index.max()) + 1

    def run(edge_index: Tensor, *tensors: Tensor) -> Tensor:
        if kind == 'ours':
            size = (tensors[0].size(0), tensors[0].size(0))
            out = conv(*tensors, plan_attention(edge_index, size))
            assert isinstance(out, Tensor)
            return out
        if kind == 'sdpa':
            mask = mask_of(edge_index, tensors[0].size(0))
            return sdpa(*tensors, attn_mask=mask)
        return PEERS[kind](*tensors, edge_index)

    def call(edge_index: Tensor, tensors: list[Tensor]) -> Any:
        if backward:
            return trained(lambda *x: run(edge_index, *x), tensors)()
        with torch.no_grad():
            return run(edge_index, *tensors)

    # Compilers and libraries load on the first call, of the same kernel.
    small = {'window': window, 'random': lambda n: random_causal(n, 0.05)}
    warm = small.get(graph, expander)(512)
    call(warm, inputs(512, HEADS, WIDTH, 'cpu', torch.float32))
    tensors = inputs(nodes, HEADS, WIDTH, 'cpu', torch.float32)
    return measure_growth(lambda: call(edge_index, tensors))


def memory(graph: str, peers: tuple[str, ...], backward: bool = False) -> Line:
    """Peak memory beside the peers', and beside what the inputs take."""

    def line(bench: Bench) -> Any:
        if bench.device != 'cpu':
            return None
        found = {
            kind: peak_memory(
                Path(__file__), '--memory', kind, graph, str(int(backward))
            )
            for kind in ('ours', *peers)
        }
        edge_index = GRAPHS[graph]()
        nodes, edges = int(edge_index.max()) + 1, edge_index.size(1)
        unit = 4 * (edges + nodes * HEADS * WIDTH)
        return {
            'bytes': found,
            'peers_over_ours': {p: found[p] / found['ours'] for p in peers},
            'ours_over_4(E+NHD)': found['ours'] / unit,
        }

    return line


# -- whole models ------------------------------------------------------------


def gpt2(device: str) -> Any:
    """A model of GPT-2's shape and its converted copy."""
    import copy

    from transformers import GPT2Config, GPT2LMHeadModel

    import gnnbridge as gb

    torch.manual_seed(0)
    config = GPT2Config(attn_implementation='sdpa')
    model = GPT2LMHeadModel(config).eval().to(device)
    return model, gb.convert(copy.deepcopy(model))


def prefill(bench: Bench) -> Any:
    """A forward pass of 1024 tokens."""
    model, ours = gpt2(bench.device)
    ids = torch.randint(50257, (1, 1024), device=bench.device)
    with torch.no_grad():
        return bench.clock.pair(lambda: ours(ids), lambda: model(ids), 40.0)


def training(bench: Bench) -> Any:
    """Forward and backward of 1024 tokens."""
    model, ours = gpt2(bench.device)
    ids = torch.randint(50257, (1, 1024), device=bench.device)

    def step(model: Any) -> None:
        model.zero_grad()
        model(ids, labels=ids).loss.backward()

    return bench.clock.pair(lambda: step(ours), lambda: step(model), 60.0)


def decode(bench: Bench) -> Any:
    """Eight tokens after 512, one at a time, with a KV cache."""
    from transformers import DynamicCache

    model, ours = gpt2(bench.device)
    ids = torch.randint(50257, (1, 520), device=bench.device)
    caches = {}
    with torch.no_grad():
        for one in (model, ours):
            cache = DynamicCache(config=one.config)
            one(ids[:, :512], past_key_values=cache, logits_to_keep=1)
            caches[one] = cache

        def go_on(one: Any) -> None:
            for place in range(512, 520):
                one(ids[:, place : place + 1], past_key_values=caches[one])
            caches[one].crop(512)

        row = bench.clock.pair(lambda: go_on(ours), lambda: go_on(model), 40.0)
    row['ours_s'], row['peer_s'] = row['ours_s'] / 8, row['peer_s'] / 8
    return row


def lines(device: str) -> dict[str, Line]:
    """All lines of the table by name."""
    table: dict[str, Line] = {}
    tokens = (1024, 4096) if device == 'cpu' else (1024, 4096, 32768)
    for nodes in tokens:
        for backward in (False, True):
            way = 'forward_backward' if backward else 'forward'
            table[f'causal_{nodes}_{way}'] = causal(nodes, backward)
    for backward in (False, True):
        way = 'forward_backward' if backward else 'forward'
        for name, graph in (('window', window), ('random', random_causal)):
            table[f'{name}_4096_{way}'] = dense_mask(graph, 4096, backward)
        table[f'expander_16384_{way}'] = dense_mask(expander, 16384, backward)
        table[f'gnn_{way}'] = gnn(backward)
    for peer in PEERS:
        if peer == 'torch_scatter' and not have_torch_scatter():
            continue
        for name, graph in (('window', window), ('random', random_causal)):
            table[f'{name}_4096_against_{peer}'] = gather_scatter(
                peer, graph, 4096
            )
    table['expander_growth'] = growth
    for name, peers in (
        ('window', ('sdpa', 'pyg', 'transformer_conv')),
        ('random', ('sdpa', 'pyg', 'transformer_conv')),
        ('expander', ()),
    ):
        table[f'memory_{name}'] = memory(name, peers)
    table['memory_expander_backward'] = memory('expander', (), True)
    table['model_prefill'] = prefill
    table['model_training'] = training
    table['model_decode'] = decode
    table['plan_causal_1024'] = planning(lambda: full_causal_list(1024), 1024)
    table['plan_window_4096'] = planning(lambda: window(4096), 4096)
    table['plan_random_4096'] = planning(lambda: random_causal(4096), 4096)
    table['plan_expander_16384'] = planning(lambda: expander(16384), 16384)
    table['plan_gnn'] = planning(sparse_digraph, 100_000, heads=4, width=32)
    return table


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured with."""
    name = torch.cuda.get_device_name() if device == 'cuda' else _processor()
    return {
        'device': name,
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
    }


def _processor() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':')[1].strip()
    return platform.machine()


def main() -> None:
    """Measures what is asked for and writes it down."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--only', action='append', default=[])
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--memory', nargs=3)
    options = parser.parse_args()
    if options.memory:
        kind, graph, backward = options.memory
        print(json.dumps(grown(kind, graph, backward == '1')))
        return
    suffix = '' if options.device == 'cpu' else '_cuda'
    path = HERE / 'results' / f'attention_kernels{suffix}.json'
    here = machine(options.device)
    results = json.loads(path.read_text()) if path.exists() else {}
    if results.get('machine') != here:
        results = {'machine': here, 'lines': {}}
    bench = Bench(options.device)
    results['rates'] = bench.rates
    chosen = {
        name: line
        for name, line in lines(options.device).items()
        if any(name.startswith(prefix) for prefix in options.only)
        or options.all
        or (not options.only and name not in results['lines'])
    }
    for name, line in (progress := tqdm(chosen.items())):
        progress.set_postfix_str(name)
        results['lines'][name] = line(bench)
        path.write_text(json.dumps(results, indent=1) + '\n')
        tqdm.write(f'{name}: {json.dumps(results["lines"][name])}')


if __name__ == '__main__':
    main()
