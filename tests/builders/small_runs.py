"""Small models and streams to train them on, of rows that differ.

As a script, one process of a run: ``small_runs.py DIRECTORY STEPS [RANK]``,
of which the one of number ``RANK`` is killed while it draws step 4.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Generator, distributed
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    set_seed,
)

from gnnbridge.models.training import Stream, StreamMixture, train

TOKENS: dict[str, Any] = {
    'vocab_size': 13, 'bos_token_id': None, 'eos_token_id': None,
}  # fmt: skip
_NEOX: dict[str, Any] = {
    'hidden_size': 8, 'intermediate_size': 12, 'num_hidden_layers': 1,
    'num_attention_heads': 2, **TOKENS,
}  # fmt: skip
LLAMA = {**_NEOX, 'num_key_value_heads': 1}
# Of these, three kinds of dropout are on.
_GPT2 = {'n_embd': 8, 'n_layer': 1, 'n_head': 2, 'n_positions': 16, **TOKENS}
SETTINGS: dict[str, Any] = {
    'learning_rate': 1e-2,
    'logging_steps': 1000,
    'disable_tqdm': True,
    'save_steps': 3,
}


def new_model(
    name: str = 'llama', *, seed: int = 0, **changes: Any
) -> PreTrainedModel:
    set_seed(seed)
    if name == 'neox':
        return GPTNeoXForCausalLM(GPTNeoXConfig(**{**_NEOX, **changes}))
    if name == 'gpt2':
        return GPT2LMHeadModel(GPT2Config(**{**_GPT2, **changes}))
    return LlamaForCausalLM(LlamaConfig(**{**LLAMA, **changes}))


def counting(step: int, generator: Generator) -> dict[str, Any]:
    start = torch.randint(13, (4, 1), generator=generator)
    ids = (start + torch.arange(7)) % 13
    return {'input_ids': ids, 'labels': ids}


def repeating(step: int, generator: Generator) -> dict[str, Any]:
    ids = torch.randint(13, (2, 1), generator=generator).expand(-1, 5 + step)
    return {'input_ids': ids, 'labels': ids}


def uneven(step: int, generator: Generator) -> dict[str, Any]:
    """Five rows, with 0 to 4 labels."""
    ids = torch.randint(13, (5, 8), generator=generator)
    labels = ids.where(torch.arange(8) >= 8 - torch.arange(5)[:, None], -100)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    return {'input_ids': ids, 'labels': labels, 'attention_mask': mask}


def lonely(step: int, generator: Generator) -> dict[str, Any]:
    """Three rows, of which the second alone has labels at odd steps."""
    ids = torch.randint(13, (3, 6), generator=generator)
    labels = ids.clone()
    if step % 2:
        labels[0::2] = -100
    positions = torch.arange(6).unsqueeze(0)
    return {'input_ids': ids, 'labels': labels, 'position_ids': positions}


def mixture(seed: int = 0) -> StreamMixture:
    streams = [
        Stream('counting', counting),
        Stream('repeating', repeating, weight=0.25, start=2),
    ]
    return StreamMixture(streams, seed)


def uneven_mixture(killed_at: int | None = None) -> StreamMixture:
    def drawn(step: int, generator: Generator) -> dict[str, Any]:
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return uneven(step, generator)

    streams = [Stream('uneven', drawn), Stream('lonely', lonely, 0.5, start=1)]
    return StreamMixture([Stream('c', counting), *streams], 5)


def run_uneven(
    directory: str | Path,
    steps: int,
    *,
    seed: int = 0,
    killed_at: int | None = None,
    **settings: Any,
) -> PreTrainedModel:
    """A run in double precision, which rounding hardly moves."""
    return train(
        new_model(seed=seed).double(),
        uneven_mixture(killed_at),
        directory,
        steps=steps,
        **{**SETTINGS, 'logging_steps': 2, **settings},
    )


if __name__ == '__main__':
    out, steps, *dies = sys.argv[1:]
    rank = os.environ['RANK']
    # What is registered first is called last.
    atexit.register(
        lambda: sys.stdout.write(
            f'group open: {distributed.is_initialized()}\n'
        )
    )
    # What others than the first process start with is not what is trained.
    run_uneven(
        out,
        int(steps),
        seed=int(rank),
        killed_at=4 if dies == [rank] else None,
    )
