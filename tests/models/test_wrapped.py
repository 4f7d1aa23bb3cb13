"""Converted models in other hands: threads, offload, adapters, processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import architectures
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import nn

import gnnbridge as gb
from gnnbridge.graph import sliding_window_graph

LENGTH = 13
# Logits relative to the largest, float32.
TOLERANCE = 1e-5


def error(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize('place', ['cpu', 'disk'])
@torch.no_grad()
def test_weights_that_are_offloaded(place, tmp_path):
    model = architectures.build('llama')
    inputs = architectures.left_padded(model)
    real = inputs['attention_mask'].bool()
    graph = sliding_window_graph(LENGTH, 3)
    plain = model(**inputs)[0]
    with gb.rewire(model, graph):
        rewired = model(**inputs)[0][real]
    graphs = gb.capture(model, **inputs)
    if place == 'cpu':
        cpu_offload(model, execution_device='cpu')
    else:
        disk_offload(model, str(tmp_path), execution_device='cpu')
    assert model.device.type == 'meta'
    gb.convert(model)
    assert error(model(**inputs)[0][real], plain[real]) < TOLERANCE
    with gb.rewire(model, graph):
        assert error(model(**inputs)[0][real], rewired) < TOLERANCE
        tokens = model.generate(
            **inputs, max_new_tokens=3, do_sample=False, pad_token_id=0
        )
    assert tokens.shape == (2, LENGTH + 3)
    for ours, theirs in zip(gb.capture(model, **inputs), graphs, strict=True):
        torch.testing.assert_close(ours.edge_attr, theirs.edge_attr)
        torch.testing.assert_close(ours.x, theirs.x)
    gb.restore(model)
    assert torch.equal(model(**inputs)[0], plain)
    with pytest.raises(NotImplementedError, match='depend on states'):
        gb.convert_layer(model, 0)


class Adapter(nn.Module):
    """What a wrapper such as PEFT's looks like: a model around a model."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def get_base_model(self):
        return self.model

    def forward(self, **inputs):
        return self.model(**inputs)


@torch.no_grad()
def test_the_model_inside_of_an_adapter_is_converted():
    model = architectures.build('llama')
    inputs = architectures.inputs_for(model)
    linear = model.model.layers[0].self_attn.q_proj
    # Low-rank adapters replace the projections by modules around them.
    model.model.layers[0].self_attn.q_proj = nn.Sequential(linear, nn.GELU())
    adapter = Adapter(model)
    expected = adapter(**inputs)[0]
    with pytest.raises(TypeError, match=r'Convert model\.get_base_model\(\)'):
        gb.convert(adapter)
    gb.convert(adapter.get_base_model())
    assert error(adapter(**inputs)[0], expected) < TOLERANCE
    gb.restore(model)
    assert torch.equal(adapter(**inputs)[0], expected)


def run_in_threads(function, count):
    """The results of a function in several threads, by number."""
    results, errors = {}, []

    def work(number):
        try:
            with torch.no_grad():
                results[number] = function(number)
        except Exception as problem:
            errors.append(problem)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, errors


def test_threads_share_a_converted_model():
    model = gb.convert(architectures.build('mistral'))

    def run(number):
        ids = torch.arange(number, number + 9).view(1, -1) % 50 + 2
        return [
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=4,
                min_new_tokens=4, do_sample=False, pad_token_id=0,
            )
            for _ in range(4)
        ]  # fmt: skip

    found, errors = run_in_threads(run, 4)
    assert errors == []
    for number in range(4):
        alone = run(number)[0]
        assert all(torch.equal(x, alone) for x in found[number])


def test_a_rewired_model_is_one_thread_s():
    model = architectures.build('llama')
    ids = torch.arange(2, 11).unsqueeze(0)
    with gb.rewire(model, sliding_window_graph(9, 2)):
        with torch.no_grad():
            expected = model(ids)[0]
        _, errors = run_in_threads(lambda _: model(ids), 1)
        assert len(errors) == 1
        with pytest.raises(RuntimeError, match='run by one thread'):
            raise errors[0]
        with torch.no_grad():
            assert torch.equal(model(ids)[0], expected)
    # Each context is free again for whoever runs it first.
    with gb.rewire(model, sliding_window_graph(9, 2)):
        found, errors = run_in_threads(lambda _: model(ids)[0], 1)
    assert errors == []
    assert torch.equal(found[0], expected)


def test_other_threads_runs_are_not_captured():
    model = gb.convert(architectures.build('llama'))
    ids = torch.arange(2, 11).unsqueeze(0)
    expected = gb.capture(model, ids)
    other, done = torch.arange(20, 29).unsqueeze(0), []

    def disturb(graph):
        found, errors = run_in_threads(lambda _: model(other)[0], 1)
        done.append((found, errors))

    seen = []
    gb.capture(model, ids, on_layer=lambda g: (disturb(g), seen.append(g)))
    assert all(errors == [] for _, errors in done)
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours.edge_attr, theirs.edge_attr)
        torch.testing.assert_close(ours.x, theirs.x)
        torch.testing.assert_close(ours.mixing, theirs.mixing)

    def capture_too(graph):
        _, errors = run_in_threads(lambda _: gb.capture(model, other), 1)
        with pytest.raises(RuntimeError, match='captured by one thread'):
            raise errors[0]

    gb.capture(model, ids, on_layer=capture_too)


@torch.no_grad()
def test_a_cache_made_before_conversion_is_used():
    model = architectures.build('mistral')
    ids = torch.arange(2, 15).unsqueeze(0)
    expected = model(ids).logits
    cache = model(ids[:, :8], use_cache=True).past_key_values
    gb.convert(model)
    ours = model(ids[:, 8:], past_key_values=cache).logits
    assert error(ours, expected[:, 8:]) < TOLERANCE


@pytest.mark.parametrize('name', ['llama', 'bloom'])
@torch.no_grad()
def test_a_graph_longer_than_the_input(name):
    """Tokens that are not there are not waited for."""
    from gnnbridge.models.zoo.tiny import build

    model, mode = build(name), 'mask' if name == 'bloom' else 'messages'
    ids = torch.arange(2, 11).unsqueeze(0)
    with gb.rewire(model, sliding_window_graph(9, 3), mode=mode):
        expected = model(ids)[0]
    with gb.rewire(model, sliding_window_graph(40, 3), mode=mode):
        assert error(model(ids)[0], expected) < TOLERANCE


@torch.no_grad()
def test_weights_are_asked_for_in_every_way_there_is():
    model = architectures.build('llama')
    model.set_attn_implementation('eager')
    inputs = architectures.inputs_for(model)
    expected = model(**inputs, output_attentions=True).attentions
    gb.convert(model)
    asked = model(**inputs, output_attentions=True).attentions
    generated = model.generate(
        **inputs, max_new_tokens=2, do_sample=False, pad_token_id=0,
        output_attentions=True, return_dict_in_generate=True,
    ).attentions[0]  # fmt: skip
    for found in (asked, generated):
        for ours, theirs in zip(found, expected, strict=True):
            # Attention in [0, 1] by two float32 paths.
            assert (ours - theirs).abs().max() < 2e-5
    # transformers itself refuses this one for all but its eager attention.
    with pytest.raises(ValueError, match='output_attentions'):
        model.config.output_attentions = True


TENSOR_PARALLEL = """
import pathlib, sys, torch, torch.distributed as dist
from transformers import AutoModelForCausalLM
import gnnbridge as gb
from gnnbridge.graph import sliding_window_graph
path, said = sys.argv[1:]
whole = AutoModelForCausalLM.from_pretrained(path).eval()
parts = AutoModelForCausalLM.from_pretrained(path, tp_plan='auto').eval()
ids = torch.arange(2, 15).unsqueeze(0)
def error(a, b): return float((a - b).abs().max() / b.abs().max())
with torch.no_grad():
    expected = whole(ids).logits
    gb.convert(parts)
    heads = set()
    for m in parts.modules():
        if hasattr(m, '_gnnbridge_slot'):
            m._gnnbridge_slot.observer = lambda call: heads.add(call.shape[1])
    assert error(parts(ids).logits, expected) < 1e-5
    assert heads == {2}, heads
    graph = sliding_window_graph(13, 3)
    with gb.rewire(whole, graph), gb.rewire(parts, graph):
        assert error(parts(ids).logits, whole(ids).logits) < 1e-5
        assert error(parts(ids).logits, expected) > 1e-2
    graphs = gb.capture(parts, ids[0])
    assert {g.num_heads for g in graphs} == {2}
    gb.restore(parts)
    assert error(parts(ids).logits, expected) < 1e-5
pathlib.Path(said, f'rank {dist.get_rank()} is right').touch()
# Threads of a group that is left open may abort the process at its end.
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_tensor_parallel_ranks_have_their_own_heads(tmp_path):
    architectures.build('llama').save_pretrained(tmp_path / 'model')
    script = tmp_path / 'ranks.py'
    script.write_text(TENSOR_PARALLEL)
    # Files, as lines that two processes print may run into each other.
    said = tmp_path / 'said'
    said.mkdir()
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         '--nproc-per-node=2', str(script), str(tmp_path / 'model'), str(said)],
        capture_output=True, text=True, timeout=300, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(file.name for file in said.iterdir()) == [
        'rank 0 is right', 'rank 1 is right',
    ]  # fmt: skip
