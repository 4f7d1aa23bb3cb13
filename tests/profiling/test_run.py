import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_decoder import byte_tokenizer, tiny_decoder

import gnnbridge as gb
from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.models.convert import conversion_mode, is_converted
from gnnbridge.models.loading import load_pretrained
from gnnbridge.profiling import work
from gnnbridge.profiling.result import Profile
from gnnbridge.profiling.run import profile
from gnnbridge.profiling.settings import ProfileSettings
from gnnbridge.remedies.sink_logits import SinkLogit
from gnnbridge.remedies.tokens import PauseTokens
from gnnbridge.transforms import SlidingWindow

TEXT = 'A graph <b>of</b> $tokens$, read once.\n' * 2
QUICK: dict[str, Any] = {
    'diagnostics': ('sinks', 'smoothing'),
    'progress': False,
}


@pytest.fixture(scope='module')
def found() -> Profile:
    return profile(tiny_decoder(), byte_tokenizer(), TEXT, **QUICK)


def numbers(profile: Profile) -> dict[str, Any]:
    """What does not depend on the clock."""
    read = profile.to_dict()
    del read['timings'], read['resources']
    return read


def test_profile_is_at_the_top_level() -> None:
    assert gb.profile is profile
    assert gb.Profile is Profile


def test_sections_hold_the_model_the_baseline_and_the_null(
    found: Profile,
) -> None:
    assert list(found.diagnostics) == ['sinks', 'smoothing']
    for section in found.diagnostics.values():
        assert section['status'] == 'measured'
        assert section['reasons'] == []
        assert section['model'].keys() == section['baseline'].keys()
        assert section['model']['count'] == 1
        assert section['null']
        assert section['meaning'].endswith('.')
    sinks = found.diagnostics['sinks']
    assert len(sinks['model']['sink_rate']) == 2
    assert sinks['model']['entropy'] != sinks['baseline']['entropy']


def test_profile_is_true_to_the_original(found: Profile) -> None:
    # Measured near 1e-6; a wrong graph shows at 1e-2 and above.
    assert found.parity is not None
    assert found.parity['relative_error'] < 1e-5
    assert found.parity['same_prediction'] == 1.0


def test_fresh_weights_attend_almost_uniformly(found: Profile) -> None:
    sinks = found.diagnostics['sinks']
    scores = torch.tensor(sinks['baseline']['sink_score'])
    null = torch.full_like(scores, sinks['null']['sink_score'])
    # Queries and keys of std 0.02 move a weight by a few per cent.
    torch.testing.assert_close(scores, null, rtol=0.05, atol=0)
    assert sinks['null']['sink_score'] == pytest.approx(0.0741, abs=5e-5)


def test_profile_says_what_was_run(found: Profile) -> None:
    assert found.model['name'] == 'LlamaForCausalLM'
    assert found.model['num_heads'] == '3'
    assert found.model['dtype'] == 'float32'
    assert found.model['causal'] is True
    assert found.settings['sink_tokens'] == 64
    assert found.settings['rewiring'] is None
    assert found.versions['torch'] == torch.__version__
    assert found.versions['transformers'] == transformers.__version__
    assert set(found.timings) >= {'read', 'parity', 'model', 're-initialised'}
    assert found.resources['processes'] == 1
    assert found.resources['estimated_memory_bytes'] > 0
    assert found.text['num_tokens'] == len(TEXT.encode()) + 1
    assert found.notes == []


def test_profile_is_written_drawn_and_read_again(
    found: Profile, tmp_path: Path
) -> None:
    path = found.to_json(tmp_path / 'p.json')
    read = json.loads(path.read_text())
    assert read == found.to_dict()
    assert Profile.from_json(path).to_dict() == read
    page = found.to_html(tmp_path / 'p.html').read_text()
    assert '<b>of</b>' not in page


def test_profile_repeats_itself(found: Profile) -> None:
    again = profile(tiny_decoder(), byte_tokenizer(), TEXT, **QUICK)
    assert numbers(found) == numbers(again)


@pytest.mark.parametrize('arrives', ['original', 'converted', 'training'])
def test_model_is_left_as_it_came(arrives: str) -> None:
    model, ids = tiny_decoder(), torch.tensor([[1, 2, 3]])
    if arrives == 'converted':
        gb.convert(model)
    model.train(arrives == 'training')
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    before = model(ids).logits
    profile(model, byte_tokenizer(), 'abc', baseline=False, **QUICK)
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

    monkeypatch.setattr(work, 'sample_graphs', fail)
    model = tiny_decoder()
    with pytest.raises(RuntimeError, match='no measure'):
        profile(model, byte_tokenizer(), 'abc', **QUICK)
    assert not is_converted(model)


def test_profile_without_baseline() -> None:
    found = profile(
        tiny_decoder(), byte_tokenizer(), 'abcd', baseline=False, **QUICK
    )
    assert found.diagnostics['sinks']['baseline'] is None
    assert 're-initialised' not in found.timings


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_profile_of_a_half_precision_model(dtype: torch.dtype) -> None:
    model = tiny_decoder().to(dtype)
    found = profile(model, byte_tokenizer(), 'ab' * 9, **QUICK)
    assert found.model['dtype'] == str(dtype).removeprefix('torch.')
    assert found.parity is not None
    assert found.parity['tolerance'] == max(1e-3, 8 * torch.finfo(dtype).eps)
    read = found.to_dict()['diagnostics']['smoothing']['model']
    assert None not in read['effective_rank']


def test_a_corpus_averages_over_its_sequences() -> None:
    texts = ['What was said early is told late.', 'No.', TEXT, 'x' * 300]
    model, tokenizer = tiny_decoder(), byte_tokenizer()
    options = {**QUICK, 'baseline': False, 'max_tokens': 48}
    alone = [profile(model, tokenizer, text, **options) for text in texts]
    whole = profile(model, tokenizer, texts, batch_size=2, **options)
    stream = profile(model, tokenizer, iter(texts), batch_size=3, **options)
    for name, value in (
        ('sinks', 'entropy'),
        ('sinks', 'sink_score'),
        ('smoothing', 'mean_cosine'),
    ):
        parts = torch.tensor(
            [one.diagnostics[name]['model'][value] for one in alone]
        )
        for found in (whole, stream):
            section = found.diagnostics[name]['model']
            # Batched sums differ from single ones in float32.
            torch.testing.assert_close(
                torch.tensor(section[value]),
                parts.mean(0),
                rtol=1e-4,
                atol=1e-5,
            )
            assert section['count'] == 4
    spread = torch.tensor(
        whole.diagnostics['sinks']['model']['spread']['entropy']
    )
    parts = torch.tensor(
        [one.diagnostics['sinks']['model']['entropy'] for one in alone]
    )
    torch.testing.assert_close(spread, parts.std(0), rtol=1e-3, atol=1e-4)
    assert whole.text['num_sequences'] == 4
    assert whole.text['longest'] == 48
    assert '2 texts were cut to their first 48 tokens' in whole.notes[0]


@pytest.mark.parametrize('after', [0, 1, 3, 5])
def test_a_run_that_was_stopped_goes_on(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT[:n] for n in (20, 30, 40)]
    given = tiny_decoder(), byte_tokenizer(), texts
    options = {**QUICK, 'batch_size': 1, 'checkpoint': tmp_path / 'c'}
    whole = profile(*given, **{**options, 'checkpoint': None})
    done: list[str] = []
    add = work.Ledger.add

    def stop(self: Any, key: str, *rest: Any) -> None:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(key)
        add(self, key, *rest)
        self.save()

    with monkeypatch.context() as patch:
        patch.setattr(work.Ledger, 'add', stop)
        with pytest.raises(KeyboardInterrupt):
            profile(*given, **options)
    again: list[str] = []

    def watch(self: Any, key: str, *rest: Any) -> None:
        again.append(key)
        add(self, key, *rest)

    monkeypatch.setattr(work.Ledger, 'add', watch)
    resumed = profile(*given, **options)
    assert set(done) & set(again) == set()
    assert len(done) == after
    assert numbers(resumed) == numbers(whole)
    # What is finished is not measured again.
    again.clear()
    assert numbers(profile(*given, **options)) == numbers(whole)
    assert again == []


def test_another_run_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    given = tiny_decoder(), byte_tokenizer()
    options = {**QUICK, 'baseline': False, 'checkpoint': tmp_path}
    profile(*given, 'abc', **options)
    with pytest.raises(ValueError, match='an unfinished run of the same'):
        profile(*given, 'abd', **options)


def test_what_does_not_fit_is_refused_before_it_starts() -> None:
    model = tiny_decoder()
    with pytest.raises(ValueError, match='fits into 1 KiB of free memory'):
        profile(model, byte_tokenizer(), TEXT, max_memory=1024, **QUICK)
    assert not is_converted(model)


def test_settings_and_options() -> None:
    settings = ProfileSettings(max_tokens=8, baseline=False)
    found = profile(
        tiny_decoder(),
        byte_tokenizer(),
        TEXT,
        settings=settings,
        diagnostics='sinks',
        progress=False,
    )
    assert list(found.diagnostics) == ['sinks']
    assert found.settings['max_tokens'] == 8
    with pytest.raises(TypeError, match=r"max_tokens.*got 'max_token'"):
        profile(tiny_decoder(), byte_tokenizer(), TEXT, max_token=8)


def rewirings() -> dict[str, Callable[[], Any]]:
    return {
        'transform': lambda: SlidingWindow(3),
        'graph': lambda: sliding_window_graph(len(TEXT) + 1, 3),
    }


@pytest.mark.parametrize('what', ['transform', 'graph'])
def test_a_rewired_model_is_measured_on_its_graph(what: str) -> None:
    model = tiny_decoder()
    found = profile(
        model,
        byte_tokenizer(),
        TEXT,
        rewiring=rewirings()[what](),
        baseline=False,
        **QUICK,
    )
    tokens = found.text['num_tokens']
    assert found.graphs['layers'][0]['edges_total'] == 3 * tokens - 3
    assert found.settings['rewiring'] is not None
    assert found.parity is not None
    assert not is_converted(model)


def test_inside_of_a_rewiring_the_model_is_measured_as_it_is() -> None:
    model, tokenizer = tiny_decoder(), byte_tokenizer()
    options = {**QUICK, 'baseline': False}
    expected = profile(
        model, tokenizer, TEXT, rewiring=SlidingWindow(3), **options
    )
    with gb.rewire(model, SlidingWindow(3)):
        found = profile(model, tokenizer, TEXT, **options)
        ids = torch.tensor([[5, 6, 7, 8]])
        inside = model(ids).logits
    with gb.rewire(model, SlidingWindow(3)):
        torch.testing.assert_close(model(ids).logits, inside, rtol=0, atol=0)
    assert found.diagnostics == expected.diagnostics
    assert found.parity is None
    assert 'came rewired' in found.notes[0]


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
    found = profile(
        model, byte_tokenizer(), 'abcdefgh', progress=False, baseline=False
    )
    assert found.model['causal'] is False
    assert found.parity is not None
    assert found.parity['outputs'] == 'last hidden state'
    status = {k: v['status'] for k, v in found.diagnostics.items()}
    assert status['sinks'] == 'measured'
    assert {status[k] for k in ('collapse', 'runway', 'retrieval')} == {
        'refused'
    }
    for name in ('squashing', 'collapse', 'runway', 'retrieval'):
        assert any('got' in x for x in found.diagnostics[name]['reasons'])
    page = found.to_html(tmp_path / 'r.html').read_text()
    assert 'BertModel' in page


def test_a_model_may_be_spread_over_devices(tmp_path: Path) -> None:
    pytest.importorskip('accelerate')
    tiny_decoder().save_pretrained(tmp_path)
    parts = ('model.embed_tokens', 'model.layers.0', 'model.norm', 'lm_head')
    model, _ = load_pretrained(
        tmp_path,
        device_map={
            **dict.fromkeys((*parts, 'model.rotary_emb'), 'cpu'),
            # Fetched when it runs, as what does not fit is.
            'model.layers.1': 'disk',
        },
    )
    assert model.hf_device_map['model.layers.1'] == 'disk'
    assert next(model.model.layers[1].parameters()).device.type == 'meta'
    options = {**QUICK, 'baseline': False}
    found = profile(model, byte_tokenizer(), TEXT, **options)
    whole = profile(tiny_decoder(), byte_tokenizer(), TEXT, **options)
    assert found.diagnostics == whole.diagnostics


def test_progress_and_the_estimate_go_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile(
        tiny_decoder(),
        byte_tokenizer(),
        'ab',
        baseline=False,
        diagnostics='smoothing',
    )
    said = capsys.readouterr()
    assert 'This takes about' in said.err
    assert 'no_mlp' in said.err
    assert said.out == ''


def test_an_old_architecture_is_profiled_with_masks() -> None:
    torch.manual_seed(0)
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4
    )
    model = transformers.BloomForCausalLM(config).eval()
    given = model, byte_tokenizer(), 'What was said early is told late.'
    with pytest.raises(NotImplementedError, match="mode='mask'"):
        profile(*given, **QUICK)
    assert conversion_mode(model) is None
    gb.convert(model, mode='mask')
    found = profile(*given, **QUICK)
    assert conversion_mode(model) == 'mask'
    assert any('not as message passing' in note for note in found.notes)
    sinks = found.diagnostics['sinks']['model']
    assert len(sinks['layer']) == 2
    assert sinks['value_norm_ratio'] is None


def test_a_model_with_remedies_is_measured_with_them() -> None:
    model, tokenizer = tiny_decoder(), byte_tokenizer()
    plain = profile(model, tokenizer, TEXT, **QUICK)
    SinkLogit(initial=9.0).apply(model)
    found = profile(model, tokenizer, TEXT, **QUICK)
    assert found.parity is None
    assert 'with remedies' in found.notes[0]
    for subject in ('model', 'baseline'):
        # A sink of its own takes most attention from all tokens.
        own, without = (
            torch.tensor(one.diagnostics['sinks'][subject]['sink_score'])
            for one in (found, plain)
        )
        assert (own < 0.2 * without).all()
    ids = torch.tensor([[5, 6, 7]])
    assert model(ids).logits.isfinite().all()


def test_a_model_with_inserted_tokens_has_them_as_nodes() -> None:
    model = tiny_decoder()
    PauseTokens(prepend=2, append=0).apply(model)
    found = profile(model, byte_tokenizer(), 'abcdef', **QUICK)
    assert found.diagnostics['sinks']['status'] == 'measured'
    size = found.text['num_tokens'] + 2
    assert found.graphs['tokens'] == len(found.text['tokens']) == size
    assert found.text['tokens'].count('(inserted)') == 2
    assert found.graphs['layers'][0]['edges_total'] == size * (size + 1) // 2
