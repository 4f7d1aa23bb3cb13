"""Which score of a forward pass tells how sensitive tokens are to others?

    python benchmarks/resistance_vs_jacobian.py

measures exact Jacobians of small decoders, trained and new, between all pairs
of tokens, and how well every score of the library and every baseline orders
them; the same for hiding a token from all later ones; whether Lyapunov
resistance tells whose attention outputs are alike; and whether early tokens
have the lower resistance. Two processes may share the work:

    python benchmarks/resistance_vs_jacobian.py --only '*new' '*peaky'

Decoders are trained by `--train`, minutes each; without it those that are
trained are measured. `--model DIR` adds any causal language model; above 8192
numbers in the states of 64 tokens its Jacobians are estimated. Figures of each
model stay in the directory of `--runs`, and a run that was ended goes on.
Writes benchmarks/results/resistance_vs_jacobian.json and .png.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import platform
import sys
from pathlib import Path
from typing import Any

import scipy
import torch
import transformers
from tqdm import tqdm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from jacobians.figure import draw
from jacobians.measure import measure
from jacobians.models import TOKENS
from jacobians.subjects import (
    MANY_TEXTS,
    SEEDS,
    TEXTS,
    is_trained,
    subjects,
)
from jacobians.summary import summary_of

RESULTS = HERE / 'results' / 'resistance_vs_jacobian.json'
MAIN_SCORES = (
    '-distance',
    'direct attention',
    'plain rollout, mixing 1/2',
    'T, measured mixing',
    'causal conductance',
    'depth-matched conductance',
    'rms rollout, gains',
    '+ token gains',
    '+ key path',
    'full rollout (+ query path)',
)


def rounded(value: Any) -> Any:
    """Four digits of every float."""
    if isinstance(value, dict):
        return {key: rounded(x) for key, x in value.items()}
    if isinstance(value, list):
        return [rounded(x) for x in value]
    return round(value, 4) if isinstance(value, float) else value


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--runs', type=Path, default=Path('runs/jacobians'))
    parser.add_argument('--model', type=Path, action='append', default=[])
    parser.add_argument('--only', nargs='+', default=['*'], metavar='GROUP')
    parser.add_argument('--train', action='store_true')
    return parser.parse_args()


def main() -> None:
    """Measures what is missing and writes all that is there."""
    asked = arguments()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    folder = asked.runs / 'measured'
    folder.mkdir(parents=True, exist_ok=True)
    everyone = subjects(asked.runs, asked.model)
    progress = tqdm(
        [
            subject
            for subject in everyone
            if any(fnmatch.fnmatch(subject.group, x) for x in asked.only)
            and (asked.train or is_trained(subject, asked.runs))
        ]
    )
    for subject in progress:
        progress.set_description(subject.name)
        measure(subject, folder)
    files = {s.name: folder / f'{s.name}.json' for s in everyone}
    records = [
        json.loads(path.read_text()) for path in files.values() if path.exists()
    ]
    result = rounded(
        {
            'machine': {
                'processor': platform.processor() or platform.machine(),
                'threads': torch.get_num_threads(),
                'python': platform.python_version(),
                'torch': torch.__version__,
                'transformers': transformers.__version__,
                'scipy': scipy.__version__,
            },
            'tokens': TOKENS,
            'texts': TEXTS,
            'texts_of_collapse': MANY_TEXTS,
            'seeds': list(SEEDS),
            'not_measured': [
                n for n, path in files.items() if not path.exists()
            ],
            **summary_of(records),
        }
    )
    RESULTS.write_text(json.dumps(result, indent=1) + '\n')
    draw(result, folder, RESULTS.with_suffix('.png'))
    show(result)


def show(result: dict[str, Any]) -> None:
    """The main figures: all pairs / per receiver / given the positions."""
    for part in ('jacobian', 'knockout'):
        for name, group in result['groups'].items():
            if part not in group:
                continue
            print(f'\n{name}, {part}, seeds {group["seeds"]}')
            for score, figures in group[part].items():
                if part == 'knockout' or score in MAIN_SCORES:
                    row = figures['without_token_0'].values()
                    means = (f'{column["mean"]:6.3f}' for column in row)
                    print(f'  {score:34}', *means)
    print('\nBars:', json.dumps(result['bars']))
    for name, found in result['verdicts'].items():
        print(name, json.dumps(found))


if __name__ == '__main__':
    main()
