"""The benchmark's results as the table of the README."""

from __future__ import annotations

from typing import Any

# Graph, peer, and the lines forward and with the backward pass.
ROWS = [
    ('full causal, 1024 tokens', 'SDPA `is_causal`', 'causal_1024'),
    ('full causal, 4096 tokens', 'SDPA `is_causal`', 'causal_4096'),
    (
        'window of 128 + 4 sinks, 4096 tokens',
        'SDPA with the mask',
        'window_4096',
    ),
    ('random causal, 1 %, 4096 tokens', 'SDPA with the mask', 'random_4096'),
    (
        'expander + window of 128, 16384 tokens',
        'SDPA with the mask',
        'expander_16384',
    ),
    (
        'random digraph, 100k nodes, 1M edges',
        "`TransformerConv`'s propagation",
        'gnn_attention',
    ),
    (
        'the same with all projections',
        'PyG `TransformerConv`',
        'gnn',
    ),
]
PEERS = {
    'pyg': 'gather, `softmax`, scatter',
    'torch_scatter': 'the same by torch-scatter',
    'transformer_conv': "`TransformerConv`'s propagation",
}
MODEL = {
    'model_prefill': 'forward, 1024 tokens',
    'model_training': 'forward + backward, 1024 tokens',
    'model_decode': 'one token after 512, KV cache',
}


def table(results: dict[str, Any]) -> str:
    """Three markdown tables: kernels, message passing and a whole model."""
    lines = results['lines']
    text = [
        '| graph | peer | forward | forward + backward |',
        '|---|---|---|---|',
    ]
    for graph, peer, name in ROWS:
        ways = [lines[f'{name}_{way}'] for way in ('forward', BOTH)]
        text.append(f'| {graph} | {peer} | {" | ".join(map(_cell, ways))} |')
    text += [
        '',
        '| message passing | window + sinks | random |',
        '|---|---|---|',
    ]
    for peer, name in PEERS.items():
        cells = [
            _cell(lines[f'{graph}_4096_against_{peer}'])
            for graph in ('window', 'random')
        ]
        text.append(f'| {name} | {" | ".join(cells)} |')
    text += ['', '| converted model | beside sdpa |', '|---|---|']
    for name, work in MODEL.items():
        text.append(f'| {work} | {_cell(lines[name])} |')
    return '\n'.join(text)


BOTH = 'forward_backward'


def _cell(line: dict[str, Any]) -> str:
    """Times as fast, its spread over the rounds, and the share of the bound."""
    low, high = line['speedup_min_max']
    text = f'{line["speedup"]:.3g}x ({low:.3g} to {high:.3g})'
    share = line.get('share_of_bound')
    return f'{text}, {share:.0%}' if share else text
