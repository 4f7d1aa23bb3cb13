"""What a profile costs, beside what was said before, and how its page opens.

    python benchmarks/profile_cost.py

profiles the embedded model at the default sizes in a fresh process, all
diagnostics of the model and of its re-initialised self, and a GPT-2 of 12
layers and 12 heads (random weights) on 1024 tokens, graphs only, whose page
is then opened in headless Chromium. Writes results/profile_cost.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

import gnnbridge as gb

HERE = Path(__file__).parent
TOKENS, OPENINGS = 1024, 5
KINDS = ('embedded', 'wide')


def memory(resources: dict[str, Any]) -> dict[str, Any]:
    """What was held, and what was said before of what would be."""
    peak, before = (
        resources[name] for name in ('peak_memory_bytes', 'memory_before_bytes')
    )
    return {
        'peak_memory_bytes': peak,
        'growth_bytes': peak - before,
        'estimated_memory_bytes': resources['estimated_memory_bytes'],
    }


def embedded() -> dict[str, Any]:
    """The whole profile of the embedded model."""
    model, tokenizer = gb.load_embedded()
    start = time.perf_counter()
    found = gb.profile(model, tokenizer, progress=False)
    seconds = time.perf_counter() - start
    return {
        'seconds': seconds,
        'timings': found.timings,
        'estimated_seconds': found.resources['estimated_seconds'],
        **memory(found.resources),
        'status': {k: v['status'] for k, v in found.diagnostics.items()},
    }


def wide(page: Path) -> dict[str, Any]:
    """A profile of 12 layers, 12 heads and 1024 tokens, and its page."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_positions=TOKENS)).eval()
    with torch.no_grad():
        for block in model.transformer.h:
            # Freshly drawn attention is uniform: make it choose.
            block.attn.c_attn.weight *= 8
    _, tokenizer = gb.load_embedded()
    from gnnbridge.datasets.text import sample_text

    text = sample_text() * (1 + TOKENS // len(sample_text()))
    start = time.perf_counter()
    found = gb.profile(
        model,
        tokenizer,
        text,
        max_tokens=TOKENS,
        diagnostics=('sinks', 'smoothing'),
        baseline=False,
        progress=False,
    )
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    found.to_html(page)
    return {
        'seconds': seconds,
        'page_seconds': time.perf_counter() - start,
        'page_bytes': page.stat().st_size,
        **memory(found.resources),
    }


def open_page(page: Path) -> dict[str, Any]:
    """Seconds until a browser has loaded and drawn a page."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which('chromium')
    if chromium is None:
        return {'browser': None}
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=['--no-sandbox', '--disable-background-networking'],
        )
        for _ in range(OPENINGS):
            tab = browser.new_page()
            start = time.perf_counter()
            tab.goto(page.as_uri(), wait_until='load')
            # Two frames: what was drawn is on the screen.
            tab.evaluate(
                'new Promise(done => requestAnimationFrame('
                '() => requestAnimationFrame(done)))'
            )
            seconds.append(time.perf_counter() - start)
            tab.close()
        version = browser.version
        browser.close()
    return {
        'browser': f'Chromium {version}',
        'open_seconds': statistics.median(seconds),
        'open_seconds_most': max(seconds),
    }


def summary(result: dict[str, Any]) -> str:
    """The sentence of the README."""
    own, wide_one = result['embedded'], result['wide']
    return (
        f'The whole profile of the embedded model takes {own["seconds"]:.0f} s '
        f'on {result["machine"]["threads"]} cores and '
        f'{own["growth_bytes"] / 2**20:.0f} MiB beside the libraries '
        f'({own["estimated_seconds"]:.0f} s and '
        f'{own["estimated_memory_bytes"] / 2**20:.0f} MiB were estimated); '
        f'the page of 12 layers and 12 heads on {TOKENS} tokens has '
        f'{wide_one["page_bytes"] / 1e6:.1f} MB and opens in '
        f'{wide_one["open_seconds"]:.1f} s.'
    )


def main() -> None:
    """Measures both kinds in fresh processes, or one in this very process."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--kind', choices=KINDS)
    parser.add_argument('--page', type=Path, default=Path('runs/wide.html'))
    options = parser.parse_args()
    if options.kind == 'embedded':
        print(json.dumps(embedded()))
        return
    if options.kind == 'wide':
        options.page.parent.mkdir(parents=True, exist_ok=True)
        print(json.dumps(wide(options.page)))
        return
    found = {}
    for kind in KINDS:
        command = [sys.executable, __file__, '--kind', kind]
        ran = subprocess.run(
            [*command, '--page', str(options.page)],
            capture_output=True,
            text=True,
            check=True,
        )
        found[kind] = json.loads(ran.stdout.splitlines()[-1])
    found['wide'] |= open_page(options.page.resolve())
    result = {
        'machine': {
            'processor': platform.processor() or platform.machine(),
            'cores': os.cpu_count(),
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
            'transformers': transformers.__version__,
        },
        **found,
    }
    path = HERE / 'results' / 'profile_cost.json'
    path.write_text(json.dumps(result, indent=1) + '\n')
    print(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()
