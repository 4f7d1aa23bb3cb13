import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from tiny_decoder import byte_tokenizer, tiny_decoder
from typer.testing import CliRunner, Result

from gnnbridge import __version__
from gnnbridge.cli import app
from gnnbridge.transforms.patterns import PATTERNS

PROSE = 'What was said early is retold many times on the way.\n' * 2


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def shell(
    *arguments: object, **environment: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def refusal(result: Result) -> str:
    """The one line of an error; anything else fails."""
    assert result.exit_code == 2
    assert result.stdout == ''
    # Progress bars, such as that of loading weights, end before the error.
    lines = [
        line
        for line in result.stderr.replace('\r', '\n').splitlines()
        if line.strip() and '%|' not in line
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith('gnnbridge: ')
    return lines[0]


@pytest.fixture(scope='module')
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('models') / 'tiny-decoder'
    tiny_decoder().save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    path = tmp_path / 'prose.txt'
    path.write_text(PROSE)
    return path


QUICK = ('--diagnostics', 'sinks,smoothing')


def test_profile_writes_both_files_and_prints_tables(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'deep' / 'out'
    result = run(
        'profile', model_directory, '--text', prose, '--out', out, *QUICK
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((out / 'profile.json').read_text())
    assert record['model']['name'] == 'tiny-decoder'
    assert record['text']['source'] == 'prose.txt'
    assert record['text']['excerpt'] == f'<bos>{PROSE}'
    assert list(record['diagnostics']) == ['sinks', 'smoothing']
    assert record['diagnostics']['sinks']['baseline'] is not None
    page = (out / 'report.html').read_text()
    assert 'tiny-decoder' in page
    assert 'tiny-decoder' in result.stdout
    assert str(out / 'report.html') in result.stdout
    assert re.search('This takes about .* of memory', result.stderr)
    assert sorted(path.name for path in out.iterdir()) == [
        'profile.json',
        'report.html',
    ]


@pytest.mark.slow
def test_default_is_the_embedded_decoder_on_the_sample_text(
    tmp_path: Path,
) -> None:
    result = run('profile', '--out', tmp_path)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / 'profile.json').read_text())
    assert record['model']['name'] == 'Embedded decoder'
    assert 'Every word in a sentence' in record['text']['excerpt']
    # Measured near 1e-6; a wrong graph shows at 1e-2 and above.
    assert record['parity']['relative_error'] < 1e-5
    sections = record['diagnostics']
    assert {section['status'] for section in sections.values()} == {'measured'}
    # What the model was trained to show, and fresh weights do not.
    assert max(sections['sinks']['model']['sink_rate']) >= 0.5
    assert max(sections['sinks']['baseline']['sink_rate']) == 0
    answers = sections['retrieval']['model']['key_value']
    assert answers['total_accuracy'] > 0.95


def test_options_reach_the_profile(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    result = run(
        *('profile', model_directory, '--text', prose, '--out', tmp_path),
        *('--max-tokens', 40, '--no-baseline', '--device', 'cpu', *QUICK),
        *('--seed', 3, '--batch-size', 2, '--split', '--max-sequences', 2),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / 'profile.json').read_text())
    assert record['text']['longest'] == 40
    assert record['text']['num_sequences'] == 2
    assert record['diagnostics']['sinks']['baseline'] is None
    expected = {
        'max_tokens': 40,
        'batch_size': 2,
        'max_sequences': 2,
        'split': True,
        'baseline': False,
        'seed': 3,
        'diagnostics': ['sinks', 'smoothing'],
    }
    assert expected.items() <= record['settings'].items()


def test_a_corpus_is_profiled(model_directory: Path, tmp_path: Path) -> None:
    corpus = tmp_path / 'corpus'
    corpus.mkdir()
    (corpus / 'a.txt').write_text(PROSE)
    lines = [json.dumps({'body': PROSE[place:]}) for place in range(3)]
    (corpus / 'b.jsonl').write_text('\n'.join(lines))
    result = run(
        *('profile', model_directory, '--text', corpus, '--field', 'body'),
        *('--out', tmp_path / 'out', *QUICK, '--no-baseline'),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / 'out' / 'profile.json').read_text())
    assert record['text']['num_sequences'] == 4
    assert record['text']['source'] == 'corpus'
    assert record['diagnostics']['sinks']['model']['count'] == 4


def test_a_rewired_model_stands_beside_itself(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    result = run(
        *('profile', model_directory, '--text', prose, '--out', tmp_path),
        *(*QUICK, '--rewire', 'window', '--budget', 4, '--no-baseline'),
    )
    assert result.exit_code == 0, result.stderr
    own, rewired = (
        json.loads((tmp_path / name).read_text())
        for name in ('profile.json', 'profile-window.json')
    )
    assert own['settings']['rewiring'] is None
    assert 'SlidingWindow(window=4' in rewired['settings']['rewiring']
    edges = own['graphs']['layers'][0]['edges_total']
    tokens = own['graphs']['tokens']
    assert edges == tokens * (tokens + 1) // 2
    assert rewired['graphs']['layers'][0]['edges_total'] == 4 * tokens - 6
    page = (tmp_path / 'comparison.html').read_text()
    assert 'window' in page
    # The same files again, by the names of their models.
    paths = [tmp_path / 'profile.json', tmp_path / 'profile-window.json']
    again = run('compare', *paths, '--out', tmp_path / 'again')
    assert again.exit_code == 0, again.stderr
    assert 'comparison.html' in again.stdout
    page = (tmp_path / 'again' / 'comparison.html').read_text()
    assert 'tiny-decoder (2)' in page


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    broken, old = tmp_path / 'broken.json', tmp_path / 'old.json'
    broken.write_text('{')
    old.write_text('{"measures": {}}')
    assert 'JSON of a profile' in refusal(run('compare', broken, broken))
    assert 'Measure the model again' in refusal(run('compare', old, old))
    assert 'none.json' in refusal(run('compare', tmp_path / 'none.json', old))


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--diagnostics', 'sinks,warts'], 'retrieval (got warts)'),
        (['--max-memory', '3 apples'], "'--max-memory' to be a size"),
        (['--max-memory', '10k'], '(got one that needs up to'),
        (['--rewire', 'wings'], 'wings'),
        (['--device-map', 'auto', '--device', 'abacus'], "(got 'abacus')"),
    ],
)
def test_profile_refuses_what_does_not_fit(
    model_directory: Path,
    prose: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
) -> None:
    out = tmp_path / 'out'
    line = refusal(
        run(
            *('profile', model_directory, '--text', prose, '--out', out),
            *('--no-baseline', *options),
        )
    )
    assert said in line


def test_text_that_cannot_be_read(tmp_path: Path) -> None:
    empty, binary, image = (tmp_path / name for name in 'abc')
    empty.write_text(' \n')
    binary.write_bytes(b'text\xff\xfe')
    image.write_bytes(b'GIF\0\0')
    for path, said in [
        (tmp_path / 'none', '(got nothing)'),
        (empty, '(got an empty file)'),
        (binary, '(got byte 0xff at 4)'),
        (image, '(got a binary file)'),
    ]:
        line = refusal(run('profile', '--text', path, '--out', tmp_path))
        assert said in line
        assert str(path) in line


def test_model_that_cannot_be_loaded(tmp_path: Path, prose: Path) -> None:
    empty, pickled = tmp_path / 'empty', tmp_path / 'pickled'
    empty.mkdir()
    pickled.mkdir()
    (pickled / 'config.json').write_text('{"model_type": "llama"}')
    (pickled / 'pytorch_model.bin').write_bytes(b'')
    for path, said in [
        (tmp_path / 'none' / 'model', 'no model directory'),
        (prose, 'the file'),
        (empty, 'no config.json'),
        (pickled, 'no safetensors'),
    ]:
        assert said in refusal(run('profile', path, '--out', tmp_path))


def test_model_without_a_network() -> None:
    assert os.environ['HF_HUB_OFFLINE'] == '1'
    assert 'nobody/no-model' in refusal(run('profile', 'nobody/no-model'))


def test_model_without_a_tokenizer(prose: Path, tmp_path: Path) -> None:
    tiny_decoder().save_pretrained(tmp_path / 'model')
    result = run('profile', tmp_path / 'model', '--text', prose)
    assert 'a tokenizer with the model' in refusal(result)


def test_architecture_that_cannot_be_profiled(
    prose: Path, tmp_path: Path
) -> None:
    config = transformers.T5Config(
        vocab_size=257, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(tmp_path / 't5')
    byte_tokenizer().save_pretrained(tmp_path / 't5')
    result = run('profile', tmp_path / 't5', '--text', prose)
    assert 'T5ForConditionalGeneration' in refusal(result)


def test_out_that_is_a_file(model_directory: Path, prose: Path) -> None:
    line = refusal(run('profile', model_directory, '--out', prose))
    assert "'--out' to be a directory" in line


@pytest.mark.parametrize('device', ['abacus', 'cuda:99', 'hpu'])
def test_device_that_is_not_there(device: str) -> None:
    result = run('profile', 'nobody/no-model', '--device', device)
    assert f"is there (got '{device}')" in refusal(result)


@pytest.mark.parametrize(
    'command',
    [
        ['--help'],
        ['profile', '--help'],
        ['rewire', '--help'],
        ['compare', '--help'],
        ['bench', '--help'],
    ],
)
def test_help(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 0
    assert (command[0] if len(command) > 1 else 'profile') in result.stdout


def test_version_and_module_without_heavy_imports() -> None:
    code = (
        'import sys, gnnbridge.cli;'
        "heavy = {'torch', 'transformers', 'matplotlib', 'jinja2', 'rich'};"
        'print(sorted(heavy & set(sys.modules)))'
    )
    assert shell('-c', code).stdout == '[]\n'
    found = shell('-m', 'gnnbridge', '--version')
    assert found.stdout == f'gnnbridge {__version__}\n'


def test_models_prints_the_shipped_table(tmp_path: Path) -> None:
    result = run('models', '--out', tmp_path / 'new')
    assert result.exit_code == 0
    assert 'gpt_neox' in result.stdout
    assert '163 messages' in ' '.join(result.stdout.split())
    swept = json.loads((tmp_path / 'new' / 'models.json').read_text())
    assert len(swept['entries']) == 189
    page = (tmp_path / 'new' / 'models.md').read_text()
    assert '| gpt_neox | messages |' in page


def test_models_sweeps_what_is_asked_for(tmp_path: Path) -> None:
    result = run(
        'models', '--sweep', '--only', 'gpt2', '--only', 'mamba', '--out',
        tmp_path,
    )  # fmt: skip
    assert result.exit_code == 0
    assert '1 messages, 1 no attention' in ' '.join(result.stdout.split())
    assert 'mamba: Expected a model with attention' in result.stdout
    entries = json.loads((tmp_path / 'models.json').read_text())['entries']
    assert [x['model_type'] for x in entries] == ['gpt2', 'mamba']
    assert entries[0]['error'] < 1e-5


def test_models_names_what_there_is_not() -> None:
    for arguments in (['--only', 'gpt9'], ['--sweep', '--only', 'gpt9']):
        line = refusal(run('models', *arguments))
        assert "'--only' to name causal language models" in line
        assert 'gpt9' in line


def test_an_old_architecture_is_profiled_with_a_note(
    tmp_path: Path, prose: Path
) -> None:
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4
    )
    directory = tmp_path / 'bloom'
    transformers.BloomForCausalLM(config).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    result = run(
        'profile', directory, '--text', prose, '--out', tmp_path, *QUICK
    )
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / 'report.html').read_text()
    assert 'not as message passing' in ' '.join(page.split())


REWIRE = ('--budget', 8, '--pairs', 4, '--questions', 8)


def test_rewire_writes_both_files_and_prints_a_table(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'deep' / 'out'
    result = run(
        *('rewire', model_directory, '--transform', 'sinks', *REWIRE),
        *('--text', prose, '--out', out, '--max-tokens', 40),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((out / 'rewire.json').read_text())
    assert [c['name'] for c in record['columns']] == ['before', 'sinks']
    assert record['columns'][1]['edges'] == 8 * 40 - 28
    assert record['text']['source'] == 'prose.txt'
    assert (out / 'rewire.png').read_bytes().startswith(b'\x89PNG')
    assert 'tiny-decoder on prose.txt' in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ['edges', 'per', 'layer', '820', '292', '0.356'] in rows
    assert 'cut to its first 40 tokens' in result.stdout
    for name in ('rewire.json', 'rewire.png'):
        assert str(out / name) in result.stdout
    assert 'sinks: graph' in result.stderr


def test_rewire_by_default_is_the_embedded_decoder(tmp_path: Path) -> None:
    result = run(
        *('rewire', '--out', tmp_path, '--max-tokens', 64),
        *('--questions', 32),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / 'rewire.json').read_text())
    assert record['model']['name'] == 'Embedded decoder'
    before, after = record['columns']
    assert after['name'] == 'causal-resistance'
    assert after['edges'] == 16 * 64 - 120
    # Its card says 0.999.
    assert before['retrieval']['accuracy'] >= 0.9
    assert 'key-value stream' in record['task']['name']


def test_rewire_options_reach_the_comparison(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    result = run(
        *('rewire', model_directory, '--text', prose, '--out', tmp_path),
        *(*REWIRE, '--transform', 'bigbird', '--transform', 'window'),
        *('--transform', 'bigbird', '--sinks', 2, '--hops', 'inf'),
        *('--layers', '0,-1', '--heads', '1', '--seed', 3),
        *('--max-tokens', 32, '--device', 'cpu'),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / 'rewire.json').read_text())
    expected = {
        'budget': 8,
        'sinks': 2,
        # Infinite, which JSON has not.
        'hops': None,
        'layers': [0, -1],
        'heads': [1],
        'max_tokens': 32,
        'pairs': 4,
        'questions': 8,
        'seed': 3,
        'transforms': ['bigbird', 'window'],
    }
    assert expected.items() <= record['settings'].items()
    assert record['depth'] == {'hops': None, 'source': 'unlimited'}
    assert 'sinks=2' in record['columns'][1]['transform']
    assert 'seed=3' in record['columns'][1]['transform']
    assert record['columns'][1]['shown']['head'] == 1


def test_rewire_says_where_nothing_changes(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    result = run(
        *('rewire', model_directory, '--text', prose, '--out', tmp_path),
        *('--transform', 'sinks', '--budget', 30, '--max-tokens', 30),
        *('--pairs', 4, '--questions', 4),
    )
    assert result.exit_code == 0, result.stderr
    assert 'At 30 edges per token nothing changes' in result.stdout
    assert 'the text (30 tokens)' in ' '.join(result.stdout.split())


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--transform', 'wings'], "'--transform' to be one of window, sinks"),
        (['--transform', 'sinks', '--budget', 1], 'number of sinks, 1 (got 1)'),
        (['--transform', 'expander', '--budget', 4], 'at least 5'),
        (['--budget', 0], "'budget' to be at least 1"),
        (['--layers', '7'], "'layers' to choose from"),
        (['--layers', 'all'], "'--layers' to be numbers"),
        (['--heads', '7'], "'heads' to choose from 3 heads"),
        (['--heads', '1;2'], "'--heads' to be numbers"),
        (['--hops', 'nan'], "'hops' to be at least 0, or inf"),
        (['--pairs', 1], "'pairs' to be at least 2"),
        (['--questions', 0], "'questions' to be at least 1"),
        (['--sinks', -1], "'sinks' to be at least 0"),
        (['--device', 'abacus'], "(got 'abacus')"),
    ],
)
def test_rewire_refuses_what_does_not_fit(
    model_directory: Path, tmp_path: Path, options: list, said: str
) -> None:
    line = refusal(
        run(
            *('rewire', model_directory, '--out', tmp_path),
            *('--questions', 4, '--max-tokens', 24, *options),
        )
    )
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_rewire_refuses_too_short_a_text(tmp_path: Path) -> None:
    directory, text = tmp_path / 'model', tmp_path / 'a.txt'
    tiny_decoder().save_pretrained(directory)
    byte_tokenizer(bos=False).save_pretrained(directory)
    text.write_text('a')
    line = refusal(run('rewire', directory, '--text', text))
    assert 'at least two tokens (got 1)' in line
    assert '(got nothing)' in refusal(
        run('rewire', directory, '--text', tmp_path / 'b.txt')
    )


def test_rewire_refuses_a_file_to_write_into(
    model_directory: Path, prose: Path
) -> None:
    line = refusal(run('rewire', model_directory, '--out', prose))
    assert "'--out' to be a directory" in line


def save_model(directory: Path, model: transformers.PreTrainedModel) -> Path:
    model.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def test_rewire_imposes_masks_on_old_architectures(
    prose: Path, tmp_path: Path
) -> None:
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=1, n_head=4
    )
    model = save_model(
        tmp_path / 'bloom', transformers.BloomForCausalLM(config)
    )
    result = run(
        *('rewire', model, '--text', prose, '--out', tmp_path / 'out'),
        *('--transform', 'window', *REWIRE, '--max-tokens', 24),
    )
    assert result.exit_code == 0, result.stderr
    said = ' '.join(result.stdout.split())
    assert 'not run as message passing' in said


def test_rewire_refuses_other_models(prose: Path, tmp_path: Path) -> None:
    size = {
        'vocab_size': 257,
        'hidden_size': 24,
        'num_hidden_layers': 1,
    }
    bert = transformers.BertForMaskedLM(
        transformers.BertConfig(
            **size, num_attention_heads=2, intermediate_size=32
        )
    )
    recurrent = transformers.MambaForCausalLM(transformers.MambaConfig(**size))
    for name, model, said in [
        ('bert', bert, 'whose tokens attend to later ones'),
        ('mamba', recurrent, 'a model with attention'),
    ]:
        directory = save_model(tmp_path / name, model)
        line = refusal(run('rewire', directory, '--text', prose))
        assert said in line
        assert type(model).__name__ in line


def test_the_readme_names_all_patterns() -> None:
    readme = (Path(__file__).parent.parent / 'README.md').read_text()
    listed = re.search(r'`--transform` is one of (.*?), and may', readme, re.S)
    assert re.split(r',\s+|\s+and\s+', listed[1]) == list(PATTERNS)


@pytest.mark.slow
def test_rewire_prints_what_the_readme_shows(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / 'README.md').read_text()
    command, shown = re.search(
        r'<!-- gnnbridge (rewire .*) -->\n```\n(.*?)```', readme, re.DOTALL
    ).groups()
    result = run(*command.split(), '--out', tmp_path)
    assert result.exit_code == 0, result.stderr

    def cells(text: str) -> list[list[str]]:
        lines = [re.split(r'  +', line.strip()) for line in text.splitlines()]
        return [line for line in lines if len(line) > 1]

    for row, printed in zip(cells(shown), cells(result.stdout), strict=True):
        assert row[0] == printed[0]
        for value, other in zip(row[1:], printed[1:], strict=True):
            if not re.fullmatch(r'[-\d.,e]+', value):
                assert value == other
                continue
            numbers = [float(x.replace(',', '')) for x in (value, other)]
            # Another machine may round an answer to another token.
            assert numbers[1] == pytest.approx(numbers[0], rel=0.05), row[0]
