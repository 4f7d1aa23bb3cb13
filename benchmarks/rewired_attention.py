"""Which sparse attention pattern costs a trained decoder least?

    python benchmarks/rewired_attention.py
    python benchmarks/rewired_attention.py --model DIR=64   # 64 tokens

runs the embedded model (and any model directory) on patterns of 4 to 64 edges
per token, nothing retrained, and measures its loss on held-out text and, where
it knows the vocabulary of the streams, its key-value retrieval. Samples of
text and streams, what is measured beforehand and random patterns differ from
seed to seed. Writes benchmarks/results/rewired_attention.json and .png.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from embedded_model import IDS, VOCABULARY
from rewired.figure import draw
from rewired.patterns import NAMES, ORACLES, Patterns

import gnnbridge as gb
from gnnbridge.datasets.retrieval import RetrievalBatch, key_value_retrieval
from gnnbridge.datasets.text import byte_windows, python_corpus

TOKENS, TEXTS, STREAMS, PAIRS = 256, 16, 64, 16
BUDGETS = (4, 8, 16, 32, 64)
SEEDS = (0, 1, 2)
RESULTS = HERE / 'results' / 'rewired_attention.json'


class Trial:
    """One model on the samples of one seed."""

    def __init__(self, model: PreTrainedModel, tokens: int, seed: int) -> None:
        self.model, self.tokens = model, tokens
        generator = torch.Generator().manual_seed(seed)
        bos = min(VOCABULARY.bos, model.config.vocab_size - 1)

        def sample(split: str) -> Tensor:
            text = python_corpus(split).text
            return byte_windows(
                text, TEXTS, self.tokens, bos=bos, generator=generator
            )

        self.text, measured = sample('held_out'), sample('train')
        self.streams: RetrievalBatch | None = None
        if model.config.vocab_size > max(IDS.values()):
            self.streams = key_value_retrieval(
                STREAMS, PAIRS, VOCABULARY, generator=generator
            )
        graphs = gb.capture(model, measured)
        self.patterns = Patterns(graphs, self.tokens)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Loss and accuracy of the model as it is now."""
        logits = self.model(self.text).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), self.text[:, 1:].flatten())
        found = {'nats': float(loss)}
        if self.streams is not None:
            asked = self.streams.asked_at
            logits = self.model(self.streams.input_ids).logits[:, asked]
            wanted = self.streams.values.gather(1, self.streams.gold)
            right = logits.argmax(-1) == wanted
            found['retrieval'] = float(right.float().mean())
        return found

    def on(self, name: str, budget: int, seed: int) -> dict[str, float] | None:
        """The same with its attention on a pattern."""
        what = self.patterns.make(name, budget, seed)
        if what is None:
            return None
        with gb.rewire(self.model, what):
            return self.measure()


def spread(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, least and greatest value over the seeds."""
    return {
        name: {
            'mean': round(statistics.mean(run[name] for run in runs), 4),
            'min': round(min(run[name] for run in runs), 4),
            'max': round(max(run[name] for run in runs), 4),
        }
        for name in runs[0]
    }


def measure_model(
    model: PreTrainedModel, name: str, tokens: int = TOKENS
) -> dict[str, Any]:
    """All patterns at all budgets."""
    model.eval()
    trials = [Trial(model, tokens, seed) for seed in tqdm(SEEDS, desc=name)]
    full = [trial.measure() for trial in trials]
    work = [(p, b) for p in NAMES for b in BUDGETS if b < tokens]
    curves: dict[str, Any] = {}
    for pattern, budget in tqdm(work, desc=name):
        runs = [
            trial.on(pattern, budget, seed)
            for seed, trial in zip(SEEDS, trials, strict=True)
        ]
        if runs[0] is not None:
            for run, whole in zip(runs, full, strict=True):
                run['excess'] = run['nats'] - whole['nats']
            curves.setdefault(pattern, {})[str(budget)] = spread(runs)
    return {
        'tokens': tokens,
        'hops': round(trials[0].patterns.hops, 3),
        'full': spread(full),
        'patterns': curves,
    }


def verdicts(models: dict[str, Any]) -> dict[str, Any]:
    """The best static pattern of each model at each budget."""
    found: dict[str, Any] = {}
    for name, result in models.items():
        for measure, pick in (('nats', min), ('retrieval', max)):
            if measure not in result['full']:
                continue
            for budget in map(str, BUDGETS):
                static = {
                    pattern: curve[budget][measure]['mean']
                    for pattern, curve in result['patterns'].items()
                    if pattern not in ORACLES and budget in curve
                }
                if not static:
                    continue
                best = pick(static, key=static.__getitem__)
                found.setdefault(name, {}).setdefault(measure, {})[budget] = (
                    best
                )
    return found


def main() -> None:
    """Measures the models and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument(
        '--model', action='append', default=[], metavar='DIR[=TOKENS]'
    )
    parser.add_argument('--out', type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    models = {'embedded': measure_model(gb.load_embedded()[0], 'embedded')}
    for given in asked.model:
        path, _, tokens = given.partition('=')
        name = Path(path).name
        if name == 'model' or name.startswith('checkpoint'):
            name = Path(path).parent.name
        model = AutoModelForCausalLM.from_pretrained(path)
        models[name] = measure_model(model, name, int(tokens or TOKENS))
    result = {
        'machine': {
            'processor': platform.processor() or platform.machine(),
            'python': platform.python_version(),
            'torch': torch.__version__,
            'transformers': transformers.__version__,
        },
        'corpus_sha256': python_corpus('held_out').sha256,
        'texts': TEXTS,
        'streams': STREAMS,
        'pairs': PAIRS,
        'seeds': list(SEEDS),
        'best_static': verdicts(models),
        'models': models,
    }
    asked.out.write_text(json.dumps(result, indent=1) + '\n')
    draw(result, asked.out.with_suffix('.png'))
    show(result)


def show(result: dict[str, Any]) -> None:
    """Loss and retrieval by edges per token."""
    for name, found in result['models'].items():
        full = {k: v['mean'] for k, v in found['full'].items()}
        print(f'\n{name}, {found["tokens"]} tokens, full attention {full}')
        print(' ' * 30, *(f'{budget:>13}' for budget in BUDGETS))
        for pattern, curve in found['patterns'].items():
            cells = []
            for budget in map(str, BUDGETS):
                point = curve.get(budget, {})
                means = [
                    f'{point[name]["mean"]:.3f}'
                    for name in ('nats', 'retrieval')
                    if name in point
                ]
                cells.append(f'{" / ".join(means):>13}')
            print(f'{pattern:30}', *cells)
    print('\nbest static pattern:', json.dumps(result['best_static'], indent=1))


if __name__ == '__main__':
    main()
