"""How hard is it to hear each token of a sentence, and who hears the same?

    python examples/directed_resistance.py

Effective resistance on the directed token graphs of the embedded model:
sensitivity (causal resistance), collapse (Lyapunov resistance) and the edge
that would help the last token most.
"""

import torch

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.graph import to_attention
from gnnbridge.spectral import (
    absorption_time,
    effective_resistance,
    layered_influence,
    lyapunov_resistance,
    resistance_gradient,
)

TOKENS = 48


def main() -> None:
    """Prints one table and three lines."""
    model, tokenizer = gb.load_embedded()
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids[:, :TOKENS]
    graphs = gb.capture(model, ids)
    layers = [to_attention(graph) for graph in graphs]
    mixing = torch.stack([graph.mixing for graph in graphs])
    hops = mixing.mean(1).sum().item()
    print(f'{len(layers)} layers, {hops:.2f} attention hops on average\n')

    # One matrix for the model, and the walk through its layers.
    A = torch.stack(layers).mean(0)
    deep = effective_resistance(A, rows=-1)
    matched = effective_resistance(A, hops=hops, rows=-1)
    ends, meets = layered_influence(layers, mixing, rows=-1)
    print('the last token hears     R    R at depth     input    stream')
    for j in torch.linspace(0, TOKENS - 2, 9).long().tolist():
        token = repr(tokenizer.decode(ids[0, j]))
        print(
            f'{j:4d} {token:15s} {deep[j]:9.1f} {matched[j]:10.1f}'
            f' {ends[j]:11.4f} {meets[j]:9.4f}'
        )

    steps = absorption_time(A)[-1]
    print(f'\nits walk takes {steps:.1f} hops to end, the model has {hops:.2f}')
    apart = [lyapunov_resistance(layer) for layer in layers]
    later = torch.ones(TOKENS, TOKENS).tril(-1).bool()
    means = ', '.join(f'{r[later].mean():.2f}' for r in apart)
    print(f'Lyapunov resistance of a pair, by layer: {means}')

    # What a little more attention of the last token would do, for its pairs.
    last = torch.zeros(TOKENS, TOKENS)
    last[-1, 1:-1] = 1
    gain = -resistance_gradient(A, hops=hops, pairs=last)[-1]
    best = int(gain.argmax())
    print(f'the edge that would help it most comes from token {best}')


if __name__ == '__main__':
    main()
