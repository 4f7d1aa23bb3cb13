"""A model of bytes that reads what it is asked, or does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from tiny_decoder import byte_tokenizer, tiny_decoder
from torch import Tensor, nn

from gnnbridge.profiling.sampling import Subject
from gnnbridge.profiling.settings import ProfileSettings

_TOKENIZER = byte_tokenizer()
# Of the end of a sequence, no more is scored.
_SCORED = 16
Answer = Callable[[str], str | None]


class Reader(nn.Module):
    """Predicts byte by byte what a function of the text answers."""

    def __init__(self, answer: Answer, context: int = 2048) -> None:
        super().__init__()
        self.answer = answer
        self.embedding = nn.Embedding(257, 2)
        self.device, self.dtype = torch.device('cpu'), torch.float32
        self.config = tiny_decoder(max_position_embeddings=context).config
        self.longest = 0

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        logits = torch.zeros(*input_ids.shape, 257)
        length = input_ids.size(1)
        self.longest = max(self.longest, length)
        for row, text in enumerate(_TOKENIZER.batch_decode(input_ids)):
            text = text.removeprefix('<bos>')
            for cut in range(min(_SCORED, length)):
                following = self._following(text[: len(text) - cut])
                if following is not None:
                    logits[row, length - 1 - cut, self._id(following)] = 9.0
        return SimpleNamespace(logits=logits)

    def _following(self, text: str) -> str | None:
        """The next letter of the answer to the question before the end."""
        asked = text.rfind(':') if 'code of' not in text else text.rfind(' is')
        end = asked + (1 if 'code of' not in text else 3)
        answer = self.answer(text[:end])
        begun = text[end:]
        if answer is None or not answer.startswith(begun):
            return None
        return answer[len(begun) : len(begun) + 1] or None

    def _id(self, letter: str) -> int:
        return _TOKENIZER(letter)['input_ids'][-1]


def finds(text: str) -> str | None:
    """Answers every question rightly; nothing where there is no answer."""
    if found := re.search(r'Key: "(\w+)"\nValue:$', text):
        value = re.search(rf'"{found[1]}": ("\w+")', text)
        return None if value is None else f' {value[1]}'
    if found := re.search(r'The code of (\w+) is$', text):
        code = re.search(rf'The code of {found[1]} is (\d+)\.', text)
        return None if code is None else f' {code[1]}'
    digits = text.split('Digits: ')[-1].split('. ')[0].split()
    if text.endswith('First digit:'):
        return f' {digits[0]}'
    if text.endswith('Last digit:'):
        return f' {digits[-1]}'
    return f' {digits.count("1")}.'


def names_the_first(text: str) -> str | None:
    """Answers with the first value, whatever is asked."""
    found = re.search(r': ("\w+")', text) or re.search(r' is (\d+)\.', text)
    return None if found is None else f' {found[1]}'


def repeats(text: str) -> str | None:
    """Answers with the digit that is there most often."""
    digits = text.split('Digits: ')[-1].split('. ')[0].split()
    return f' {max(digits, key=digits.count)}'


def guesses(text: str) -> str | None:
    """Holds all candidates for equally likely."""
    return None


def asked(answer: Answer, context: int = 2048, **changes: Any) -> Subject:
    """A reader that is to be measured."""
    model: Any = Reader(answer, context)
    settings = {'questions': 36, 'pairs': 4, **changes}
    return Subject(
        model=model,
        tokenizer=byte_tokenizer(),
        settings=ProfileSettings(**settings),
        num_layers=2,
        causal=True,
        sequences=(),
        bos=True,
    )
