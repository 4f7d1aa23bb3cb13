"""Do all seeds of the embedded model meet its bars, and untrained ones not?

Measures the models that `examples/train_embedded.py` trained, each beside the
same architecture with new weights:

    python benchmarks/embedded_model.py runs/*/model

writes benchmarks/results/embedded_model.json. Without directories it measures
the weights that ship, and prints only.

Bars: the first token is a sink for at least half of the heads of some layer
(held-out text, 64 tokens, threshold 0.3); retrieval is right at least 95 times
in 100; under noise, accuracy falls with the place of the binding (Spearman at
most -0.8); held-out text costs at least one nat per byte less than under a
unigram model.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Generator, Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed

from gnnbridge.datasets.copying import (
    BigramBackcopy,
    bigram_table,
    most_frequent_letters,
)
from gnnbridge.datasets.retrieval import (
    absent_key_control,
    key_value_retrieval,
)
from gnnbridge.datasets.text import byte_windows, python_corpus
from gnnbridge.datasets.vocabulary import StreamVocabulary
from gnnbridge.diagnostics.attention import sink_score
from gnnbridge.models import embedded
from gnnbridge.models.embedded.figures import (
    accuracy_by_position,
    answers,
    pick_rate,
)
from gnnbridge.models.embedded.tokenizer import NUM_SYMBOLS, SPECIAL_TOKENS

BARS = {
    'sink_rate_held_out': (0.5, 1.0),
    'retrieval': (0.95, 1.0),
    'spearman': (-1.0, -0.8),
    'gain_over_unigram': (1.0, float('inf')),
}
IDS = {token: 256 + place for place, token in enumerate(SPECIAL_TOKENS)}
VOCABULARY = StreamVocabulary(
    bos=IDS['<bos>'],
    query=IDS['<q>'],
    first_key=IDS['<k0>'],
    first_value=IDS['<v0>'],
    num_symbols=NUM_SYMBOLS,
)
PAIRS = 16
NOISE = 1.5
SEED = 20250101
RESULTS = Path(__file__).parent / 'results' / 'embedded_model.json'
SHIPPED = Path(embedded.__file__).parent / 'weights'
Figures = dict[str, float | list]


@torch.no_grad()
def measure(model: PreTrainedModel, rows: int = 768) -> Figures:
    """Returns every figure of a model, from fixed samples.

    Args:
        model: A causal language model on the vocabulary of the embedded one.
        rows: The number of sequences for each figure of retrieval.
    """
    model.eval()
    generator = torch.Generator().manual_seed(SEED)
    held_out = python_corpus('held_out').text
    figures = text_figures(
        model,
        byte_windows(
            held_out, 64, 256, bos=VOCABULARY.bos, generator=generator
        ),
    )
    texts = {
        'held_out': byte_windows(
            held_out, 128, 64, bos=VOCABULARY.bos, generator=generator
        ),
        'backcopy': backcopy().draw(128, 64, generator=generator),
    }
    for name, ids in texts.items():
        rates = sinks(model, ids).float().mean(dim=1)
        figures[f'sink_rate_{name}'] = rates.mean(dim=1).max().item()
        figures[f'sink_rate_{name}_by_head'] = rates.tolist()
    return {**figures, **retrieval_figures(model, rows, generator)}


def sinks(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Says which heads have their sink at token 0: [layers, rows, heads]."""
    usual = model.config._attn_implementation
    model.set_attn_implementation('eager')
    attention = model(ids, output_attentions=True).attentions
    model.set_attn_implementation(usual)
    return torch.stack([sink_score(a) for a in attention]) > 0.3


def backcopy() -> BigramBackcopy:
    """Bigram-Backcopy on the topics."""
    text = python_corpus().topics
    return BigramBackcopy(
        bigram_table(text), most_frequent_letters(text), VOCABULARY.bos
    )


def text_figures(model: PreTrainedModel, ids: Tensor) -> Figures:
    """Cross-entropy beside that of a unigram model of the training text."""
    train_text = python_corpus().text
    codes = torch.frombuffer(bytearray(train_text), dtype=torch.uint8).long()
    # One is added to each count, since a held-out byte may be new.
    counts = torch.bincount(codes, minlength=256) + 1
    unigram = -(counts[ids[:, 1:]] / counts.sum()).log().mean().item()
    nats = model(ids, labels=ids).loss.item()
    return {
        'nats_per_byte': nats,
        'unigram_nats_per_byte': unigram,
        'gain_over_unigram': unigram - nats,
    }


def retrieval_figures(
    model: PreTrainedModel, rows: int, generator: Generator
) -> Figures:
    """Accuracy with and without noise, and the absent-key control."""
    batch = key_value_retrieval(rows, PAIRS, VOCABULARY, generator=generator)
    asked = batch.input_ids, batch.asked_at
    wanted = batch.values.gather(1, batch.gold)
    clean = answers(model, *asked) == wanted
    noisy = answers(model, *asked, noise=NOISE, generator=generator) == wanted
    stressed = accuracy_by_position(noisy, batch.gold, PAIRS)
    control = absent_key_control(rows, PAIRS, VOCABULARY, generator=generator)
    picked = pick_rate(
        answers(model, control.input_ids, control.asked_at), control.values
    )
    return {
        'retrieval': clean.float().mean().item(),
        'retrieval_under_noise': stressed.tolist(),
        'spearman': float(spearmanr(range(PAIRS), stressed).statistic),
        'absent_key_pick_rate': picked.tolist(),
    }


def measure_directory(directory: Path) -> dict[str, Figures]:
    """Measures a model and its architecture with new weights."""
    trained = AutoModelForCausalLM.from_pretrained(directory)
    set_seed(SEED)
    untrained = AutoModelForCausalLM.from_config(trained.config)
    return {
        'trained': measure(trained),
        'reinitialised': measure(untrained),
    }


def spread(runs: list[dict], state: str, figure: str) -> dict[str, float]:
    """Mean, least and greatest value of a figure over runs."""
    values = [run[state][figure] for run in runs]
    return {
        'mean': statistics.mean(values),
        'min': min(values),
        'max': max(values),
    }


def main() -> None:
    """Measures the runs, prints their spread, writes it if runs were given."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('directories', type=Path, nargs='*')
    given = parser.parse_args().directories
    torch.set_num_threads(1)
    runs = []
    for directory in given or [SHIPPED]:
        runs.append({'run': directory.parent.name})
        runs[-1].update(measure_directory(directory))
    figures = [k for k, v in runs[0]['trained'].items() if type(v) is float]
    summary = {
        state: {figure: spread(runs, state, figure) for figure in figures}
        for state in ('trained', 'reinitialised')
    }
    if given:
        corpus = python_corpus()
        origin = {'python': corpus.python, 'corpus_sha256': corpus.sha256}
        RESULTS.write_text(
            json.dumps({**origin, 'summary': summary, 'runs': runs}, indent=1)
            + '\n'
        )
    for figure in figures:
        for state in summary:
            mean, low, high = summary[state][figure].values()
            print(f'{figure:24}{state:15}{mean:8.3f}{low:8.3f}{high:8.3f}')


if __name__ == '__main__':
    main()
