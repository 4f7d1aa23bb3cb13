"""Asking a model for what keys were bound to, in tokens that it knows."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from gnnbridge.datasets.duplicates import BindingTokens
from gnnbridge.profiling.reading import reading_limit
from gnnbridge.profiling.retrieval import (
    _ordinary_tokens,
    _slices,
    _stream_vocabulary,
)
from gnnbridge.profiling.sampling import Subject

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

# First, middle and last place.
_FEWEST = 3


@dataclass(frozen=True)
class Bindings:
    """How a model is asked.

    Attributes:
        tokens: What is bound.
        pairs: The bindings of a sequence.
        among_values: Whether an answer is the likeliest of the bound values;
            otherwise it is the likeliest of all tokens.
    """

    tokens: BindingTokens
    pairs: int
    among_values: bool

    @property
    def most_tokens(self) -> int:
        """Tokens of a sequence that asks for every binding."""
        return len(self.tokens.opening) + self.pairs * _width(self.tokens)


def bindings(subject: Subject) -> Bindings:
    """How a model is asked for what keys were bound to.

    A model that knows the keys and values of the embedded decoder is asked in
    these and answers with the likeliest of all tokens; any other is asked in
    random tokens of its vocabulary and answers with the likeliest of the
    bound values. That is no task that it was trained on.

    Raises:
        NotImplementedError: If there is no room for three bindings.
    """
    tokenizer, pairs = subject.tokenizer, subject.settings.pairs
    stream = _stream_vocabulary(tokenizer)
    if stream is not None:
        tokens = BindingTokens.of_stream(stream)
    else:
        ordinary = _ordinary_tokens(subject.model, tokenizer)
        generator = torch.Generator().manual_seed(subject.settings.seed)
        ordinary = ordinary[torch.randperm(len(ordinary), generator=generator)]
        half = len(ordinary) // 2
        opening = (int(subject.sequences[0][0]),) if subject.bos else ()
        tokens = BindingTokens(
            keys=ordinary[:half],
            values=ordinary[half:],
            opening=opening,
        )
    first, width = len(tokens.opening), _width(tokens)
    room = (
        reading_limit(subject.model, first + width * pairs) - first
    ) // width
    pairs = min(pairs, len(tokens.keys), len(tokens.values), room)
    if pairs < _FEWEST:
        raise NotImplementedError(
            'Expected room for three bindings in vocabulary and context (got '
            f'room for {pairs}).'
        )
    return Bindings(tokens, pairs, among_values=stream is None)


@torch.no_grad()
def answers(
    model: PreTrainedModel,
    input_ids: Tensor,
    asked_at: Tensor,
    *,
    among: Tensor | None = None,
    noise: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """The token that a model names at each asked place.

    Args:
        model: A causal language model, on any device.
        input_ids: Token ids ``[B, T]``.
        asked_at: Where it is asked ``[Q]``.
        among: The tokens to choose from ``[B, n]``; all if ``None``. Equally
            likely ones are drawn from.
        noise: Standard deviation of the Gaussian noise on the embedding of
            every token, in units of that of the embedding matrix.
        generator: Source of the noise, on the CPU.

    Returns:
        Token ids ``[B, Q]``, on the CPU.

    Raises:
        NotImplementedError: If the model gives no logits, or takes no
            embeddings in place of tokens where there is noise.
    """
    found = []
    # In half precision several are often equally likely; to take the first
    # of them would favour the first place.
    lots = torch.Generator().manual_seed(0)
    for rows in _slices(model, input_ids):
        ids = input_ids[rows]
        if model.device.type != 'meta':  # an offloaded one fetches them
            ids = ids.to(model.device)
        inputs = {'input_ids': ids}
        if noise:
            inputs = {'inputs_embeds': _noisy(model, ids, noise, generator)}
        output = model(**inputs, attention_mask=torch.ones_like(ids))
        if output.get('logits') is None or output.logits.dim() != 3:
            raise NotImplementedError(
                'Expected a causal language model, with logits for each token '
                f"(got '{type(model).__name__}')."
            )
        logits = output.logits[:, asked_at.to(output.logits.device)]
        logits = logits.float().cpu()
        if among is None:
            found.append(logits.argmax(-1))
            continue
        values = among[rows]
        wide = values.unsqueeze(1).expand(-1, logits.size(1), -1)
        score = logits.gather(2, wide)
        best = score == score.amax(2, keepdim=True)
        order = torch.rand(score.shape, generator=lots)
        place = order.masked_fill(~best, -1.0).argmax(-1)
        found.append(values.gather(1, place))
    return torch.cat(found)


def _noisy(
    model: PreTrainedModel,
    ids: Tensor,
    noise: float,
    generator: Generator | None,
) -> Tensor:
    """Embeddings ``[B, T, d]`` with noise on every component."""
    embedding = model.get_input_embeddings()
    weight = getattr(embedding, 'weight', None)
    takes = 'inputs_embeds' in inspect.signature(model.forward).parameters
    if not takes or weight is None or weight.device.type == 'meta':
        raise NotImplementedError(
            "Expected a model that takes 'inputs_embeds' in place of tokens "
            f"(got '{type(model).__name__}', which does not). Its embeddings "
            'cannot be made noisy.'
        )
    embedded: Tensor = embedding(ids)
    # Some embeddings scale what they look up.
    factor = embedded.float().norm() / F.embedding(ids, weight).float().norm()
    size = noise * factor * weight.float().std()
    drawn = torch.randn(embedded.shape, generator=generator).to(embedded.device)
    return (embedded.float() + size * drawn).to(embedded.dtype)


def _width(tokens: BindingTokens) -> int:
    """Tokens of a binding and of its question with the answer."""
    return 4 + len(tokens.query)
