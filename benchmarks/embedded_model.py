"""Do all seeds of the embedded model meet its bars, and untrained ones not?

Gathers what `examples/train_embedded.py` wrote for each seed:

    python benchmarks/embedded_model.py runs
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

FIGURES = (
    'sink_rate_held_out',
    'sink_rate_backcopy',
    'retrieval',
    'spearman',
    'gain_over_unigram',
    'nats_per_byte',
    'unigram_nats_per_byte',
)
RESULTS = Path(__file__).parent / 'results' / 'embedded_model.json'


def spread(runs: list[dict], state: str, figure: str) -> dict[str, float]:
    values = [run[state][figure] for run in runs]
    return {
        'mean': statistics.mean(values),
        'min': min(values),
        'max': max(values),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('runs', type=Path)
    runs = [
        json.loads(file.read_text())
        for file in sorted(parser.parse_args().runs.glob('*/figures.json'))
    ]
    summary = {
        state: {figure: spread(runs, state, figure) for figure in FIGURES}
        for state in ('trained', 'reinitialised')
    }
    RESULTS.write_text(
        json.dumps({'summary': summary, 'seeds': runs}, indent=1) + '\n'
    )
    for figure in FIGURES:
        for state, figures in summary.items():
            low, high = figures[figure]['min'], figures[figure]['max']
            mean = figures[figure]['mean']
            print(f'{figure:24}{state:15}{mean:8.3f} {low:8.3f} {high:8.3f}')


if __name__ == '__main__':
    main()
