"""Every diagnostic on many architectures: an answer, or why there is none."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import architectures
import pytest
import torch
import transformers
from tiny_decoder import byte_tokenizer

import gnnbridge as gb
from gnnbridge.models.convert import is_converted
from gnnbridge.models.zoo import tiny
from gnnbridge.profiling.settings import DIAGNOSTICS

TEXT = 'What was said early is told late, and told again. ' * 4
SMALL: dict[str, Any] = {
    'max_tokens': 40,
    'jacobian_tokens': 16,
    'jacobian_sequences': 1,
    'probes': 4,
    'collapse_tokens': 16,
    'collapse_sequences': 2,
    'pairs': 3,
    'questions': 6,
    'needle_tokens': 90,
    'noise': (1.0,),
    'baseline': False,
    'progress': False,
}
# All of it is measured on these.
DECODERS = ('gpt2', 'llama', 'gemma2', 'gpt_oss', 'qwen3')


def decoder(name: str) -> Any:
    """A tiny random model with room for bytes."""
    kind, config, sizes = architectures.DECODERS[name]
    torch.manual_seed(0)
    sizes = {**sizes, 'vocab_size': 257, 'pad_token_id': None}
    positions = 'n_positions' if name == 'gpt2' else 'max_position_embeddings'
    model = kind(config(**{**sizes, positions: 256})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Freshly drawn attention is uniform: make it choose.
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


def hybrid(name: str) -> Callable[[], Any]:
    def build() -> Any:
        model = tiny.build(name)
        model.resize_token_embeddings(257)
        return model

    return build


def bloom() -> Any:
    torch.manual_seed(0)
    config = transformers.BloomConfig(
        vocab_size=257, hidden_size=32, n_layer=2, n_head=4
    )
    return gb.convert(transformers.BloomForCausalLM(config).eval(), mode='mask')


def bert() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=257,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
    )
    return transformers.BertModel(config).eval()


MODELS: dict[str, Callable[[], Any]] = {
    **{name: (lambda name=name: decoder(name)) for name in DECODERS},
    'jamba': hybrid('jamba'),
    'bamba': hybrid('bamba'),
    'bloom': bloom,
    'bert': bert,
}


def numbers(value: Any, where: str = '') -> Iterator[tuple[str, float]]:
    """All numbers of a section by their places."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f'{where}/{key}')
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from numbers(item, f'{where}/{place}')
    elif isinstance(value, float):
        yield where, value


@pytest.mark.parametrize('name', MODELS)
def test_all_diagnostics_answer_or_say_why_not(name: str) -> None:
    model = MODELS[name]()
    arrived = is_converted(model)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = model(ids)[0]
    found = gb.profile(model, byte_tokenizer(), TEXT, **SMALL)
    assert tuple(found.diagnostics) == DIAGNOSTICS
    for key, section in found.diagnostics.items():
        if section['status'] == 'refused':
            assert section['model'] is None
            assert section['reasons'], key
        else:
            assert section['model'] is not None
            values = dict(numbers(section['model']))
            assert values, key
            assert all(map(math.isfinite, values.values())), key
        for reason in section['reasons']:
            assert reason.startswith('Expected'), reason
            assert '(got' in reason
    status = {k: v['status'] for k, v in found.diagnostics.items()}
    if name in DECODERS:
        assert set(status.values()) <= {'measured', 'partly'}
        assert status['sinks'] == status['smoothing'] == 'measured'
        jacobian = found.diagnostics['squashing']['model']['jacobian_last']
        assert len(jacobian) == 16
        assert min(jacobian) > 0
    if name == 'bert':
        for key in ('squashing', 'collapse', 'runway', 'retrieval'):
            assert status[key] == 'refused'
    assert is_converted(model) == arrived
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[0], before, rtol=0, atol=0)
