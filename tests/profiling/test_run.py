import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_decoder import byte_tokenizer, tiny_decoder

import gnnbridge as gb
from gnnbridge.models.convert import conversion_mode, is_converted
from gnnbridge.profiling.result import Profile
from gnnbridge.profiling.run import profile

TEXT = 'A graph <b>of</b> $tokens$, read once.\n' * 2


@pytest.fixture(scope='module')
def found() -> Profile:
    return profile(tiny_decoder(), byte_tokenizer(), TEXT, progress=False)


def test_profile_is_at_the_top_level() -> None:
    assert gb.profile is profile
    assert gb.Profile is Profile


def test_profile_has_every_measure_for_the_model_and_the_baseline(
    found: Profile,
) -> None:
    measures = [
        'layer',
        'sink_score',
        'sink_rate',
        'entropy',
        'mixing',
        'dirichlet_energy',
        'effective_rank',
        'rank_collapse',
        'mean_cosine',
    ]
    assert found.baseline is not None
    for measured in (found.measures, found.baseline['measures']):
        assert list(measured) == measures
        assert all(len(values) == 2 for values in measured.values())
    # The tokens' embeddings differ, so does everything after them.
    for name in measures[1:]:
        if name != 'sink_rate':
            assert found.measures[name] != found.baseline['measures'][name]


def test_profile_is_true_to_the_original(found: Profile) -> None:
    # Measured near 1e-6; a wrong graph shows at 1e-2 and above.
    assert found.parity['relative_error'] < 1e-5
    assert found.parity['same_prediction'] == 1.0


def test_fresh_weights_attend_almost_uniformly(found: Profile) -> None:
    assert found.baseline is not None
    scores = torch.tensor(found.baseline['measures']['sink_score'])
    null = torch.full_like(scores, found.nulls['sink_score'])
    # Queries and keys of std 0.02 move a weight by a few per cent.
    torch.testing.assert_close(scores, null, rtol=0.05, atol=0)
    assert found.nulls['sink_score'] == pytest.approx(0.0741, abs=5e-5)


def test_profile_says_what_was_run(found: Profile) -> None:
    assert found.model['name'] == 'LlamaForCausalLM'
    assert found.model['num_heads'] == '3'
    assert found.model['dtype'] == 'float32'
    assert found.settings['sink_tokens'] == 64
    assert found.versions['torch'] == torch.__version__
    assert found.versions['transformers'] == transformers.__version__
    assert set(found.timings) >= {'original', 'message passing', 'measures'}
    assert found.notes == []


def test_profile_is_written_and_drawn(found: Profile, tmp_path: Path) -> None:
    read = json.loads(found.to_json(tmp_path / 'p.json').read_text())
    assert read == found.to_dict()
    page = found.to_html(tmp_path / 'p.html').read_text()
    assert '&lt;b&gt;of&lt;/b&gt;' in page
    assert '<b>of' not in page


def test_profile_repeats_itself(found: Profile) -> None:
    again = profile(tiny_decoder(), byte_tokenizer(), TEXT, progress=False)
    first, second = found.to_dict(), again.to_dict()
    for record in (first, second):
        del record['timings']
    assert first == second


@pytest.mark.parametrize('arrives', ['original', 'converted', 'training'])
def test_model_is_left_as_it_came(arrives: str) -> None:
    model, ids = tiny_decoder(), torch.tensor([[1, 2, 3]])
    if arrives == 'converted':
        gb.convert(model)
    model.train(arrives == 'training')
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    before = model(ids).logits
    profile(model, byte_tokenizer(), 'abc', progress=False, baseline=False)
    assert is_converted(model) == (arrives == 'converted')
    assert model.training == (arrives == 'training')
    assert all(
        torch.equal(v, weights[k]) for k, v in model.state_dict().items()
    )
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=0)


def test_model_is_left_as_it_came_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError('no measure')

    monkeypatch.setattr('gnnbridge.profiling.run.measure', fail)
    model = tiny_decoder()
    with pytest.raises(RuntimeError, match='no measure'):
        profile(model, byte_tokenizer(), 'abc', progress=False)
    assert not is_converted(model)


def test_profile_without_baseline() -> None:
    found = profile(
        tiny_decoder(), byte_tokenizer(), 'abcd', baseline=False, progress=False
    )
    assert found.baseline is None
    assert 're-initialised' not in found.timings
    assert '(' not in found.summary()[0]['mixing']


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_profile_of_a_half_precision_model(
    dtype: torch.dtype,
) -> None:
    model = tiny_decoder().to(dtype)
    found = profile(model, byte_tokenizer(), 'ab' * 9, progress=False)
    assert found.model['dtype'] == str(dtype).removeprefix('torch.')
    assert found.parity['tolerance'] == max(1e-3, 8 * torch.finfo(dtype).eps)
    read = found.to_dict()
    assert None not in read['measures']['effective_rank']


def test_profile_of_two_tokens() -> None:
    found = profile(tiny_decoder(), byte_tokenizer(), 'a', progress=False)
    assert found.settings['sink_tokens'] == 2
    assert 'has 2 tokens' in found.notes[0]
    assert found.to_dict()['resistance']['last'][1] is None


def test_profile_of_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=257,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    model = transformers.BertModel(config)
    found = profile(model, byte_tokenizer(), 'abcdefgh', progress=False)
    assert found.resistance is None
    assert found.parity['outputs'] == 'last hidden state'
    assert found.nulls['name'] == 'uniform'
    assert 'attend to later ones' in ' '.join(found.notes)
    page = found.to_html(tmp_path / 'r.html').read_text()
    assert 'causal attention' not in page
    assert 'id="squashing"' not in page


def test_progress_goes_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile(tiny_decoder(), byte_tokenizer(), 'ab', baseline=False)
    said = capsys.readouterr()
    assert 'message passing' in said.err
    assert said.out == ''


def test_an_old_architecture_is_profiled_with_masks() -> None:
    torch.manual_seed(0)
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4
    )
    model = transformers.BloomForCausalLM(config).eval()
    given = model, byte_tokenizer(), 'What was said early is told late.'
    with pytest.raises(NotImplementedError, match="mode='mask'"):
        profile(*given, progress=False)
    assert conversion_mode(model) is None
    gb.convert(model, mode='mask')
    found = profile(*given, progress=False)
    assert conversion_mode(model) == 'mask'
    assert any('not as message passing' in note for note in found.notes)
    assert len(found.measures['layer']) == 2
