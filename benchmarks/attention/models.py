"""Whole models beside their converted copies."""

from __future__ import annotations

import copy
from typing import Any

import torch
from attention.bench import Bench
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

import gnnbridge as gb


def gpt2(device: str) -> Any:
    """A model of GPT-2's shape and its converted copy."""
    torch.manual_seed(0)
    config = GPT2Config(attn_implementation='sdpa')
    model = GPT2LMHeadModel(config).eval().to(device)
    return model, gb.convert(copy.deepcopy(model))


def prefill(bench: Bench) -> Any:
    """A forward pass of 1024 tokens."""
    model, ours = gpt2(bench.device)
    ids = torch.randint(50257, (1, 1024), device=bench.device)
    with torch.no_grad():
        return bench.clock.pair(lambda: ours(ids), lambda: model(ids), 40.0)


def training(bench: Bench) -> Any:
    """Forward and backward of 1024 tokens."""
    model, ours = gpt2(bench.device)
    ids = torch.randint(50257, (1, 1024), device=bench.device)

    def step(model: Any) -> None:
        model.zero_grad()
        model(ids, labels=ids).loss.backward()

    return bench.clock.pair(lambda: step(ours), lambda: step(model), 60.0)


def decode(bench: Bench) -> Any:
    """Eight tokens after 512, one at a time, with a KV cache."""
    model, ours = gpt2(bench.device)
    ids = torch.randint(50257, (1, 520), device=bench.device)
    caches = {}
    with torch.no_grad():
        for one in (model, ours):
            cache = DynamicCache(config=one.config)
            one(ids[:, :512], past_key_values=cache, logits_to_keep=1)
            caches[one] = cache

        def go_on(one: Any) -> None:
            for place in range(512, 520):
                one(ids[:, place : place + 1], past_key_values=caches[one])
            caches[one].crop(-8)

        row = bench.clock.pair(lambda: go_on(ours), lambda: go_on(model), 40.0)
    row['ours_s'], row['peer_s'] = row['ours_s'] / 8, row['peer_s'] / 8
    return row
