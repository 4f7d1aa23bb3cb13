import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import build
from tiny_decoder import byte_tokenizer, tiny_decoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from gnnbridge.models import answering
from gnnbridge.models.answering import (
    CandidateScores,
    candidate_log_probs,
    encode_question,
    leading_tokens,
)
from gnnbridge.models.convert import convert
from gnnbridge.models.zoo import tiny

# Another order of float32 sums over a handful of tokens.
CLOSE = {'rtol': 1e-4, 'atol': 1e-4}
DECODERS = ['gpt2', 'llama', 'gemma2', 'gpt_oss', 'qwen3', 'gpt_neox', 'opt']
# States of other kinds, no cache, or another result from it.
WITHOUT_CACHE = [
    'jamba', 'bamba', 'falcon_h1', 'moshi', 'deepseek_v32', 'openai-gpt',
]  # fmt: skip


def one_by_one(
    model: Any, prompts: list[list[int]], candidates: list[list[list[int]]]
) -> Tensor:
    """Sums of log-probabilities, one candidate at a time, without padding."""
    rows = []
    for prompt, some in zip(prompts, candidates, strict=True):
        row = []
        for candidate in some:
            ids = torch.tensor([[*prompt, *candidate]])[:, :-1]
            with torch.no_grad():
                logits = model(
                    input_ids=ids, attention_mask=torch.ones_like(ids)
                ).logits[0]
            log_probs = logits.float().log_softmax(-1)[len(prompt) - 1 :]
            own = torch.tensor(candidate).unsqueeze(1)
            row.append(log_probs.gather(1, own).double().sum())
        rows.append(torch.stack(row))
    return torch.nn.utils.rnn.pad_sequence(
        rows, batch_first=True, padding_value=math.nan
    )


def drawn(
    lengths: list[int], sizes: list[list[int]], vocabulary: int = 61
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Random prompts of some lengths, and candidates of some sizes."""
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(
            3, vocabulary, (count,), generator=generator
        ).tolist()

    return [ids(n) for n in lengths], [[ids(m) for m in s] for s in sizes]


LENGTHS = [17, 9, 17, 9, 12]
SIZES = [[3, 1, 4], [2, 2, 2], [1, 5, 2], [3, 3, 1], [1, 1, 1]]


@pytest.mark.parametrize('converted', [False, True])
@pytest.mark.parametrize('name', DECODERS)
def test_scores_are_those_of_one_at_a_time(name: str, converted: bool) -> None:
    model = build(name)
    prompts, candidates = drawn(LENGTHS, SIZES)
    expected = one_by_one(model, prompts, candidates)
    found = candidate_log_probs(
        convert(model) if converted else model, None, prompts, candidates
    )
    assert torch.allclose(found.total, expected, **CLOSE)
    assert found.total.dtype == torch.float64
    assert found.tokens.tolist() == SIZES


@pytest.mark.parametrize('name', ['bloom', *WITHOUT_CACHE])
def test_scores_do_not_hang_on_the_cache(name: str) -> None:
    model = tiny.build(name)
    # Vocabularies of the smallest models.
    prompts, candidates = drawn(LENGTHS, SIZES, 40)
    expected = one_by_one(model, prompts, candidates)
    found = candidate_log_probs(model, None, prompts, candidates)
    assert torch.allclose(found.total, expected, **CLOSE)


def test_a_prompt_runs_once_for_all_of_its_candidates() -> None:
    model = build('llama')
    prompts, candidates = drawn([9] * 6, [[3, 2, 4, 4]] * 6)
    shapes = []

    def entered(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        shapes.append(tuple(kwargs['input_ids'].shape))

    handle = model.register_forward_pre_hook(entered, with_kwargs=True)
    candidate_log_probs(model, None, prompts, candidates)
    handle.remove()
    # One candidate by both ways, then prompts and candidates.
    assert shapes == [(1, 12), (1, 9), (1, 3), (6, 9), (24, 3)]
    shapes.clear()
    handle = model.register_forward_pre_hook(entered, with_kwargs=True)
    candidate_log_probs(model, None, prompts, [[[4], [5]]] * 6)
    handle.remove()
    assert shapes == [(6, 9)]


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
def test_parts_of_bounded_size_give_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name)
    prompts, candidates = drawn(LENGTHS * 2, SIZES * 2)
    expected = candidate_log_probs(model, None, prompts, candidates)
    for limit, value in (
        ('MOST_TOKENS', 1),
        ('MOST_TOKENS', 150),
        ('MOST_LOGITS', 1),
        ('MOST_LOGITS', 61 * 12),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(answering, limit, value)
            found = candidate_log_probs(model, None, prompts, candidates)
        assert torch.allclose(found.total, expected.total, **CLOSE)


def test_prompts_may_differ_in_candidates() -> None:
    model = build('llama')
    sizes = [[2, 1], [3], [1, 1, 2]]
    prompts, candidates = drawn([5, 8, 5], sizes)
    found = candidate_log_probs(model, None, prompts, candidates)
    expected = one_by_one(model, prompts, candidates)
    assert torch.allclose(found.total, expected, equal_nan=True, **CLOSE)
    assert found.tokens.tolist() == [[2, 1, 0], [3, 0, 0], [1, 1, 2]]
    assert torch.equal(found.picked.isnan(), found.tokens == 0)
    assert torch.equal(found.picked.nansum(1), torch.ones(3).double())


def test_text_is_scored_as_its_tokens() -> None:
    model, tokenizer = tiny_decoder(), byte_tokenizer()
    texts = ['The code is', 'Twelve', 'The town is']
    options = [[' 12', ' 7'], [' 1', ' 345'], [' Rome', ' x']]
    found = candidate_log_probs(model, tokenizer, texts, options)
    ids = [tokenizer(text)['input_ids'] for text in texts]
    assert ids[0][0] == tokenizer.bos_token_id
    tails = [
        [tokenizer(o, add_special_tokens=False)['input_ids'] for o in some]
        for some in options
    ]
    expected = one_by_one(model, ids, tails)
    assert torch.allclose(found.total, expected, **CLOSE)
    assert found.tokens.tolist() == [[3, 2], [2, 4], [5, 2]]
    mean = found.total / torch.tensor([[3, 2], [2, 4], [5, 2]])
    assert torch.equal(found.per_token, mean)


def test_all_continuations_of_one_token_sum_to_one() -> None:
    model = build('gpt2')
    found = candidate_log_probs(
        model, None, [[5, 6, 7]], [[[token] for token in range(61)]]
    )
    # Rounding of 61 float32 probabilities.
    assert float(found.total.exp().sum()) == pytest.approx(1, abs=1e-6)


def merging_tokenizer(*, special: str = '') -> PreTrainedTokenizerFast:
    """Single letters, of which 'a b' and 'ab c' merge."""
    letters = ['a', 'b', 'c', 'x', '0', '<s>', '</s>', 'ab', 'abc']
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[('a', 'b'), ('ab', 'c')])
    )
    backend.pre_tokenizer = pre_tokenizers.Split('x', 'isolated')
    backend.add_special_tokens(['<s>', '</s>'])
    if special:
        backend.post_processor = processors.TemplateProcessing(
            single=special, special_tokens=[('<s>', 5), ('</s>', 6)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_merges_across_the_boundary() -> None:
    tokenizer = merging_tokenizer(special='<s> $A')
    found = encode_question(tokenizer, 'cxa', ['b', 'c', 'bc', 'x'])
    # With 'b' the last token of the prompt is another: all are given 'cx'.
    assert found.prompt == (5, 2, 3)
    assert found.candidates == ((7,), (0, 2), (8,), (0, 3))
    assert found.longest == 5
    longer = encode_question(tokenizer, 'cxa', ['bx', 'cx'])
    assert longer.prompt == (5, 2, 3)
    assert longer.candidates == ((7, 3), (0, 2, 3))
    without = encode_question(tokenizer, 'cxa', ['c', 'x'])
    assert without.prompt == (5, 2, 3, 0)
    assert without.candidates == ((2,), (3,))


def test_merged_strings_are_scored_as_the_tokenizer_writes_them() -> None:
    model = build('llama')
    tokenizer = merging_tokenizer(special='<s> $A')
    options = ['b', 'c', 'bc', 'x']
    found = candidate_log_probs(model, tokenizer, ['cxa'], [options])
    for column, option in enumerate(options):
        ids = torch.tensor([tokenizer('cxa' + option)['input_ids']])
        with torch.no_grad():
            logits = model(input_ids=ids).logits.float()
        log_probs = logits.log_softmax(-1)[0, :-1]
        each = log_probs.gather(1, ids[0, 1:].unsqueeze(1)).squeeze(1)
        # All of the string but what all four begin with.
        expected = float(each[2:].double().sum())
        assert float(found.total[0, column]) == pytest.approx(
            expected, abs=1e-4
        )


@pytest.mark.parametrize(
    ('special', 'expected'),
    [('', []), ('<s> $A', [5]), ('<s> $A </s>', [5]), ('<s> </s> $A', [5, 6])],
)
def test_special_tokens_lead_but_never_end(
    special: str, expected: list[int]
) -> None:
    tokenizer = merging_tokenizer(special=special)
    assert leading_tokens(tokenizer) == expected
    found = encode_question(tokenizer, 'cx', ['c'])
    assert found.prompt == (*expected, 2, 3)
    assert found.candidates == ((2,),)


def scores(total: list[list[float]], tokens: Any = 1) -> CandidateScores:
    value = torch.tensor(total, dtype=torch.float64)
    return CandidateScores(value, torch.zeros_like(value).long() + tokens)


def test_the_likeliest_is_picked_and_equals_share() -> None:
    found = scores([[-3.0, -1.0, -2.0], [-1.0, -1.0, -5.0], [-2.0] * 3])
    assert found.picked.tolist() == [[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3]
    infinite = scores([[-math.inf, -1.0], [-math.inf, -math.inf]])
    assert infinite.picked.tolist() == [[0, 1], [0.5, 0.5]]
    assert scores([[math.nan, -1.0]]).picked.isnan().all()
    ragged = scores([[-1.0, math.nan], [-2.0, -1.0]], torch.tensor([[1, 0]]))
    assert ragged.picked[:, 0].tolist() == [1, 1]
    assert ragged.picked[:, 1].isnan().all()


def test_margins() -> None:
    found = scores([[-3.0, -1.0, -2.0], [-1.0, -4.0, -2.5]])
    assert found.margin(torch.tensor([1, 1])).tolist() == [1.0, -3.0]
    assert found.margin(torch.tensor([0, 0])).tolist() == [-2.0, 1.5]
    assert scores([[math.nan, -1.0]]).margin(torch.tensor([0])).isnan()


def test_a_model_is_left_as_it_came() -> None:
    model = build('llama').train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prompts, candidates = drawn([5], [[2, 3]])
    found = candidate_log_probs(model, None, prompts, candidates)
    assert model.training
    assert not found.total.requires_grad
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_half_precision_is_summed_in_full() -> None:
    model = build('llama').bfloat16()
    prompts, candidates = drawn(LENGTHS, SIZES)
    expected = one_by_one(model, prompts, candidates)
    found = candidate_log_probs(model, None, prompts, candidates)
    # Eight bits of mantissa, through three layers.
    assert torch.allclose(found.total, expected, rtol=0.1, atol=0.3)


class Bigrams(nn.Module):
    """Takes nothing but tokens and their mask; sees the last token alone."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.device, self.dtype = torch.device('cpu'), torch.float32
        self.config = SimpleNamespace(is_encoder_decoder=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return nn.Embedding(len(self.table), 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        assert attention_mask.shape == input_ids.shape
        assert int(input_ids.min()) >= 0
        return SimpleNamespace(logits=self.table[input_ids])


def test_any_callable_model_will_do() -> None:
    table = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    model: Any = Bigrams(table)
    found = candidate_log_probs(
        model, None, [[1, 1, 2], [3]], [[[2], [0, 1, 3]], [[3, 2], [1]]]
    )
    own = table.double().log_softmax(1)
    expected = torch.stack(
        [
            own[2, 2],
            own[2, 0] + own[0, 1] + own[1, 3],
            own[3, 3] + own[3, 2],
            own[3, 1],
        ]
    ).view(2, 2)
    assert torch.allclose(found.total, expected, **CLOSE)


def test_what_cannot_be_scored() -> None:
    model = tiny_decoder()
    with pytest.raises(ValueError, match='2 prompts and 1 lists'):
        candidate_log_probs(model, None, [[1], [2]], [[[3]]])
    with pytest.raises(ValueError, match='0 prompts'):
        candidate_log_probs(model, None, [], [])
    for prompt, some in (([], [[3]]), ([1], []), ([1], [[3], []])):
        with pytest.raises(ValueError, match='at least one token each'):
            candidate_log_probs(model, None, [prompt], [some])
    plain = byte_tokenizer(bos=False)
    with pytest.raises(ValueError, match='at least one token each'):
        encode_question(plain, '', ['a'])
    with pytest.raises(ValueError, match='at least one token each'):
        encode_question(plain, 'a', [])


def test_what_is_no_causal_language_model() -> None:
    with pytest.raises(NotImplementedError, match='encoder-decoder'):
        candidate_log_probs(build('bart'), None, [[5]], [[[3]]])
    with pytest.raises(NotImplementedError, match='logits for each token'):
        candidate_log_probs(build('llama').model, None, [[5]], [[[3]]])
