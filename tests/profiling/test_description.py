from pathlib import Path

import torch
from tiny_decoder import tiny_decoder

from gnnbridge import __version__
from gnnbridge.profiling.description import describe, versions


def test_a_model_is_called_by_its_directory_or_its_class(
    tmp_path: Path,
) -> None:
    model = tiny_decoder()
    found = describe(model)
    assert found['name'] == found['architecture'] == 'LlamaForCausalLM'
    assert found['dtype'] == 'float32'
    assert found['device'] == 'cpu'
    sizes = [p.numel() for p in model.parameters()]
    assert found['num_parameters'] == sum(sizes)
    model.config.name_or_path = str(tmp_path)
    assert describe(model)['name'] == tmp_path.name


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found['gnnbridge'] == __version__
    assert found['torch'] == torch.__version__
