"""What all tests share: no network, no growing thread pools."""

import os
import sys
from pathlib import Path

os.environ.setdefault('HF_HUB_OFFLINE', '1')
# Test modules share builders that lie beside them.
sys.path.insert(0, str(Path(__file__).parent / 'builders'))
# What the experiments compare and measure is tested as well.
sys.path.append(str(Path(__file__).parents[1] / 'benchmarks' / 'paper'))
sys.path.append(str(Path(__file__).parents[1] / 'benchmarks' / 'gnn'))

import pytest
import torch

# torch-geometric imports Triton, which decides at its import whether to run
# its kernels in an interpreter: where there is no GPU, it must.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')
torch.set_num_threads(1)


@pytest.fixture
def quiet_transformers():
    """Without the reports of what was not in a model's files."""
    import transformers

    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(verbosity)
