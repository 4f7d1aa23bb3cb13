"""Questions in plain text that a model of any tokenizer can be asked.

Each comes with the answers to choose from, so that a model is scored by which
of them it holds for likeliest: it need not follow instructions, and a guess
is right once in as many times as there are answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator

from gnnbridge.datasets.text import sample_text

UUID_DIGITS = 32
_UUID_GROUPS = (8, 4, 4, 4, 12)
# All of four letters, so that prompts are of nearly one length.
_TOWNS = (
    'Rome', 'Lima', 'Oslo', 'Bern', 'Riga', 'Baku', 'Doha', 'Suva',
    'Kyiv', 'Lyon', 'York', 'Graz', 'Pisa', 'Kobe', 'Giza', 'Bari',
)  # fmt: skip
_LOWEST_CODE, _NUM_CODES = 1000, 9000


@dataclass(frozen=True)
class Prompt:
    """A text that ends where its answer begins.

    Attributes:
        text: The text, with no space at its end.
        candidates: What may follow it, each with its leading space.
        right: Which of them is right, counted from 0; -1 if none is.
        place: At which of the places what is asked for stands, counted from
            0; -1 if it stands nowhere.
    """

    text: str
    candidates: tuple[str, ...]
    right: int
    place: int


@dataclass(frozen=True)
class Haystack:
    """A text to hide needles in.

    Attributes:
        depths: Where a needle may lie: the share of the text before it, from
            0 to 1.
        characters: The length of the text at most, without the needles.
        others: How many more needles it holds, at other depths, which answer
            other questions.
        filler: What the text is made of, from some word of it on and over
            again; the sample text of the package by default.
    """

    depths: tuple[float, ...]
    characters: int
    others: int = 3
    filler: str | None = None

    def __post_init__(self) -> None:
        """Check what can be hidden."""
        outside = [x for x in self.depths if not 0 <= x <= 1]
        if outside or not self.depths:
            raise ValueError(
                f"Expected 'depths' between 0 and 1 (got {self.depths})."
            )
        # One town more is asked for where none is to be found.
        most = min(len(self.depths) - 1, len(_TOWNS) - 2)
        if not 1 <= self.others <= most:
            raise ValueError(
                f"Expected 'others' between 1 and {most}, as the number of "
                f'depths allows (got {self.others}).'
            )
        if self.characters < 0:
            raise ValueError(
                f"Expected 'characters' not to be negative (got "
                f'{self.characters}).'
            )
        if not self.words():
            raise ValueError("Expected words in 'filler' (got none).")

    def words(self) -> list[str]:
        """The words of the filler."""
        text = sample_text() if self.filler is None else self.filler
        return text.split()


def json_retrieval(
    num_prompts: int,
    num_pairs: int,
    *,
    bound: bool = True,
    hex_digits: int = 8,
    generator: Generator,
) -> list[Prompt]:
    """Asks for one value of a JSON object of random keys and values.

    The key-value task of `Liu et al., 2024
    <https://arxiv.org/abs/2307.03172>`_. Theirs are UUIDs, which
    ``hex_digits=32`` gives; the short ones leave room for more pairs in a
    small context. The candidates are the values in the order of their keys.
    The place of the key that is asked for runs from the first to the last and
    over again.

    Args:
        num_prompts: How many to draw.
        num_pairs: The number of keys in each.
        bound: Whether the key that is asked for is there. If not, there is
            nothing to retrieve: the absent-key control.
        hex_digits: The length of keys and values.
        generator: Source of chance.

    Raises:
        ValueError: If there are not enough keys of so few digits.
    """
    needed = 2 * num_pairs + 1
    if num_pairs < 1 or 16**hex_digits < 4 * needed:
        raise ValueError(
            f'Expected at least one pair, and four times more words of '
            f'{hex_digits} hexadecimal digits than the {needed} in use (got '
            f'{num_pairs} pairs). Use more digits.'
        )
    prompts = []
    for number in range(num_prompts):
        words = _hex_words(needed, hex_digits, generator)
        keys, values = words[:num_pairs], words[num_pairs:-1]
        place = number % num_pairs if bound else -1
        pairs = zip(keys, values, strict=True)
        lines = ',\n'.join(f' "{key}": "{value}"' for key, value in pairs)
        # The last word was given to no pair.
        asked = keys[place] if bound else words[-1]
        prompts.append(
            Prompt(
                text='Find the value of a key in the JSON object below.\n\n'
                f'{{{lines.strip()}}}\n\nKey: "{asked}"\nValue:',
                candidates=tuple(f' "{value}"' for value in values),
                right=place,
                place=place,
            )
        )
    return prompts


def needle_prompts(
    num_prompts: int,
    place: int,
    haystack: Haystack,
    *,
    bound: bool = True,
    generator: Generator,
) -> list[Prompt]:
    """Hides a sentence in a text and asks for it at the end.

    A needle gives the code of a town. The text holds several, of different
    towns and codes at different depths (the multi-key needles of `Hsieh et
    al., 2024 <https://arxiv.org/abs/2404.06654>`_), and their codes are the
    candidates, the one at the place in question first. All candidates thus
    stand in the text: to prefer a code because it was seen is no answer.

    Args:
        num_prompts: How many to draw.
        place: Which of the depths the needle in question lies at.
        haystack: The text around it.
        bound: Whether its town is asked for. If not, the question is for a
            town without a needle: the absent-key control, in which the first
            candidate is named as often as the others unless its depth is
            preferred.
        generator: Source of chance.

    Raises:
        ValueError: If there is no such place.
    """
    if not 0 <= place < len(haystack.depths):
        raise ValueError(
            f"Expected 'place' to be one of the {len(haystack.depths)} depths, "
            f'counted from 0 (got {place}).'
        )
    words = haystack.words()
    prompts = []
    for _ in range(num_prompts):
        count = haystack.others + 1
        towns = [_TOWNS[t] for t in _some(len(_TOWNS), count + 1, generator)]
        codes = [_LOWEST_CODE + c for c in _some(_NUM_CODES, count, generator)]
        others = [p for p in range(len(haystack.depths)) if p != place]
        drawn = _some(len(others), count - 1, generator)
        places = [place, *(others[p] for p in drawn)]
        needles = [
            (haystack.depths[p], f'The code of {town} is {code}.')
            for p, town, code in zip(places, towns, codes, strict=False)
        ]
        start = int(torch.randint(len(words), (), generator=generator))
        text = _hidden(needles, _excerpt(words, start, haystack.characters))
        asked = towns[0] if bound else towns[-1]
        prompts.append(
            Prompt(
                text=f'{text}\nThe code of {asked} is',
                candidates=tuple(f' {code}' for code in codes),
                right=0 if bound else -1,
                place=place if bound else -1,
            )
        )
    return prompts


def _hidden(needles: list[tuple[float, str]], words: list[str]) -> str:
    """Words with needles between them, each on a line of its own."""
    lines, done = [], 0
    for depth, needle in sorted(needles):
        upto = round(depth * len(words))
        lines += [' '.join(words[done:upto]), needle]
        done = upto
    lines.append(' '.join(words[done:]))
    return '\n'.join(line for line in lines if line)


def _excerpt(words: list[str], start: int, characters: int) -> list[str]:
    """The words from one on, around and around, that fit."""
    found: list[str] = []
    room = characters
    while True:
        word = words[(start + len(found)) % len(words)]
        room -= len(word) + 1
        if room < 0:
            return found
        found.append(word)


def _some(size: int, count: int, generator: Generator) -> list[int]:
    """Different numbers below a size."""
    return torch.randperm(size, generator=generator)[:count].tolist()


def _hex_words(count: int, digits: int, generator: Generator) -> list[str]:
    """Different words; UUIDs are written with their dashes."""
    words: dict[str, None] = {}
    while len(words) < count:
        drawn = torch.randint(16, (digits,), generator=generator).tolist()
        word = ''.join(f'{digit:x}' for digit in drawn)
        if digits == UUID_DIGITS:
            parts = iter(word)
            word = '-'.join(
                ''.join(next(parts) for _ in range(size))
                for size in _UUID_GROUPS
            )
        words[word] = None
    return list(words)
