"""How likely a causal language model holds each of several answers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from gnnbridge.models.support import evaluation_mode

# Tokens that run together, and numbers of their logits.
MOST_TOKENS = 1 << 13
MOST_LOGITS = 1 << 25
# How far the same by another way may be off, relative and absolute.
_TOLERANCE = 1e-3
# What these hold of a prompt is one row for each token: it can be repeated
# for every candidate, and the prompt has to run but once. States of other
# kinds (of state-space layers) are left alone.
_PER_TOKEN = (DynamicLayer, DynamicSlidingWindowLayer)


@dataclass(frozen=True)
class Question:
    """A prompt and its candidates as tokens.

    Attributes:
        prompt: Tokens that all candidates begin with, at least one.
        candidates: The tokens of each that follow, at least one.
    """

    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longest candidate."""
        return len(self.prompt) + max(map(len, self.candidates))


@dataclass(frozen=True)
class CandidateScores:
    """Log-probabilities of candidates.

    Attributes:
        total: Of each candidate, given its prompt ``[B, C]`` float64; NaN
            where a prompt has fewer candidates.
        tokens: How many tokens it is the sum over ``[B, C]`` int64.
    """

    total: Tensor
    tokens: Tensor

    @property
    def per_token(self) -> Tensor:
        """The mean over the tokens of a candidate ``[B, C]`` float64."""
        return self.total / self.tokens

    @property
    def picked(self) -> Tensor:
        """Share of each candidate in being the likeliest ``[B, C]`` float64.

        One, or in equal parts where several are equally likely; NaN where
        the model gives no numbers.
        """
        there = self.tokens > 0
        score = self.total.masked_fill(~there, -math.inf)
        best = score == score.amax(1, keepdim=True)
        share = best.double() / best.sum(1, keepdim=True)
        broken = (there & self.total.isnan()).any(1, keepdim=True)
        return share.masked_fill(~there | broken, math.nan)

    def margin(self, right: Tensor) -> Tensor:
        """By how much one candidate is likelier than the best of the others.

        Args:
            right: Which candidate ``[B]``.

        Returns:
            Difference of log-probabilities ``[B]`` float64.
        """
        own = self.total.gather(1, right.unsqueeze(1))
        others = self.total.scatter(1, right.unsqueeze(1), -math.inf)
        others = others.masked_fill(self.tokens == 0, -math.inf)
        return (own - others.amax(1, keepdim=True)).squeeze(1)


def candidate_log_probs(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[Any],
    candidates: Sequence[Sequence[Any]],
) -> CandidateScores:
    r"""Log-probability of each candidate as what follows its prompt.

    .. math::
        \log p(c \mid x) = \sum_{t} \log p(c_t \mid x, c_{<t})

    Text is encoded with its candidate as one string, and the tokens that the
    prompt shares with all of these strings are what is given; see
    :func:`encode_question`. A prompt runs once for all of its candidates
    where a trial with the model's cache gives what a whole sequence gives.

    Prompts of one length run together, so that nothing is padded on the left,
    which would shift absolute positions and windows; with the cache,
    candidates are padded on the right, where no token that is scored sees
    it. The model runs as it is, converted or not.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer; ``None`` if prompts and candidates are lists
            of token ids.
        prompts: A text for each of B questions.
        candidates: What may follow each of them.

    Returns:
        The scores, on the CPU.

    Raises:
        ValueError: If there are not as many prompts as lists of candidates,
            or a prompt, a list or a candidate is empty.
        NotImplementedError: If the model gives no logits for each token.
    """
    if len(prompts) != len(candidates) or not prompts:
        raise ValueError(
            f'Expected candidates for each of at least one prompt (got '
            f'{len(prompts)} prompts and {len(candidates)} lists).'
        )
    pairs = zip(prompts, candidates, strict=True)
    if tokenizer is None:
        questions = [_of_ids(prompt, some) for prompt, some in pairs]
    else:
        leading = leading_tokens(tokenizer)
        questions = [
            encode_question(tokenizer, prompt, some, leading)
            for prompt, some in pairs
        ]
    return score_questions(model, questions)


def encode_question(
    tokenizer: Any,
    prompt: str,
    candidates: Sequence[str],
    leading: Sequence[int] | None = None,
) -> Question:
    """Tokens of a prompt and of what may follow it.

    A tokenizer may merge the end of a prompt with the start of a candidate,
    and a model has hardly seen the two apart. Prompt and candidate are
    therefore encoded as one string, and tokens are given to the model as far
    as the prompt alone and all of its candidates agree. Where they merge, the
    last token of the prompt counts to every candidate, and what is compared
    is still the likelihood of the same strings.

    Args:
        tokenizer: The tokenizer.
        prompt: The text.
        candidates: What may follow, each with the space that it begins with.
        leading: :func:`leading_tokens`, if they are known.

    Raises:
        ValueError: If there is no candidate, one of them adds no token, or no
            token is left to be given.
    """
    first = leading_tokens(tokenizer) if leading is None else leading
    own = _plain(tokenizer, prompt)
    whole = [_plain(tokenizer, prompt + candidate) for candidate in candidates]
    # At least one token of each is to be scored.
    most = min([len(own), *(len(ids) - 1 for ids in whole)])
    shared = 0
    while shared < most and all(ids[shared] == own[shared] for ids in whole):
        shared += 1
    return _checked(
        (*first, *own[:shared]), tuple(tuple(ids[shared:]) for ids in whole)
    )


def leading_tokens(tokenizer: Any) -> list[int]:
    """The special tokens that a tokenizer puts in front of every text."""
    text = '0'
    plain = _plain(tokenizer, text)
    ids = list(tokenizer(text)['input_ids'])
    for start in range(len(ids) - len(plain) + 1):
        if ids[start : start + len(plain)] == plain:
            return ids[:start]
    return []


@torch.no_grad()
def score_questions(
    model: PreTrainedModel, questions: Sequence[Question]
) -> CandidateScores:
    """The scores of questions that are tokens already.

    See :func:`candidate_log_probs`.
    """
    if getattr(model.config, 'is_encoder_decoder', False):
        raise NotImplementedError(
            'Expected a causal language model (got the encoder-decoder '
            f"'{type(model).__name__}')."
        )
    shape = (len(questions), max(len(q.candidates) for q in questions))
    total = torch.full(shape, math.nan, dtype=torch.float64)
    tokens = torch.zeros(shape, dtype=torch.int64)
    for row, question in enumerate(questions):
        for column, candidate in enumerate(question.candidates):
            tokens[row, column] = len(candidate)
    runner = _Runner(model)
    with evaluation_mode(model):
        for rows in runner.batches(questions):
            found = runner.scores([questions[row] for row in rows])
            for row, scores in zip(rows, found, strict=True):
                total[row, : len(scores)] = scores
    return CandidateScores(total, tokens)


class _Runner:
    """Runs questions with one length and number of candidates together."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        accepted = inspect.signature(model.forward).parameters
        self.keeps_few = 'logits_to_keep' in accepted
        self.has_cache = 'use_cache' in accepted
        self.trusted: bool | None = None
        embedding = model.get_input_embeddings()
        self.vocabulary = getattr(embedding, 'num_embeddings', 1)

    def batches(self, questions: Sequence[Question]) -> Iterator[list[int]]:
        """Rows of questions that run together."""
        alike: dict[tuple[int, int], list[int]] = {}
        for row, question in enumerate(questions):
            shape = len(question.prompt), len(question.candidates)
            alike.setdefault(shape, []).append(row)
        for (length, count), rows in sorted(alike.items()):
            longest = max(questions[row].longest for row in rows)
            # The cache holds a prompt once for each candidate.
            step = min(
                MOST_TOKENS // (longest * count),
                self._most_rows(length, 1),
                self._most_rows(longest - length, longest - length) // count,
            )
            step = max(1, step)
            for start in range(0, len(rows), step):
                yield rows[start : start + step]

    def scores(self, questions: Sequence[Question]) -> Tensor:
        """Log-probabilities of the candidates ``[B, C]`` float64."""
        prompt = self._placed([q.prompt for q in questions])
        # -1 where a candidate is shorter than others.
        tails = self._placed([c for q in questions for c in q.candidates])
        if tails.size(1) > 1 and not self._trusts_cache(prompt[:1], tails):
            found = self._from_all(prompt, tails)
        else:
            found = self._from_prompts(prompt, tails)
        return found.view(len(questions), -1)

    def _trusts_cache(self, prompt: Tensor, tails: Tensor) -> bool:
        """Whether a prompt may run once for all of its candidates.

        Tried with one of them: some architectures cannot go on from a cache
        with several tokens, and some do so with other results.
        """
        if self.trusted is None:
            longest = (tails >= 0).sum(1).argmax()
            tail = tails[longest : longest + 1]
            expected = self._from_all(prompt, tail)
            try:
                found = self._from_prompts(prompt, tail)
            except Exception:  # whatever an architecture's code raises
                self.trusted = False
            else:
                eps = torch.finfo(self.model.dtype).eps
                close = max(_TOLERANCE, 16 * eps)
                self.trusted = torch.allclose(found, expected, close, close)
        return self.trusted

    def _from_prompts(self, prompt: Tensor, tails: Tensor) -> Tensor:
        """The scores ``[B * C]`` from prompts that run once."""
        count = len(tails) // len(prompt)
        more = tails[:, :-1].clamp(min=0)
        options = {'use_cache': more.numel() > 0} if self.has_cache else {}
        logits, cache = self._run(prompt, 1, **options)
        logits = logits.repeat_interleave(count, dim=0)
        if more.numel():
            _check_shareable(cache)
            cache.batch_repeat_interleave(count)
            options = {'past_key_values': cache, 'use_cache': True}
            rest, _ = self._run(
                more, more.size(1), past=prompt.size(1), **options
            )
            logits = torch.cat([logits, rest], dim=1)
        return _summed(logits, tails)

    def _from_all(self, prompt: Tensor, tails: Tensor) -> Tensor:
        """The same from whole sequences, those of one length together."""
        prompt = prompt.repeat_interleave(len(tails) // len(prompt), dim=0)
        sizes = (tails >= 0).sum(1)
        found = torch.full((len(tails),), math.nan, dtype=torch.float64)
        options = {'use_cache': False} if self.has_cache else {}
        for size in sizes.unique().tolist():
            rows = (sizes == size).nonzero().squeeze(1)
            step = self._most_rows(prompt.size(1) + size, size)
            for some in rows.split(step):
                own = tails[some, :size]
                ids = torch.cat([prompt[some], own[:, :-1]], dim=1)
                logits, _ = self._run(ids, size, **options)
                found[some.cpu()] = _summed(logits, own)
        return found

    def _most_rows(self, length: int, keep: int) -> int:
        """Sequences whose logits have room."""
        kept = keep if self.keeps_few else length
        return max(1, MOST_LOGITS // (max(kept, 1) * self.vocabulary))

    def _run(
        self, ids: Tensor, keep: int, past: int = 0, **options: Any
    ) -> tuple[Tensor, Any]:
        """The last logits ``[B, keep, V]`` and the cache."""
        if self.keeps_few:
            options['logits_to_keep'] = keep
        mask = ids.new_ones(len(ids), past + ids.size(1))
        found = self.model(input_ids=ids, attention_mask=mask, **options)
        logits = getattr(found, 'logits', None)
        if logits is None or logits.dim() != 3 or logits.size(1) < keep:
            raise NotImplementedError(
                'Expected a causal language model, with logits for each token '
                f"(got '{type(self.model).__name__}')."
            )
        return logits[:, -keep:], getattr(found, 'past_key_values', None)

    def _placed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of tokens, filled on the right with -1, where the model is."""
        longest = max(map(len, rows))
        filled = [[*row, *[-1] * (longest - len(row))] for row in rows]
        device = self.model.device
        # An offloaded model fetches its inputs by itself.
        return torch.tensor(
            filled, device='cpu' if device.type == 'meta' else device
        )


def _summed(logits: Tensor, tails: Tensor) -> Tensor:
    """Sums of the log-probabilities of tokens ``[B]`` float64, on the CPU.

    Args:
        logits: What is predicted before each token ``[B, M, V]``.
        tails: The tokens ``[B, M]``; -1 is none.
    """
    tails = tails.to(logits.device)
    log_probs = logits.float().log_softmax(-1)
    own = log_probs.gather(2, tails.clamp(min=0).unsqueeze(2)).squeeze(2)
    return own.double().masked_fill(tails < 0, 0.0).sum(1).cpu()


def _check_shareable(cache: Any) -> None:
    """Refuses a cache that cannot be repeated for every candidate."""
    layers = getattr(cache, 'layers', [None])
    if type(cache) is not DynamicCache or any(
        type(layer) not in _PER_TOKEN for layer in layers
    ):
        raise NotImplementedError(
            'Expected a cache with a row for each token (got '
            f"'{type(cache).__name__}')."
        )


def _plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)['input_ids'])


def _of_ids(prompt: Any, candidates: Sequence[Any]) -> Question:
    return _checked(
        tuple(int(token) for token in prompt),
        tuple(tuple(int(token) for token in some) for some in candidates),
    )


def _checked(
    prompt: tuple[int, ...], candidates: tuple[tuple[int, ...], ...]
) -> Question:
    if not prompt or not candidates or not all(candidates):
        raise ValueError(
            f'Expected a prompt and candidates of at least one token each (got '
            f'{len(prompt)} tokens and candidates of '
            f'{[len(some) for some in candidates]}).'
        )
    return Question(prompt, candidates)
