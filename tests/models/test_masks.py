"""A mask that is not made says what the real one would."""

import architectures
import pytest
import torch
from transformers import StaticCache
from transformers.masking_utils import eager_mask

import gnnbridge as gb
from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.models.backend import additive_mask, keep_mask
from gnnbridge.models.masks import StructuralMask
from gnnbridge.nn.plan import AttentionPlan

SHAPE = (2, 1, 4, 6)


def real(structure):
    keep = torch.ones(4, 6, dtype=torch.bool)
    keep = keep.tril(2) if structure == 'causal' else keep
    return keep.expand(SHAPE)


@pytest.mark.parametrize('structure', ['causal', 'full'])
def test_it_looks_like_the_mask_and_takes_one_byte(structure):
    mask = StructuralMask.of(structure, SHAPE, 'cpu')
    assert mask.shape == SHAPE
    assert (mask.dim(), mask.size(-1), mask.numel()) == (4, 6, 48)
    assert mask.dtype == torch.bool
    assert mask.device.type == 'cpu'
    with torch._C.DisableTorchFunctionSubclass():
        assert mask.untyped_storage().nbytes() == 1
    assert isinstance(mask, StructuralMask)


@pytest.mark.parametrize('structure', ['causal', 'full'])
@pytest.mark.parametrize(
    'use',
    [
        lambda mask: mask[:, :, :, :5],
        lambda mask: mask[:, :, -2:],
        lambda mask: ~mask,
        lambda mask: mask.to(torch.float32),
        lambda mask: mask.clone(),
        lambda mask: mask.contiguous(),
        lambda mask: mask & torch.eye(4, 6, dtype=torch.bool),
        lambda mask: torch.where(mask, 0.0, -1.0),
        lambda mask: torch.cat([torch.zeros(2, 1, 4, 1), mask], dim=-1),
        lambda mask: torch.zeros(4, 6).masked_fill(~mask, -1.0),
        lambda mask: mask.expand(2, 3, 4, 6),
        lambda mask: mask.tolist(),
        lambda mask: mask.sum(),
    ],
)
def test_whatever_is_done_with_it_is_done_with_the_real_mask(structure, use):
    found = use(StructuralMask.of(structure, SHAPE, 'cpu'))
    expected = use(real(structure))
    assert not isinstance(found, StructuralMask)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ('queries', 'keys', 'structure'),
    [(5, 5, 'causal'), (1, 9, 'causal'), (3, 9, None)],
)
def test_plain_masks_are_not_made(queries, keys, structure):
    mask = keep_mask(
        batch_size=2,
        q_length=queries,
        kv_length=keys,
        q_offset=keys - queries,
        allow_is_causal_skip=True,
    )
    assert getattr(mask, 'structure', None) == structure
    expected = torch.ones(queries, keys, dtype=torch.bool)
    expected = expected.tril(keys - queries).expand(2, 1, -1, -1)
    assert torch.equal(mask & True, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(('queries', 'keys'), [(5, 5), (1, 9), (3, 9)])
def test_additive_masks_stand_for_those_of_eager(queries, keys, dtype):
    sizes = {
        'batch_size': 2, 'q_length': queries, 'kv_length': keys,
        'q_offset': keys - queries, 'dtype': dtype,
    }  # fmt: skip
    expected = eager_mask(**sizes, allow_is_causal_skip=False)
    mask = additive_mask(**sizes, allow_is_causal_skip=True)
    assert isinstance(mask, StructuralMask) == (queries in (1, keys))
    assert mask.dtype == dtype == expected.dtype
    assert torch.equal(mask + 0, expected)
    assert torch.equal(mask[:, :, -1:, :2], expected[:, :, -1:, :2])
    # What a model may do with a mask of floats, and not with one of bools.
    more = torch.zeros(2, 1, queries, 1, dtype=dtype)
    both = [torch.cat([x, more], dim=-1) for x in (mask, expected)]
    assert torch.equal(*both)


def test_padding_and_custom_masks_are_made():
    padding = torch.ones(2, 5, dtype=torch.bool)
    padding[0, :2] = False
    sizes = {'batch_size': 2, 'q_length': 5, 'kv_length': 5}
    mask = keep_mask(**sizes, attention_mask=padding)
    assert not isinstance(mask, StructuralMask)
    assert not mask[0, 0, :, :2].any()
    # transformers forbids to leave a mask away that it has changed.
    mask = keep_mask(**sizes, allow_is_causal_skip=False)
    assert type(mask) is torch.Tensor
    mask = keep_mask(**sizes, local_size=3)
    assert not isinstance(mask, StructuralMask)


def test_a_static_cache_that_is_not_full_has_a_mask():
    model = architectures.build('llama')
    ids = torch.arange(2, 9).unsqueeze(0)
    with torch.no_grad():
        expected = model(ids)[0]
        gb.convert(model)
        cache = StaticCache(config=model.config, max_cache_len=16)
        found = model(ids, past_key_values=cache)[0]
    # float32 rounding of logits of size three.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('floats', [False, True])
@torch.no_grad()
def test_long_causal_graphs_are_never_listed(floats, monkeypatch):
    """32k tokens: half a billion edges, a gigabyte of mask or four."""
    model = architectures.build('llama', num_hidden_layers=1)
    # As in models that are written for eager attention alone.
    monkeypatch.setattr(type(model), '_supports_sdpa', not floats)
    tokens = 1 << 15
    ids = torch.arange(tokens).unsqueeze(0) % model.config.vocab_size
    short = slice(0, 40)
    expected = model(ids[:, short])[0]

    def refuse(plan):
        raise AssertionError('the edges of a plan were listed')

    gb.convert(model)
    assert model.config._attn_implementation == (
        'gnnbridge_float' if floats else 'gnnbridge'
    )
    window = sliding_window_graph(tokens, 8, sinks=2)
    sparse = slice(tokens - 40, tokens)
    monkeypatch.setattr(AttentionPlan, '_listed_edges', property(refuse))
    found = model(ids)[0]
    torch.testing.assert_close(found[:, short], expected, rtol=1e-4, atol=1e-4)
    for heads in (None, [0]):
        with gb.rewire(model, window, heads=heads):
            rewired = model(ids)[0]
        assert rewired.isfinite().all()
        assert not torch.allclose(rewired[:, sparse], found[:, sparse])
