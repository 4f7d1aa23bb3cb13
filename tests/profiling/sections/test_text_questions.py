import dataclasses
from typing import Any

import pytest
import torch
from reader import asked, finds
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gnnbridge.datasets.prompts import Prompt
from gnnbridge.profiling.sections.text_questions import (
    pass_memory,
    prompt_lengths,
    prompt_limit,
    questions_per,
    require_text,
    score,
    seeded,
    unreadable,
)

PROMPTS = [
    Prompt('Digits: 1 2. Last digit:', (' 1', ' 2'), 1, 1),
    Prompt('Digits: 3 3 4. First digit:', (' 3', ' 4'), 0, 0),
]


def test_prompts_are_scored() -> None:
    subject = asked(finds)
    assert score(subject, PROMPTS).picked.tolist() == [[0, 1], [1, 0]]
    # With <bos> in front.
    assert prompt_lengths(subject.tokenizer, PROMPTS) == [27, 30]


def test_longer_than_the_context() -> None:
    assert len(score(asked(finds, context=30), PROMPTS).total) == 2
    with pytest.raises(NotImplementedError, match=r'at most 29.*got 30'):
        score(asked(finds, context=29), PROMPTS)


def test_the_limit_is_the_lower_of_two() -> None:
    assert prompt_limit(asked(finds, 100, needle_tokens=50)) == 50
    assert prompt_limit(asked(finds, 100, needle_tokens=500)) == 100


@pytest.mark.parametrize(
    ('questions', 'parts', 'each'),
    [(256, 9, 28), (256, 4, 64), (27, 4, 6), (1, 9, 2)],
)
def test_questions_come_in_pairs(questions: int, parts: int, each: int) -> None:
    assert questions_per(asked(finds, questions=questions), parts) == each


def test_every_name_and_seed_is_chance_of_its_own() -> None:
    def draw(seed: int, name: str) -> int:
        generator = seeded(asked(finds, seed=seed), name)
        return int(torch.randint(1 << 30, (), generator=generator))

    assert draw(0, 'a') == draw(0, 'a')
    assert len({draw(0, 'a'), draw(0, 'b'), draw(1, 'a'), draw(10, 'a')}) == 4


def words_only(**options: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({'<unk>': 0, 'the': 1}, '<unk>'))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)


def test_a_model_that_reads() -> None:
    subject = asked(finds)
    assert unreadable(subject) is None
    require_text(subject)


def test_what_cannot_be_read() -> None:
    subject = asked(finds)

    def refusing(text: str) -> Any:
        raise KeyError(text[:3])

    few = asked(finds)
    few.model.embedding = torch.nn.Embedding(100, 2)
    for other, message in (
        (dataclasses.replace(subject, tokenizer=refusing), 'KeyError'),
        (few, 'tokens the model knows, below 100'),
        (
            dataclasses.replace(
                subject, tokenizer=words_only(unk_token='<unk>')
            ),
            'its unknown token',
        ),
    ):
        assert message in (unreadable(other) or '')
        with pytest.raises(NotImplementedError, match=message):
            require_text(other)


def test_longer_prompts_need_more_memory() -> None:
    subject = asked(finds)
    sizes = [pass_memory(subject, tokens) for tokens in (100, 1000, 20000)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
