from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_decoder import tiny_decoder
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.profiling.identity import fingerprint
from gnnbridge.profiling.settings import ProfileSettings
from gnnbridge.transforms import SlidingWindow

SETTINGS, TEXT = ProfileSettings(), [torch.tensor([1, 2, 3])]


def doubled() -> Any:
    model = tiny_decoder()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += 1.0
    return model


CHANGES: dict[str, Callable[[], tuple[Any, ...]]] = {
    'weights': lambda: (doubled(), SETTINGS, TEXT, None),
    'dtype': lambda: (tiny_decoder().bfloat16(), SETTINGS, TEXT, None),
    'config': lambda: (tiny_decoder(rms_norm_eps=1.0), SETTINGS, TEXT, None),
    'settings': lambda: (tiny_decoder(), ProfileSettings(seed=1), TEXT, None),
    'text': lambda: (tiny_decoder(), SETTINGS, [torch.tensor([1, 2])], None),
    'transform': lambda: (tiny_decoder(), SETTINGS, TEXT, SlidingWindow(3)),
    'other transform': lambda: (
        tiny_decoder(),
        SETTINGS,
        TEXT,
        SlidingWindow(4),
    ),
    'edges': lambda: (
        tiny_decoder(),
        SETTINGS,
        TEXT,
        torch.tensor([[0, 0], [0, 1]]),
    ),
    'graph': lambda: (
        tiny_decoder(),
        SETTINGS,
        TEXT,
        {1: Data(edge_index=torch.tensor([[0], [0]]))},
    ),
}


def of(model: Any, settings: Any, text: list[Tensor], rewiring: Any) -> str:
    return fingerprint(model, settings, text, rewiring)


def test_the_same_is_the_same() -> None:
    first = of(tiny_decoder(), SETTINGS, TEXT, None)
    assert of(tiny_decoder(), SETTINGS, TEXT, None) == first
    renamed = tiny_decoder()
    renamed.config.name_or_path = 'elsewhere'
    assert of(renamed, SETTINGS, TEXT, None) == first


@pytest.mark.parametrize('name', CHANGES)
def test_whatever_changes_a_number_changes_it(name: str) -> None:
    plain = of(tiny_decoder(), SETTINGS, TEXT, None)
    others = {key: of(*make()) for key, make in CHANGES.items()}
    assert others[name] != plain
    assert list(others.values()).count(others[name]) == 1
