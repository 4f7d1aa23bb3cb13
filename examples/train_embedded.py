"""Trains the decoder that ships with the package, and measures it.

Three stages, every sequence of every stream behind the same <bos>:

1. key-value retrieval, with a curriculum over the number of pairs;
2. with Bigram-Backcopy on bytes: the retrieval heads have nothing to do there,
   and learn to park on <bos>;
3. with the prose that ships with Python. The attention of the layer in which
   most heads have parked is frozen here: prose would otherwise find some use
   for every head of so small a model.

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
from gnnbridge.models.training import Stream, StreamMixture, train

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
STEPS = {'retrieval': 600, 'backcopy': 600, 'text': 600}


def new_model(seed):
    set_seed(seed)
    # With the usual 0.02 attention starts so uniform that the retrieval
    # circuit does not form within hundreds of steps.
    config = LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.08,
        max_position_embeddings=2048,
        bos_token_id=VOCABULARY.bos,
        eos_token_id=None,
        pad_token_id=TOKENIZER.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    # Retrieval forms sooner if its symbols outweigh what attention adds to
    # them; the sink forms only if bytes and <bos> do not.
    embedding = model.get_input_embeddings().weight
    torch.nn.init.normal_(embedding[VOCABULARY.query :])
    return model


def backcopy():
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


def retrieval_stream(rows, curriculum_end):
    def draw(step, generator):
        pairs = curriculum(step, first=2, last=PAIRS, end=curriculum_end)
        if step % 2 == 0:
            pairs = int(torch.randint(2, pairs + 1, (), generator=generator))
        batch = key_value_retrieval(
            rows, pairs, VOCABULARY, generator=generator
        )
        return {'input_ids': batch.input_ids, 'labels': batch.labels}

    return Stream('retrieval', draw, weight=0.3)


def backcopy_stream(rows):
    source = backcopy()

    def draw(step, generator):
        ids = source.draw(rows, 64, generator=generator)
        return {'input_ids': ids, 'labels': ids}

    return Stream('backcopy', draw, weight=0.7)


def text_stream(tokens):
    corpus = python_corpus()

    def draw(step, generator):
        text = corpus.docstrings if step % 2 else corpus.topics
        length = TEXT_LENGTHS[step // 2 % len(TEXT_LENGTHS)]
        ids = windows(text, tokens // length, length, generator)
        return {'input_ids': ids, 'labels': ids}

    return Stream('text', draw, weight=0.5)


def stages():
    end = 0.8 * STEPS['retrieval']
    return {
        'retrieval': [retrieval_stream(64, end)],
        'backcopy': [retrieval_stream(16, 1), backcopy_stream(32)],
        'text': [
            retrieval_stream(8, 1),
            backcopy_stream(16),
            text_stream(1536),
        ],
    }


def train_stages(model, seed, directory):
    for name, streams in stages().items():
        if name == 'text':
            parked = most_parked_layer(model)
            model.model.layers[parked].self_attn.requires_grad_(False)
        steps = STEPS[name]
        train(
            model,
            StreamMixture(streams, seed),
            directory / name,
            steps=steps,
            learning_rate=3e-3,
            weight_decay=0.05 if name == 'retrieval' else 0.1,
            warmup_steps=100,
            lr_scheduler_type='warmup_stable_decay',
            lr_scheduler_kwargs={'num_decay_steps': steps // 3},
        )


@torch.no_grad()
def sinks(model, ids):
    """Says which heads have their sink at token 0: [layers, rows, heads]."""
    usual = model.config._attn_implementation
    model.set_attn_implementation('eager')
    attention = model(ids, output_attentions=True).attentions
    model.set_attn_implementation(usual)
    return torch.stack([sink_score(a) for a in attention]) > 0.3


def most_parked_layer(model):
    generator = torch.Generator().manual_seed(0)
    ids = backcopy().draw(64, 64, generator=generator)
    return int(sinks(model, ids).float().mean(dim=(1, 2)).argmax())


@torch.no_grad()
def measure(model):
    """Returns every figure of a model, from fixed samples."""
    model.eval()
    generator = torch.Generator().manual_seed(20250101)
    held_out = python_corpus('held_out').text
    texts = {
        'held_out': windows(held_out, 128, 64, generator),
        'backcopy': backcopy().draw(128, 64, generator=generator),
    }
    figures = {}
    for name, ids in texts.items():
        rates = sinks(model, ids).float().mean(dim=1)
        figures[f'sink_rate_{name}'] = rates.mean(dim=1).max().item()
        figures[f'sink_rate_{name}_by_head'] = rates.tolist()
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
    parser.add_argument('--out', type=Path, default=Path('runs'))
    parser.add_argument('--ship', type=Path, help='write the model here')
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)  # sums in one order: one seed, one model
    directory = arguments.out / str(arguments.seed)
    model = new_model(arguments.seed)
    train_stages(model, arguments.seed, directory)
    if arguments.ship:
        model.config.use_cache = True  # the trainer turns it off
        model.save_pretrained(arguments.ship)
        TOKENIZER.save_pretrained(arguments.ship)
    figures = {
        'seed': arguments.seed,
        'steps': STEPS,
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
