import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from tiny_decoder import byte_tokenizer, tiny_decoder
from typer.testing import CliRunner, Result

from gnnbridge import __version__
from gnnbridge.cli import app

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


def test_profile_writes_both_files_and_prints_a_table(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'deep' / 'out'
    result = run('profile', model_directory, '--text', prose, '--out', out)
    assert result.exit_code == 0, result.stderr
    record = json.loads((out / 'profile.json').read_text())
    assert record['model']['name'] == 'tiny-decoder'
    assert record['text']['source'] == 'prose.txt'
    assert record['text']['excerpt'] == f'<bos>{PROSE}'
    assert record['baseline'] is not None
    page = (out / 'report.html').read_text()
    assert 'tiny-decoder' in page
    assert 'tiny-decoder on prose.txt' in result.stdout
    assert 're-initialised' in result.stdout
    assert str(out / 'report.html') in result.stdout
    assert 'message passing' in result.stderr


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
    # What the model was trained to show, and fresh weights do not.
    assert max(record['measures']['sink_rate']) >= 0.5
    assert max(record['baseline']['measures']['sink_rate']) == 0


def test_options_reach_the_profile(
    model_directory: Path, prose: Path, tmp_path: Path
) -> None:
    result = run(
        *('profile', model_directory, '--text', prose, '--out', tmp_path),
        *('--max-tokens', 40, '--no-baseline', '--device', 'cpu'),
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / 'profile.json').read_text())
    assert record['text']['num_tokens'] == 40
    assert record['baseline'] is None
    assert 'cut to its first 40 tokens' in result.stdout
    assert 're-initialised' not in result.stdout


def test_text_that_cannot_be_read(tmp_path: Path) -> None:
    empty, binary, image = (tmp_path / name for name in 'abc')
    empty.write_text(' \n')
    binary.write_bytes(b'text\xff\xfe')
    image.write_bytes(b'GIF\0\0')
    for path, said in [
        (tmp_path / 'none', '(got nothing)'),
        (tmp_path, '(got a directory)'),
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


@pytest.mark.parametrize('command', [['--help'], ['profile', '--help']])
def test_help(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 0
    assert 'profile' in result.stdout


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
    result = run('profile', directory, '--text', prose, '--out', tmp_path)
    assert result.exit_code == 0
    page = (tmp_path / 'report.html').read_text()
    assert 'not as message passing' in ' '.join(page.split())
