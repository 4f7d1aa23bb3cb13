"""Trains the decoder that ships with the package, and measures it.

Three streams enter one after the other, every sequence behind the same <bos>:

1. key-value retrieval, with a curriculum over the number of pairs;
2. Bigram-Backcopy on bytes: the retrieval heads have nothing to do there, and
   learn to park on <bos>;
3. the prose that ships with Python. From here on the attention scores of all
   layers but the first are frozen: prose would otherwise find some use for
   every parked head of so small a model.

A run that was killed goes on from its last checkpoint:

    python examples/train_embedded.py --seed 0 --out runs
    python examples/train_embedded.py --seed 0 --out runs --ship DIRECTORY
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from scipy.stats import spearmanr
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from gnnbridge.datasets.copying import (
    BigramBackcopy,
    bigram_table,
    most_frequent_letters,
)
from gnnbridge.datasets.retrieval import (
    absent_key_control,
    curriculum,
    key_value_retrieval,
)
from gnnbridge.datasets.text import python_corpus
from gnnbridge.datasets.vocabulary import StreamVocabulary
from gnnbridge.diagnostics.attention import sink_score
from gnnbridge.models.embedded.figures import (
    accuracy_by_position,
    answers,
    pick_rate,
)
from gnnbridge.models.embedded.tokenizer import NUM_SYMBOLS, byte_tokenizer
from gnnbridge.models.training import Freeze, Stream, StreamMixture, train

TOKENIZER = byte_tokenizer()
VOCABULARY = StreamVocabulary(
    bos=TOKENIZER.convert_tokens_to_ids('<bos>'),
    query=TOKENIZER.convert_tokens_to_ids('<q>'),
    first_key=TOKENIZER.convert_tokens_to_ids('<k0>'),
    first_value=TOKENIZER.convert_tokens_to_ids('<v0>'),
    num_symbols=NUM_SYMBOLS,
)
PAIRS = 16
TEXT_LENGTHS = (64, 128, 64, 256, 64, 128, 64, 512)
NOISE = 1.5


def new_model(seed):
    set_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            # With the default of 0.02 attention starts too uniform for the
            # retrieval circuit to form within thousands of steps.
            initializer_range=0.08,
            max_position_embeddings=2048,
            bos_token_id=VOCABULARY.bos,
            eos_token_id=None,
            pad_token_id=TOKENIZER.pad_token_id,
        )
    )


def backcopy_stream():
    text = python_corpus().topics
    return BigramBackcopy(
        bigram_table(text), most_frequent_letters(text), VOCABULARY.bos
    )


def windows(text, count, length, generator):
    """Draws pieces of a text, each behind <bos>: [count, length]."""
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    start = torch.randint(len(codes) - length, (count, 1), generator=generator)
    pieces = codes[start + torch.arange(length - 1)]
    return torch.nn.functional.pad(pieces, (1, 0), value=VOCABULARY.bos)


def streams(phases):
    second, third = phases
    corpus, backcopy = python_corpus(), backcopy_stream()

    def draw_retrieval(step, generator):
        pairs = curriculum(step / second, first=2, last=PAIRS, end=0.7)
        rows = 64 if step < second else 16 if step < third else 8
        if step % 2:
            pairs = int(torch.randint(2, pairs + 1, (), generator=generator))
        batch = key_value_retrieval(
            rows, pairs, VOCABULARY, generator=generator
        )
        return {'input_ids': batch.input_ids, 'labels': batch.labels}

    def draw_backcopy(step, generator):
        rows = 32 if step < third else 12
        ids = backcopy.draw(rows, 64, generator=generator)
        return {'input_ids': ids, 'labels': ids}

    def draw_text(step, generator):
        text = corpus.docstrings if step % 2 else corpus.topics
        length = TEXT_LENGTHS[step // 2 % len(TEXT_LENGTHS)]
        ids = windows(text, 1536 // length, length, generator)
        return {'input_ids': ids, 'labels': ids}

    return [
        Stream('retrieval', draw_retrieval, weight=0.3),
        Stream('backcopy', draw_backcopy, weight=0.7, start=second),
        Stream('text', draw_text, weight=0.7, start=third),
    ]


@torch.no_grad()
def measure(model):
    """Returns every figure of a model, from fixed samples."""
    model.eval().set_attn_implementation('eager')
    generator = torch.Generator().manual_seed(20250101)
    held_out = python_corpus('held_out').text
    texts = {
        'held_out': windows(held_out, 128, 64, generator),
        'backcopy': backcopy_stream().draw(128, 64, generator=generator),
    }
    figures = {}
    for name, ids in texts.items():
        attention = model(ids, output_attentions=True).attentions
        scores = torch.stack([sink_score(a) for a in attention])
        rates = (scores > 0.3).float().mean(dim=1)
        figures[f'sink_rate_{name}'] = rates.mean(dim=1).max().item()
        figures[f'sink_rate_{name}_by_head'] = rates.tolist()
        figures[f'sink_score_{name}_by_head'] = scores.mean(dim=1).tolist()
    figures.update(retrieval_figures(model, generator))
    figures.update(text_figures(model, windows(held_out, 64, 256, generator)))
    return figures


def retrieval_figures(model, generator):
    batch = key_value_retrieval(768, PAIRS, VOCABULARY, generator=generator)
    asked = batch.input_ids, batch.asked_at
    wanted = batch.values.gather(1, batch.gold)
    clean = answers(model, *asked) == wanted
    noisy = answers(model, *asked, noise=NOISE, generator=generator) == wanted
    stressed = accuracy_by_position(noisy, batch.gold, PAIRS)
    control = absent_key_control(768, PAIRS, VOCABULARY, generator=generator)
    picked = pick_rate(
        answers(model, control.input_ids, control.asked_at), control.values
    )
    return {
        'retrieval': clean.float().mean().item(),
        'retrieval_under_noise': stressed.tolist(),
        'spearman': float(spearmanr(range(PAIRS), stressed).statistic),
        'absent_key_pick_rate': picked.tolist(),
    }


def text_figures(model, ids):
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


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--steps', type=int, default=1500)
    parser.add_argument('--out', type=Path, default=Path('runs'))
    parser.add_argument('--ship', type=Path, help='write the model here')
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)  # sums in one order: one seed, one model
    steps, directory = arguments.steps, arguments.out / str(arguments.seed)
    phases = round(0.43 * steps), round(0.6 * steps)
    model = new_model(arguments.seed)
    scores = [
        parameter
        for layer in model.model.layers[1:]
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj)
        for parameter in part.parameters()
    ]
    train(
        model,
        StreamMixture(streams(phases), arguments.seed),
        directory,
        steps=steps,
        callbacks=[Freeze(scores, phases[1])],
        learning_rate=3e-3,
        weight_decay=0.1,
        lr_scheduler_type='warmup_stable_decay',
        lr_scheduler_kwargs={'num_decay_steps': round(0.35 * steps)},
        warmup_steps=100,
    )
    if arguments.ship:
        model.half().save_pretrained(arguments.ship)
        TOKENIZER.save_pretrained(arguments.ship)
        model = LlamaForCausalLM.from_pretrained(
            arguments.ship, dtype=torch.float32
        )
    figures = {
        'seed': arguments.seed,
        'steps': steps,
        'python': python_corpus().python,
        'corpus_sha256': python_corpus().sha256,
        'trained': measure(model),
        'reinitialised': measure(new_model(arguments.seed + 1000)),
    }
    text = json.dumps(figures, indent=1)
    (directory / 'figures.json').write_text(text + '\n')
    print(text)


if __name__ == '__main__':
    main()
