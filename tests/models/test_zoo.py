"""Every causal language model that transformers registers, tiny and random."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import transformers

from gnnbridge.models import backend, overrides
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
