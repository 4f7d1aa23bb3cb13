import importlib.util
import math
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    set_seed,
)

import gnnbridge
from gnnbridge.datasets.text import sample_text
from gnnbridge.models.embedded import load_embedded
from gnnbridge.models.embedded.figures import (
    accuracy_by_position,
    answers,
    pick_rate,
)
from gnnbridge.models.embedded.tokenizer import byte_tokenizer

ROOT = Path(__file__).parents[2]
DIRECTORY = Path(gnnbridge.__file__).parent / 'models/embedded/weights'


@pytest.fixture(scope='module')
def embedded():
    return load_embedded()


@pytest.fixture(scope='module')
def benchmark():
    """The benchmark that measures the model, as a module."""
    file = ROOT / 'benchmarks' / 'embedded_model.py'
    spec = importlib.util.spec_from_file_location('embedded_model', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def figures(benchmark):
    return benchmark.measure(load_embedded()[0], rows=256)


@pytest.fixture(scope='module')
def baseline(benchmark):
    set_seed(7)
    model = LlamaForCausalLM(load_embedded()[0].config)
    return benchmark.measure(model, rows=64)


def test_directory_is_small_and_ordinary(embedded):
    files = [file for file in DIRECTORY.rglob('*') if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8 * 2**20
    assert {file.suffix for file in files} <= {'.json', '.safetensors', '.md'}
    model, _ = embedded
    assert type(model) is LlamaForCausalLM
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_loads_by_the_auto_classes_without_a_network(embedded, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError('no network here')

    monkeypatch.setattr('socket.socket.connect', refuse)
    model = AutoModelForCausalLM.from_pretrained(DIRECTORY, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(DIRECTORY)
    ids = tokenizer('A graph', return_tensors='pt').input_ids
    with torch.no_grad():
        assert torch.equal(model(ids).logits, embedded[0](ids).logits)


@pytest.mark.parametrize(
    'text',
    [
        'plain words',
        '  two  spaces\n\ttab ',
        'naïve Ωμέγα',
        '汉字かな 한글',
        '🙂 👩‍👧',
    ],
)
def test_tokenizer_is_utf8_behind_one_bos(embedded, text):
    tokenizer = embedded[1]
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[1:] == list(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert byte_tokenizer()(text).input_ids == ids


def test_special_tokens_are_one_id_each(embedded):
    model, tokenizer = embedded
    names = ['<pad>', '<pause>', '<q>', '<k0>', '<k31>', '<v0>', '<v31>']
    ids = tokenizer('a' + ''.join(names), add_special_tokens=False).input_ids
    assert ids == [97, *tokenizer.convert_tokens_to_ids(names)]
    assert len(set(ids)) == 8
    assert min(ids[1:]) > 255
    assert max(ids) < model.config.vocab_size == len(tokenizer)


def test_padding_goes_to_the_left_and_changes_nothing(embedded):
    model, tokenizer = embedded
    batch = tokenizer(
        ['short', 'somewhat longer'], padding=True, return_tensors='pt'
    )
    assert batch.input_ids[0, 0] == tokenizer.pad_token_id
    alone = tokenizer('short', return_tensors='pt')
    with torch.no_grad():
        padded = model(**batch).logits[0, -1]
        wanted = model(**alone).logits[0, -1]
    # Float32 rounding; the logits are of the order of ten.
    assert torch.allclose(padded, wanted, atol=1e-4)


def test_generation_runs(embedded):
    model, tokenizer = embedded
    inputs = tokenizer('The value of the ', return_tensors='pt')
    ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    written = tokenizer.decode(ids[0], skip_special_tokens=True)
    assert written.startswith('The value of the ')
    assert len(written.split()) >= 6  # words, not a run of one letter


def test_first_token_is_a_sink_on_held_out_text(figures, baseline):
    assert figures['sink_rate_held_out'] >= 0.5
    assert baseline['sink_rate_held_out'] < 0.1


def test_retrieval_works_and_is_no_prior_over_positions(figures, baseline):
    assert figures['retrieval'] >= 0.95
    assert baseline['retrieval'] < 0.1
    # Chance is 1/16 if the model names some bound value.
    assert max(figures['absent_key_pick_rate']) < 0.25


def test_late_bindings_suffer_more_from_noise(figures, baseline):
    assert figures['spearman'] <= -0.8
    assert abs(baseline['spearman']) < 0.8
    curve = figures['retrieval_under_noise']
    assert sum(curve[:4]) > sum(curve[-4:])


def test_held_out_text_means_something_to_it(figures, baseline):
    assert figures['gain_over_unigram'] >= 1.0
    assert baseline['gain_over_unigram'] < 0.0
    # Between the entropy of printed English and that of 256 equal bytes.
    assert 2.0 < figures['unigram_nats_per_byte'] < math.log(256)


def test_sample_text_is_read_like_held_out_text(embedded, figures):
    model, tokenizer = embedded
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids
    with torch.no_grad():
        nats = float(model(ids, labels=ids).loss)
    assert nats < figures['unigram_nats_per_byte'] - 1.0


def test_answers_are_the_predictions_after_the_asked_keys(embedded):
    model, _ = embedded
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(256, 324, (3, 11), generator=generator)
    with torch.no_grad():
        wanted = model(ids).logits.argmax(-1)[:, [4, 9]]
    asked_at = torch.tensor([4, 9])
    assert torch.equal(answers(model, ids, asked_at), wanted)
    noisy = [
        answers(
            model,
            ids,
            asked_at,
            noise=5.0,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


def test_accuracy_by_position_by_hand():
    gold = torch.tensor([[0, 2, 1], [2, 1, 0]])
    right = torch.tensor([[True, False, True], [True, False, True]])
    accuracy = accuracy_by_position(right, gold, 3)
    assert accuracy.tolist() == [1.0, 0.5, 0.5]


def test_pick_rate_by_hand():
    answered = torch.tensor([[5], [6]])
    values = torch.tensor([[5, 7, 5], [5, 6, 6]])
    assert pick_rate(answered, values).tolist() == [0.5, 0.5, 1.0]
