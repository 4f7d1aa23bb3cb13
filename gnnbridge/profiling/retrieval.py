"""Key-value retrieval for any causal language model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from gnnbridge.datasets.retrieval import (
    IGNORED,
    RetrievalBatch,
    absent_key_control,
    key_value_retrieval,
)
from gnnbridge.datasets.vocabulary import StreamVocabulary
from gnnbridge.diagnostics.retrieval import retrieval_curve
from gnnbridge.models.embedded.tokenizer import NUM_SYMBOLS, SPECIAL_TOKENS
from gnnbridge.profiling.reading import reading_limit
from gnnbridge.profiling.sampling import Subject, Tally

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

# Numbers of one tensor of logits.
_LOGITS = 1 << 26
_MOST_ROWS = 64


@dataclass(frozen=True)
class RetrievalTask:
    """Sequences that bind keys to values and ask for some of them.

    Attributes:
        name: What they are made of.
        asked: Sequences that ask for bound keys.
        control: Sequences that ask for a key that they do not bind.
        among_values: Whether an answer is the likeliest of the bound values;
            otherwise it is the likeliest of all tokens.
    """

    name: str
    asked: RetrievalBatch
    control: RetrievalBatch
    among_values: bool

    @property
    def num_pairs(self) -> int:
        """The bindings of each sequence."""
        return self.asked.values.size(1)

    def describe(self) -> dict[str, Any]:
        """What was asked, as plain data."""
        return {
            'name': self.name,
            'pairs': self.num_pairs,
            'questions': self.asked.gold.numel(),
            'tokens': self.asked.input_ids.size(1),
            'control_questions': self.control.gold.numel(),
            'control_tokens': self.control.input_ids.size(1),
            'answered': 'the bound values' if self.among_values else 'all',
            'chance': 1 / self.num_pairs,
        }

    def accuracy(self, model: PreTrainedModel) -> dict[str, Any]:
        """The share of right answers, also by the place of the binding."""
        right = self._right(model, self.asked)
        place = self.asked.gold.flatten()
        hits = torch.bincount(place, right.flatten(), self.num_pairs)
        asked = torch.bincount(place, minlength=self.num_pairs)
        return {
            'accuracy': float(right.mean()),
            'by_place': (hits / asked).tolist(),
        }

    def absent_key(self, model: PreTrainedModel) -> dict[str, Any]:
        """How often each place is named where nothing is to be found."""
        by_place = self._named(model, self.control).flatten(0, 1).mean(0)
        return {
            'absent_key_most': float(by_place.max()),
            'absent_key_by_place': by_place.tolist(),
        }

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences together."""
        return self.asked.input_ids.numel() + self.control.input_ids.numel()

    def samples(
        self, subject: Subject, part: int, parts: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is answered to some of the questions.

        Args:
            subject: The model that is asked.
            part: Which part of the sequences, counted from 0.
            parts: In how many parts they are asked.

        Returns:
            For each question whether its answer is right, in the column of
            its place, NaN elsewhere ``[S, n]``; and for each control question
            which places its answer names ``[C, n]``.
        """
        asked, control = (
            dataclasses.replace(
                batch,
                input_ids=batch.input_ids[part::parts],
                values=batch.values[part::parts],
                gold=batch.gold[part::parts],
            )
            for batch in (self.asked, self.control)
        )
        right = self._right(subject.model, asked).flatten()
        named = self._named(subject.model, control).flatten(0, 1)
        return in_columns(right, asked.gold.flatten(), self.num_pairs), (
            named.numpy()
        )

    def _right(self, model: PreTrainedModel, batch: RetrievalBatch) -> Tensor:
        """Whether the binding that is asked for is named ``[B, Q]``."""
        named = self._named(model, batch)
        return named.gather(2, batch.gold.unsqueeze(2)).squeeze(2)

    def _named(self, model: PreTrainedModel, batch: RetrievalBatch) -> Tensor:
        """Which bindings each answer names ``[B, Q, n]`` float64.

        Among the bound values, those that are equally likely share it: in
        half precision they often are, and the first of them is no answer.
        """
        parts = [torch.empty(0, batch.gold.size(1), self.num_pairs)]
        for rows in _slices(model, batch.input_ids):
            at = _logits_at(model, batch.input_ids[rows], batch.asked_at)
            values = batch.values[rows].unsqueeze(1)
            if not self.among_values:
                parts.append((at.argmax(-1).unsqueeze(2) == values).double())
                continue
            score = at.gather(2, values.expand(-1, at.size(1), -1))
            best = (score == score.amax(2, keepdim=True)).double()
            parts.append(best / best.sum(2, keepdim=True))
        return torch.cat(parts)


def in_columns(values: Tensor, column: Tensor, size: int) -> np.ndarray:
    """Each value in its column, NaN elsewhere ``[S, size]`` float64."""
    found = np.full((len(values), size), np.nan)
    found[np.arange(len(values)), column.numpy()] = values.numpy()
    return found


def curve_by_place(own: Tally, task: str, chance: float) -> dict[str, Any]:
    """What the accuracy of a task is by place, as plain data.

    Args:
        own: What was counted: ``<task>/accuracy`` and ``<task>/absent``.
        task: The task.
        chance: The accuracy of a guess.
    """
    accuracy, absent = f'{task}/accuracy', f'{task}/absent'
    curve = retrieval_curve(
        torch.from_numpy(own.mean(accuracy)),
        control=torch.from_numpy(own.mean(absent)),
        chance=chance,
        questions=torch.from_numpy(own.count(accuracy)),
        control_questions=torch.from_numpy(own.count(absent)),
    )
    return {
        'accuracy': curve.accuracy.tolist(),
        'absent': curve.absent.tolist(),
        'corrected': curve.corrected.tolist(),
        'standard_error': curve.standard_error.tolist(),
        'absent_standard_error': curve.absent_standard_error.tolist(),
        'total_accuracy': curve.total,
        'chance': curve.chance,
        'u_depth': curve.u_depth,
        'u_depth_error': curve.u_depth_error,
        'primacy_slope': curve.primacy_slope,
        'primacy_slope_error': curve.primacy_slope_error,
        'recency_slope': curve.recency_slope,
        'recency_slope_error': curve.recency_slope_error,
        'questions': int(curve.questions.sum()),
    }


def retrieval_task(
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    pairs: int,
    questions: int,
    bos: bool,
    seed: int,
) -> RetrievalTask | None:
    """Key-value retrieval in the words of a model.

    A model that knows the key and value tokens of the embedded decoder reads
    the stream that this was trained on, and answers with the likeliest of all
    tokens. For any other, keys and values are distinct random tokens of its
    vocabulary without the special ones, ``k1 v1 ... kn vn ki``, and the answer
    is the likeliest of the n values: a guess is right once in n times. That
    is no task that the model was trained on; what counts is how the graph
    changes its answers.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        pairs: Bindings of each sequence, fewer where vocabulary or context
            have no room.
        questions: How many keys are asked for in all, and in the control.
        bos: Whether sequences start with the tokenizer's first token.
        seed: Source of chance.

    Returns:
        The task; ``None`` if there is no room for two pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = _stream_vocabulary(tokenizer)
    if stream is not None:
        # One key more is drawn for the control.
        pairs = min(pairs, stream.num_symbols - 1)
        rows = -(-questions // pairs)
        return RetrievalTask(
            name='the key-value stream that the model was trained on',
            asked=key_value_retrieval(rows, pairs, stream, generator=generator),
            control=absent_key_control(
                questions, pairs, stream, generator=generator
            ),
            among_values=False,
        )
    tokens = _ordinary_tokens(model, tokenizer)
    first = [tokenizer.bos_token_id] if bos else []
    wanted = len(first) + 2 * pairs + 1
    room = (reading_limit(model, wanted) - len(first) - 1) // 2
    pairs = min(pairs, (len(tokens) - 1) // 2, room)
    if pairs < 2:
        return None
    asked, control = _random_bindings(
        tokens, first, pairs, questions, generator
    )
    return RetrievalTask(
        name='random tokens of the vocabulary',
        asked=asked,
        control=control,
        among_values=True,
    )


def _random_bindings(
    tokens: Tensor,
    first: list[int],
    pairs: int,
    questions: int,
    generator: Generator,
) -> tuple[RetrievalBatch, RetrievalBatch]:
    """Sequences that ask for a bound key, and others for an absent one."""
    batches = []
    for bound in (True, False):
        drawn = torch.stack(
            [
                torch.randperm(len(tokens), generator=generator)
                for _ in range(questions)
            ]
        )
        drawn = tokens[drawn[:, : 2 * pairs + 1]]
        keys, values = drawn[:, :pairs], drawn[:, pairs:-1]
        place = torch.arange(questions).unsqueeze(1) % pairs
        asked = keys.gather(1, place) if bound else drawn[:, -1:]
        opening = torch.stack([keys, values], dim=2).flatten(1)
        input_ids = torch.cat([opening, asked], dim=1)
        input_ids = F.pad(input_ids, (len(first), 0), value=sum(first))
        batches.append(
            RetrievalBatch(
                input_ids=input_ids,
                labels=torch.full_like(input_ids, IGNORED),
                values=values,
                gold=place if bound else torch.full_like(place, -1),
                asked_at=torch.tensor([input_ids.size(1) - 1]),
            )
        )
    return batches[0], batches[1]


def _stream_vocabulary(tokenizer: Any) -> StreamVocabulary | None:
    """The tokens of the embedded model's stream, if a tokenizer has them."""
    known = tokenizer.get_vocab()
    if not set(SPECIAL_TOKENS) <= set(known):
        return None
    ids = [known[token] for token in SPECIAL_TOKENS]
    if ids != list(range(ids[0], ids[0] + len(ids))):
        return None
    return StreamVocabulary(
        bos=known['<bos>'],
        query=known['<q>'],
        first_key=known['<k0>'],
        first_value=known['<v0>'],
        num_symbols=NUM_SYMBOLS,
    )


def _ordinary_tokens(model: PreTrainedModel, tokenizer: Any) -> Tensor:
    """Ids that the model knows and that are no special tokens."""
    size = len(tokenizer)
    embedding = model.get_input_embeddings()
    size = min(size, getattr(embedding, 'num_embeddings', size))
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ordinary = torch.ones(size, dtype=torch.bool)
    ordinary[[token for token in special if token < size]] = False
    return ordinary.nonzero().squeeze(1)


@torch.no_grad()
def _logits_at(model: PreTrainedModel, ids: Tensor, at: Tensor) -> Tensor:
    """Logits at some places ``[B, Q, V]``, on the CPU."""
    if model.device.type != 'meta':  # an offloaded one fetches them
        ids = ids.to(model.device)
    found = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    logits = getattr(found, 'logits', None)
    if logits is None or logits.dim() != 3:
        raise NotImplementedError(
            'Expected a causal language model, with logits for each token '
            f"(got '{type(model).__name__}')."
        )
    return logits[:, at.to(logits.device)].float().cpu()


def _slices(model: PreTrainedModel, input_ids: Tensor) -> list[slice]:
    """Rows that are run together, so that their logits fit into memory."""
    rows, length = input_ids.shape
    embedding = model.get_input_embeddings()
    vocabulary = getattr(embedding, 'num_embeddings', 1)
    step = max(1, min(_MOST_ROWS, _LOGITS // (length * vocabulary)))
    return [slice(start, start + step) for start in range(0, rows, step)]
