"""All pairs of a decoder's Jacobian: how near estimates are, and how fast.

    python benchmarks/hutchinson.py                # some 10 minutes, two cores

writes benchmarks/results/hutchinson.json. On the embedded model and on the
same with new weights,

- norms that `jacobian_norms` estimates with its default settings beside exact
  ones, over texts and seeds, and beside estimates from random signs alone;
- its seconds for a longer text beside `torch.autograd.functional.jacobian` of
  the same map, run as a whole, in turn in the same process.

Bars: a median relative error of 5 % at 64 tokens, and ten times the speed at
256.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Idle threads that spin would wait for cores that others use.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

import torch
from torch import Generator, Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

import gnnbridge as gb
from gnnbridge.datasets.text import byte_windows, python_corpus, sample_text
from gnnbridge.diagnostics.jacobian import jacobian_norms
from gnnbridge.models.loading import reinitialize
from gnnbridge.models.stack import Stack, block_stack

SHORT, LONG = 64, 256
TEXTS, SEEDS = 4, 3
PROBES = (4, 8, 16)
ERROR_BAR, SPEED_BAR = 0.05, 10.0
RESULTS = Path(__file__).parent / 'results' / 'hutchinson.json'


def texts(tokenizer: Any) -> Tensor:
    """The sample text and pieces of held-out text ``[TEXTS, SHORT]``."""
    own = tokenizer(sample_text(), return_tensors='pt').input_ids[:, :SHORT]
    others = byte_windows(
        python_corpus('held_out').text,
        TEXTS - 1,
        SHORT,
        bos=int(own[0, 0]),
        generator=Generator().manual_seed(0),
    )
    return torch.cat([own, others])


def below(norm: Tensor) -> Tensor:
    """The pairs of a token and one that it sees."""
    return torch.ones_like(norm).tril().bool()


def median_error(found: Tensor, exact: Tensor) -> float:
    """The median over the pairs of the relative error."""
    return float((found / exact - 1)[below(exact)].abs().median())


def plain_signs(J: Tensor, probes: int, generator: Generator) -> Tensor:
    """Hutchinson's estimate from random signs, from the Jacobian itself.

    Args:
        J: The Jacobian ``[N, N, d, d]``.
        probes: Signs for each receiver.
        generator: Source of chance.
    """
    shape = (len(J), probes, J.size(2))
    signs = 2.0 * torch.randint(0, 2, shape, generator=generator) - 1
    rows = torch.einsum('ika,ijab->ijkb', signs, J)
    return (rows.square().sum((2, 3)) / probes).double().sqrt()


def errors(model: PreTrainedModel, ids: Tensor) -> dict[str, Any]:
    """Errors on every text and with every seed."""
    rows: dict[str, list[float]] = {}
    spread, largest = [], 0.0
    for text in tqdm(ids, 'texts', leave=False):
        with block_stack(model, text) as stack:
            J = torch.autograd.functional.jacobian(*stack).transpose(1, 2)
            exact = J.double().square().sum((2, 3)).sqrt()
            ours = jacobian_norms(
                *stack, method='exact', prefix=stack.prefix
            ).norm
            off = (ours / exact - 1)[below(exact)].abs()
            largest = max(largest, float(off.max()))
            for seed in range(SEEDS):
                found = estimate(stack, seed)
                rows.setdefault('default', []).append(
                    median_error(found.norm, exact)
                )
                spread.append(calibration(found, exact))
                for count in PROBES:
                    found = estimate(stack, seed, probes=count)
                    rows.setdefault(f'{count} probes', []).append(
                        median_error(found.norm, exact)
                    )
                    signs = plain_signs(J, count, Generator().manual_seed(seed))
                    rows.setdefault(f'{count} plain signs', []).append(
                        median_error(signs, exact)
                    )
    return {
        'tokens': SHORT,
        'texts': len(ids),
        'seeds': SEEDS,
        'median_relative_error': {
            name: {
                'mean': statistics.mean(values),
                'least': min(values),
                'greatest': max(values),
            }
            for name, values in rows.items()
        },
        'largest_difference_of_exact': largest,
        # Deviations of the squares over their standard errors.
        'calibration': statistics.mean(spread),
    }


def estimate(stack: Stack, seed: int, **options: Any) -> Any:
    """All pairs, estimated."""
    return jacobian_norms(
        *stack,
        method='hutchinson',
        prefix=stack.prefix,
        generator=Generator().manual_seed(seed),
        **options,
    )


def calibration(found: Any, exact: Tensor) -> float:
    """Root mean square of the errors over what they are said to be."""
    off = found.norm.square() - exact.square()
    claimed = (2 * found.norm * found.error)[below(exact)]
    return float((off[below(exact)] / claimed).square().mean().sqrt())


def timed(function: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds of a call on the clock and of all cores together."""
    wall, work = time.perf_counter(), time.process_time()
    result = function()
    return {
        'wall_s': time.perf_counter() - wall,
        'cpu_s': time.process_time() - work,
    }, result


def speed(model: PreTrainedModel, ids: Tensor, rounds: int) -> dict[str, Any]:
    """Seconds for all pairs beside autograd's, in turn.

    The peer is timed on all of its receivers, whatever memory it takes.
    """
    ours, exact, peer = [], [], []
    with block_stack(model, ids) as stack:
        jacobian_norms(*stack, receivers=-1)  # warm up
        for _ in tqdm(range(rounds), 'rounds', leave=False):
            seconds, found = timed(lambda: estimate(stack, 0))
            ours.append(seconds)
            seconds, J = timed(
                lambda: torch.autograd.functional.jacobian(*stack)
            )
            peer.append(seconds)
            ours.append(timed(lambda: estimate(stack, 0))[0])
            norm = norms_of(J)
            del J
            exact.append(
                timed(
                    lambda: jacobian_norms(
                        *stack, method='exact', prefix=stack.prefix
                    )
                )[0]
            )
    result: dict[str, Any] = {
        'tokens': len(ids),
        'peer': 'torch.autograd.functional.jacobian, all receivers',
        'probes': found.probes,
        'rounds': rounds,
        'median_relative_error': median_error(found.norm, norm),
    }
    for clock in ('wall_s', 'cpu_s'):
        times = {
            name: statistics.median(x[clock] for x in seconds)
            for name, seconds in (
                ('ours', ours),
                ('exact', exact),
                ('peer', peer),
            )
        }
        result[clock] = {
            **times,
            'speedup': times['peer'] / times['ours'],
            'speedup_of_exact': times['peer'] / times['exact'],
        }
    return result


def norms_of(J: Tensor) -> Tensor:
    """Norms of the blocks of ``[N, d, N, d]``, without a copy of it."""
    rows = [block.double().square().sum((0, 2)).sqrt() for block in J]
    return torch.stack(rows)


def table(result: dict[str, Any]) -> str:
    """The table of benchmarks/README.md."""
    lines = [
        '| model | error, default | 8 plain signs | 16 plain signs | ours | '
        'autograd | times as fast |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, found in result['models'].items():
        error = found['errors']['median_relative_error']
        clock = found['speed']['wall_s']
        lines.append(
            f'| {name} | {error["default"]["mean"]:.1%} (at most '
            f'{error["default"]["greatest"]:.1%}) | '
            f'{error["8 plain signs"]["mean"]:.1%} | '
            f'{error["16 plain signs"]["mean"]:.1%} | '
            f'{clock["ours"]:.1f} s | {clock["peer"]:.0f} s | '
            f'{clock["speedup"]:.1f} ({found["speed"]["cpu_s"]["speedup"]:.1f} '
            'in CPU time) |'
        )
    return '\n'.join(lines)


def main() -> None:
    """Measures both models and writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = gb.load_embedded()
    ids = texts(tokenizer)
    long = tokenizer(sample_text(), return_tensors='pt').input_ids[0, :LONG]
    result: dict[str, Any] = {
        'machine': {
            'device': 'cpu',
            'processor': platform.processor() or platform.machine(),
            'threads': torch.get_num_threads(),
            'torch': torch.__version__,
            # Of other processes, at the start.
            'load': round(os.getloadavg()[0], 1),
        },
        'bars': {'median_relative_error': ERROR_BAR, 'speedup': SPEED_BAR},
        'models': {},
    }
    for name, subject in (
        ('embedded', model),
        ('new weights', reinitialize(model)),
    ):
        found = {
            'errors': errors(subject, ids),
            'speed': speed(subject, long, arguments.rounds),
        }
        result['models'][name] = found
        arguments.out.write_text(json.dumps(result, indent=1) + '\n')
    print(table(result))
    for name, found in result['models'].items():
        error = found['errors']['median_relative_error']['default']
        ratio = found['speed']['wall_s']['speedup']
        met = error['greatest'] <= ERROR_BAR and ratio >= SPEED_BAR
        print(f'{name}: bars {"met" if met else "missed"}')


if __name__ == '__main__':
    main()
