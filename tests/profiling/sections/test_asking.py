from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import build
from tiny_decoder import byte_tokenizer, tiny_decoder
from torch import Tensor

import gnnbridge as gb
from gnnbridge.datasets.duplicates import every_key
from gnnbridge.models.embedded import figures
from gnnbridge.profiling.sampling import Subject
from gnnbridge.profiling.sections import asking
from gnnbridge.profiling.sections.asking import answers, bindings
from gnnbridge.profiling.settings import ProfileSettings


def subject_of(model: Any, tokenizer: Any, **changes: Any) -> Subject:
    ids = torch.tensor([256, 1, 2, 3])
    settings = ProfileSettings(**changes)
    return Subject(model, tokenizer, settings, 2, True, (ids,), True)


@pytest.fixture(scope='module')
def embedded() -> Any:
    return gb.load_embedded()


def test_the_embedded_model_is_asked_in_its_own_tokens(embedded: Any) -> None:
    how = bindings(subject_of(*embedded))
    known = embedded[1].get_vocab()
    assert how.pairs == 16
    assert not how.among_values
    assert how.tokens.opening == (known['<bos>'],)
    assert how.tokens.query == (known['<q>'],)
    assert how.tokens.keys[3] == known['<k3>']
    assert how.tokens.values[31] == known['<v31>']
    batch = every_key(2, 16, how.tokens, generator=torch.Generator())
    assert batch.input_ids.size(1) == how.most_tokens
    # There are 32 keys, and a context of 1024 has room for more.
    assert bindings(subject_of(*embedded, pairs=99)).pairs == 32


def test_any_other_model_is_asked_in_tokens_of_its_vocabulary() -> None:
    subject = subject_of(tiny_decoder(), byte_tokenizer(), pairs=9)
    how = bindings(subject)
    assert how.among_values
    assert how.tokens.opening == (256,)
    both = torch.cat([how.tokens.keys, how.tokens.values])
    assert sorted(both.tolist()) == list(range(256))
    assert torch.equal(bindings(subject).tokens.keys, how.tokens.keys)
    # 128 tokens hold the first one and 31 times four.
    assert (
        bindings(subject_of(tiny_decoder(), byte_tokenizer(), pairs=99)).pairs
        == 31
    )
    short = tiny_decoder(max_position_embeddings=12)
    with pytest.raises(NotImplementedError, match='room for 2'):
        bindings(subject_of(short, byte_tokenizer()))


@pytest.mark.parametrize('noise', [0.0, 1.5])
def test_answers_are_those_of_the_figures_of_the_card(
    embedded: Any, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = embedded
    how = bindings(subject_of(*embedded))
    batch = every_key(6, 16, how.tokens, generator=torch.Generator())

    def chance() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    expected = figures.answers(
        model, batch.input_ids, batch.asked_at, noise=noise, generator=chance()
    )
    found = answers(
        model, batch.input_ids, batch.asked_at, noise=noise, generator=chance()
    )
    # Two runs of softmax may round a tie in another way.
    assert (found == expected).float().mean() > 0.98
    monkeypatch.setattr(
        asking, '_slices', lambda model, ids: [slice(0, 4), slice(4, 6)]
    )
    parted = answers(model, batch.input_ids, batch.asked_at)
    assert parted.shape == (6, 16)


class Fixed(torch.nn.Module):
    """Predicts the same whatever it reads."""

    device = torch.device('cpu')

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.embedding = torch.nn.Embedding(len(logits), 2)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return Output(logits=self.logits.expand(*input_ids.shape, -1))


class Output(SimpleNamespace):
    def get(self, name: str) -> Any:
        return getattr(self, name, None)


def test_answers_may_be_chosen_from_some_tokens() -> None:
    ids = torch.zeros(2, 3, dtype=torch.long)
    among = torch.tensor([[3, 7, 2], [1, 0, 5]])
    at = torch.tensor([0, 2])
    model: Any = Fixed(torch.arange(10.0))
    assert answers(model, ids, at).tolist() == [[9, 9], [9, 9]]
    assert answers(model, ids, at, among=among).tolist() == [[7, 7], [5, 5]]


def test_of_equally_likely_answers_no_place_is_favoured() -> None:
    model: Any = Fixed(torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))
    ids = torch.zeros(900, 2, dtype=torch.long)
    among = torch.tensor([[1, 2, 3, 4]]).expand(900, -1)
    named = answers(model, ids, torch.tensor([1]), among=among)
    share = torch.bincount(named.flatten(), minlength=5) / 900
    # A third each, with a standard error of 0.016.
    assert share[[0, 4]].tolist() == [0, 0]
    assert share[1:4].tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
    again = answers(model, ids, torch.tensor([1]), among=among)
    assert torch.equal(named, again)


@pytest.mark.parametrize('name', ['gpt2', 'gemma2', 'gemma3'])
def test_noise_is_in_units_of_what_an_embedding_gives(name: str) -> None:
    model = build(name)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 61, (16, 60), generator=generator)
    clean = model.get_input_embeddings()(ids)
    noisy = asking._noisy(model, ids, 0.5, generator)
    weight = model.get_input_embeddings().weight
    # Gemma's embeddings multiply what they look up by the root of its width,
    # in some versions of transformers the model does.
    factor = (clean.norm() / weight[ids].norm()).item()
    scaled = name == 'gemma3' or factor > 2
    assert factor == pytest.approx(32**0.5 if scaled else 1, rel=0.01)
    assert not (scaled and name == 'gpt2')
    spread = (noisy - clean).std().item()
    # 30720 numbers: a standard error of 0.4 %.
    assert spread == pytest.approx(0.5 * factor * weight.std().item(), rel=0.02)


def test_models_that_cannot_be_asked_are_refused() -> None:
    model = build('bert')
    ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(NotImplementedError, match='causal language model'):
        answers(model.base_model, ids, torch.tensor([3]))

    class Closed(torch.nn.Module):
        device = torch.device('cpu')
        embedding = torch.nn.Embedding(5, 2)

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return self.embedding

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> None:
            raise AssertionError('it must not run')

    closed: Any = Closed()
    with pytest.raises(NotImplementedError, match='inputs_embeds'):
        answers(closed, ids, torch.tensor([3]), noise=1.0)
