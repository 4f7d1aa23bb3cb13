"""Memory of capturing the attention of a model, beside the model alone.

    python benchmarks/capture_memory.py

runs a GPT-2 of 12 layers and 12 heads (random weights) on 2048 tokens in fresh
processes: its forward pass, `capture` with the 32 heaviest edges of each query,
and eager attention with `output_attentions`, which transformers offers. Writes
benchmarks/results/capture_memory.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from attention.measure import measure_growth, peak_memory

import gnnbridge as gb

TOKENS, TOP_K, WARM_UP = 2048, 32, 16
KINDS = ('forward', 'capture', 'output_attentions')


def model_of(kind: str) -> GPT2LMHeadModel:
    """A GPT-2 of the usual shape; the kind says which attention it runs."""
    config = GPT2Config(n_positions=TOKENS)
    eager = 'eager' if kind == 'output_attentions' else 'sdpa'
    return GPT2LMHeadModel._from_config(config, attn_implementation=eager)


def run(kind: str, model: GPT2LMHeadModel, tokens: int) -> object:
    """One pass over so many tokens."""
    torch.manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (1, tokens))
    with torch.no_grad():
        if kind == 'capture':
            return gb.capture(model, ids, top_k=TOP_K, hidden_states=False)
        # The head's logits are no part of what is compared.
        return model.transformer(
            ids, output_attentions=kind == 'output_attentions'
        )


def main() -> None:
    """Measures all kinds, or one in this very process."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--kind', choices=KINDS)
    kind = parser.parse_args().kind
    if kind is not None:
        torch.manual_seed(0)
        model = model_of(kind).eval()
        run(kind, model, WARM_UP)
        print(json.dumps(measure_growth(lambda: run(kind, model, TOKENS))))
        return
    bytes_of = {
        kind: peak_memory(Path(__file__), '--kind', kind) for kind in KINDS
    }
    seconds = {}
    for kind in KINDS:
        model = model_of(kind).eval()
        run(kind, model, WARM_UP)
        start = time.perf_counter()
        run(kind, model, TOKENS)
        seconds[kind] = time.perf_counter() - start
    result = {
        'machine': {
            'processor': platform.processor() or platform.machine(),
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
            'transformers': transformers.__version__,
        },
        'tokens': TOKENS,
        'top_k': TOP_K,
        'peak_growth_bytes': bytes_of,
        'capture_above_forward_bytes': bytes_of['capture']
        - bytes_of['forward'],
        'seconds': seconds,
    }
    path = HERE / 'results' / 'capture_memory.json'
    path.write_text(json.dumps(result, indent=1) + '\n')
    print(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()
