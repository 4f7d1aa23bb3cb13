"""How close converted models are to their originals, by architecture.

Every model is tiny and has weights at which windows, softcaps, sinks and
scalings matter; errors are relative to the largest logit (or state, for single
layers), float32, against the original's eager attention.

    python benchmarks/parity.py        writes benchmarks/results/parity.json
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'tests' / 'builders'))

import architectures

import gnnbridge as gb


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    return float((found - expected).abs().max() / expected.abs().max())


def tokens(model: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    """Sixteen generated tokens."""
    torch.manual_seed(0)
    return model.generate(
        input_ids=inputs['input_ids'],
        attention_mask=inputs['attention_mask'],
        max_new_tokens=16,
        **options,
    )


@torch.no_grad()
def measure(name: str) -> dict[str, Any]:
    """All figures of one architecture."""
    model = architectures.build(name)
    reference = architectures.build(name)
    reference.set_attn_implementation('eager')
    inputs = architectures.inputs_for(model)
    default = model(**inputs)[0]
    row: dict[str, Any] = {
        'logits': error(gb.convert(model)(**inputs)[0], reference(**inputs)[0])
    }
    if name in architectures.DECODERS:
        padded = architectures.left_padded(model)
        real = padded['attention_mask'].bool()
        row['left_padded'] = error(
            model(**padded)[0][real], reference(**padded)[0][real]
        )
    if name in architectures.DECODERS or name in ('t5', 'bart'):
        padded = architectures.left_padded(model)
        for key, sample in (('greedy', False), ('sampled', True)):
            row[f'{key}_tokens_equal'] = torch.equal(
                tokens(model, padded, do_sample=sample),
                tokens(reference, padded, do_sample=sample),
            )
    gb.restore(model)
    row['restored_exactly'] = torch.equal(model(**inputs)[0], default)
    return row


def main() -> None:
    """Measures all architectures and writes the results."""
    names = [*architectures.DECODERS, *architectures.ENCODERS]
    rows = {name: measure(name) for name in tqdm(names)}
    results = {
        'what': 'largest relative error of converted models, float32',
        'torch': torch.__version__,
        'transformers': transformers.__version__,
        'machine': f'{platform.machine()} CPU',
        'worst': max(row['logits'] for row in rows.values()),
        'architectures': rows,
    }
    path = HERE / 'results' / 'parity.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + '\n')
    for name, row in rows.items():
        print(f'{name:20s}', row)
    print('written to', path)


if __name__ == '__main__':
    main()
