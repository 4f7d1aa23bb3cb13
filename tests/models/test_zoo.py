"""Every causal language model that transformers registers, tiny and random."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import transformers

import gnnbridge as gb
from gnnbridge.models import backend, overrides
from gnnbridge.models import layer as layers
from gnnbridge.models.zoo import sweep as sweeping
from gnnbridge.models.zoo import table
from gnnbridge.models.zoo.sweep import TOLERANCE, Entry, sweep, sweep_one
from gnnbridge.models.zoo.tiny import CannotBuild, build, model_types

SHIPPED = {x['model_type']: x for x in table.shipped()['entries']}
EQUAL = ('messages', 'mask')
# Floors that the project promises.
MESSAGES, WITH_MASKS = 153, 170


@pytest.fixture(autouse=True)
def _quiet():
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
    transformers.utils.logging.set_verbosity(verbosity)


@pytest.mark.parametrize('model_type', model_types())
def test_an_architecture_ends_as_the_shipped_table_says(model_type):
    entry = sweep_one(model_type)
    expected = SHIPPED[model_type]
    assert entry.status == expected['status'], entry.reason
    assert entry.isolated == expected.get('isolated')
    assert entry.layers == expected['layers']
    assert entry.generated == expected.get('generated')
    if entry.status in EQUAL:
        for error in (entry.error, entry.padded_error, entry.rewired_error):
            assert error is None or error <= TOLERANCE
        assert entry.generated is not False
    else:
        assert entry.reason


# Blocks that need more than states [N, F], positions and a graph: several
# streams, the embeddings or another block's choice once more, a language.
NO_LAYER = {
    'blt', 'deepseek_v4', 'gemma3n_text', 'gemma4', 'gemma4_text',
    'hy_v4', 'inkling2_text', 'xmod',
    'zamba', 'zamba2', 'zaya',
}  # fmt: skip
ROUTED = [n for n, x in SHIPPED.items() if x['status'] == 'messages']


@pytest.mark.parametrize('model_type', ROUTED)
def test_the_last_block_becomes_a_layer(model_type, monkeypatch):
    # The layer is compared with the block before it is returned.
    monkeypatch.setattr(layers, '_TOLERANCE', 1e-5)
    model = build(model_type)
    if model_type in NO_LAYER:
        with pytest.raises(NotImplementedError, match='on the whole model'):
            gb.convert_layer(model, -1)
        return
    layer = gb.convert_layer(model, -1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, layer.channels, generator=generator)
    x.requires_grad_()
    # A ring with a chord, in both directions: no order of tokens.
    ring = torch.tensor([[0, 1, 2, 3, 4, 5, 1], [1, 2, 3, 4, 5, 0, 4]])
    edge_index = torch.cat([ring, ring.flip(0)], dim=1)
    out = layer(x, edge_index)
    weight = torch.randn(out.shape, generator=generator)
    (grad,) = torch.autograd.grad((out * weight)[3].sum(), [x])
    assert out.shape == x.shape
    assert out.isfinite().all()
    # Node 3 hears its neighbours 2 and 4.
    assert (grad[[2, 4]].abs().amax(1) > 0).all()


def test_the_shipped_table_is_whole_and_of_the_pinned_version():
    swept = table.shipped()
    assert sorted(SHIPPED) == model_types()
    assert table.not_swept(swept) is None
    count = table.counts(swept)
    assert 'wrong' not in count
    assert count['messages'] >= MESSAGES
    assert count['messages'] + count['mask'] >= WITH_MASKS
    assert sum(count.values()) == len(model_types()) >= 189
    refused = {n for n, x in SHIPPED.items() if x['status'] == 'refused'}
    assert refused == {'prophetnet', 'reformer'}


def test_the_page_is_the_table():
    page = Path(table.__file__).with_name('README.md').read_text('utf-8')
    assert page == table.markdown(table.shipped())


def test_the_readme_counts_what_the_table_holds():
    readme = Path(__file__).parents[2] / 'README.md'
    text = ' '.join(readme.read_text('utf-8').split())
    count = table.counts(table.shipped())
    for part in (
        f'All {sum(count.values())} causal language models that transformers '
        f'{".".join(transformers.__version__.split(".")[:2])} registers',
        f'{count["messages"]} run as message passing',
        f'{count["mask"]} from before the attention interface',
        f'{count["refused"]} are refused, {count["no attention"]} have no '
        f'attention by a softmax, and {count["not built"]} could not be built',
    ):
        assert part in text


def test_another_version_is_noticed():
    swept = {**table.shipped(), 'transformers': '4.0.0'}
    assert 'never swept; this is 4.0.0' in table.not_swept(swept)


@pytest.mark.parametrize(
    ('model_type', 'keyword', 'forgotten'),
    [
        ('gemma2', 'softcap', None), ('vaultgemma', 'softcap', None),
        ('gpt_oss', 's_aux', None), ('granite_swa', 's_aux', None),
        ('inkling2_text', 'sinks', None), ('mistral', 'attention_mask', None),
        ('inkling_text', 'position_bias', None), ('gptj', 'scaling', 1.0),
        ('deepseek_v32', 'indices', None), ('hy_v4', 'indices', None),
    ],
)  # fmt: skip
def test_what_is_forgotten_is_found(
    model_type, keyword, forgotten, monkeypatch
):
    """The weights are such that a backend without the feature is seen."""
    honest = backend.graph_attention

    def forgetful(module, query, key, value, attention_mask=None, **kwargs):
        kwargs['attention_mask'] = attention_mask
        kwargs[keyword] = forgotten
        return honest(module, query, key, value, **kwargs)

    with monkeypatch.context() as patch:
        for place in (backend, overrides):
            patch.setattr(place, 'graph_attention', forgetful)
        # Conversion itself sees it, unless eight tokens are too few.
        entry = sweep_one(model_type)
    backend.register_backend()
    assert entry.status in ('mask', 'wrong', 'refused')
    if entry.status == 'mask':
        assert 'relative error' in entry.reason


def test_other_tokens_are_found(monkeypatch):
    monkeypatch.setattr(sweeping, '_same_tokens', lambda ours, theirs: False)
    assert sweep_one('llama').reason == 'generation differ'


def test_a_sweep_of_some_is_quiet(capsys):
    entries = list(sweep(['gpt2', 'mamba']))
    assert [entry.model_type for entry in entries] == ['gpt2', 'mamba']
    assert [entry.status for entry in entries] == ['messages', 'no attention']
    assert 'Warning' not in capsys.readouterr().out


def test_what_cannot_be_built_says_why():
    with pytest.raises(CannotBuild, match='per_layer_config'):
        build('dots3_note')
    entry = Entry('x', 'not built', 'because')
    assert entry.to_dict() == {
        'model_type': 'x', 'status': 'not built', 'reason': 'because',
        'layers': 0,
    }  # fmt: skip
