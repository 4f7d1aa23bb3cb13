import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.stats import linregress
from torch import Tensor

from gnnbridge.diagnostics.collapse import (
    LastState,
    collapse_slope,
    precision_length,
    representation_collapse,
    state_distance,
)

FILE = Path(__file__).parents[2] / 'benchmarks' / 'last_token_collapse.py'


@pytest.fixture(scope='module')
def layers() -> ModuleType:
    """The benchmark that builds single layers of attention."""
    spec = importlib.util.spec_from_file_location('last_token_collapse', FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def averaging(embedding: Tensor) -> LastState:
    """A layer whose last token is the mean of all: uniform attention."""
    return lambda ids: embedding[ids].mean(1)


def random_ids(rows: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(50, (rows, length), generator=generator)


def embedding(width: int = 8, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(50, width, generator=generator, dtype=torch.float64)


def test_distances_of_a_mean_are_those_of_its_closed_form() -> None:
    table, ids = embedding(), random_ids(5, 20)
    lengths = [2, 7, 20]
    curve = representation_collapse(averaging(table), ids, lengths)
    for k, n in enumerate(lengths):
        values = table[ids[:, :n]]
        # (S + a) / (n + 1) - S / n = (a - S / n) / (n + 1)
        gap = (values[:, -1] - values.mean(1)) / (n + 1)
        torch.testing.assert_close(curve.l1[:, k], gap.abs().sum(1))
        torch.testing.assert_close(curve.linf[:, k], gap.abs().amax(1))
        torch.testing.assert_close(curve.l2[:, k], gap.norm(dim=1))
    assert curve.l1.dtype == torch.float64
    assert curve.lengths == (2, 7, 20)
    assert not curve.within.any()
    assert curve.reaches_precision_at is None
    other = representation_collapse(
        averaging(table), ids, lengths, pair='substitute_last'
    )
    for k, n in enumerate(lengths):
        # The next row with another token at this place lends it.
        own = ids[:, n - 1].tolist()
        lent = [
            next(
                own[(row + shift) % 5]
                for shift in range(1, 5)
                if own[(row + shift) % 5] != own[row]
            )
            for row in range(5)
        ]
        gap = (table[own] - table[lent]) / n
        torch.testing.assert_close(other.l2[:, k], gap.norm(dim=1))


def test_inputs_are_what_the_pair_says() -> None:
    seen = []

    def last_state(ids: Tensor) -> Tensor:
        seen.append(ids.clone())
        return ids.double()[:, -1:]

    ids = torch.arange(12).reshape(2, 6)
    before = ids.clone()
    representation_collapse(last_state, ids, [3])
    assert seen[0].tolist() == [[0, 1, 2], [6, 7, 8]]
    assert seen[1].tolist() == [[0, 1, 2, 2], [6, 7, 8, 8]]
    seen.clear()
    representation_collapse(
        last_state,
        ids,
        [3, 1],
        pair='substitute_last',
        substitutes=ids + 20,
    )
    assert [row.tolist() for row in seen[1::2]] == [
        [[0, 1, 22], [6, 7, 28]],
        [[20], [26]],
    ]
    assert torch.equal(ids, before)


def test_distances_equal_scipy_and_know_their_dtype() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 4, 16, generator=generator)
    found = state_distance(a, b)
    for row in range(4):
        x, y = a[row].double().numpy(), b[row].double().numpy()
        assert found['cosine'][row].item() == pytest.approx(1 - cosine(x, y))
        assert found['scale'][row].item() == pytest.approx(
            (np.linalg.norm(x) + np.linalg.norm(y)) / 2
        )
    for dtype in (torch.float32, torch.bfloat16):
        place = torch.finfo(dtype).eps
        base = torch.tensor([[0.25, -1.0], [0.25, -1.0]], dtype=dtype)
        # One and three units in the last place of the largest entry.
        moved = base + torch.tensor([[0, place], [0, 3 * place]], dtype=dtype)
        assert state_distance(base, moved)['within'].tolist() == [True, False]


def test_reaches_precision_where_most_sequences_do() -> None:
    assert precision_length([8, 16, 32], np.array([0.0, 0.5, 1.0])) == 16
    assert precision_length([8, 16], torch.tensor([0.4, 0.49])) is None
    table = embedding().bfloat16()

    def rounded(ids: Tensor) -> Tensor:
        return table[ids].float().mean(1).bfloat16()

    # A token repeated: every state is the same, at any length.
    ids = torch.full((3, 9), 4)
    curve = representation_collapse(rounded, ids, [4, 8])
    assert curve.within.all()
    assert curve.reaches_precision_at == 4
    assert curve.l1.max() == 0
    assert math.isnan(curve.slope.slope)


def test_slope_and_error_are_those_of_a_regression() -> None:
    lengths = [8, 16, 32, 64, 128]
    distance = np.array([3.0, 1.2, 0.9, 0.3, 0.2])
    expected = linregress(np.log(lengths), np.log(distance))
    found = collapse_slope(lengths, torch.from_numpy(distance))
    assert found.slope == pytest.approx(expected.slope)
    assert found.error == pytest.approx(expected.stderr)
    # Zeros and what was not measured have no logarithm.
    more = collapse_slope(
        [*lengths, 256, 512], np.append(distance, [0, np.nan])
    )
    assert more == pytest.approx(found)
    assert math.isnan(collapse_slope(lengths[:2], distance[:2]).error)
    assert math.isnan(collapse_slope(lengths[:1], distance[:1]).slope)


@pytest.mark.parametrize(
    'name',
    ['no encoding', 'no encoding, independent q, k, v', 'uniform attention'],
)
def test_one_layer_without_positions_collapses_as_one_over_n(
    layers: ModuleType, name: str
) -> None:
    curve = layers.curve(layers.VARIANTS[name], lengths=layers.LENGTHS[:8])
    assert curve.l1.shape == (20, 8)
    # -1 for a mean over n tokens; the published band is 0.1.
    assert curve.slope.slope == pytest.approx(-1, abs=0.1)
    assert curve.slope.error < 0.1


@pytest.mark.parametrize('name', ['window 32', 'RoPE, window 32'])
def test_a_window_does_not_collapse(layers: ModuleType, name: str) -> None:
    lengths = (64, 128, 256, 512, 1024, 2048)
    curve = layers.curve(layers.VARIANTS[name], lengths=lengths)
    assert abs(curve.slope.slope) <= 0.1
    # Whatever the length, it reads 32 tokens that are replaced one by one.
    assert curve.l1.mean(0).min() > 1


def test_a_sink_starts_lower_and_joins_the_same_tail(
    layers: ModuleType,
) -> None:
    lengths = (8, 64, 512, 4096)
    plain = layers.curve(layers.VARIANTS['no encoding'], lengths=lengths)
    sunk = layers.curve(layers.VARIANTS['sink logit 6'], lengths=lengths)
    ratio = (sunk.l1.mean(0) / plain.l1.mean(0)).tolist()
    assert ratio[0] < 0.1
    assert ratio == sorted(ratio)
    # exp(6) beside 4096 keys of weight exp(1/2) on average: 0.94.
    assert ratio[-1] == pytest.approx(0.94, abs=0.04)


def test_bad_arguments_are_named() -> None:
    table, ids = embedding(), random_ids(3, 6)
    state = averaging(table)
    for lengths, options, message in (
        ([7], {}, 'at most 6 tokens'),
        ([], {}, 'one or more lengths'),
        ([0], {}, "'lengths' to be at least 1"),
        ([3], {'pair': 'first'}, "'pair' to be one of"),
        ([3], {'substitutes': ids}, 'only with'),
        (
            [3],
            {'pair': 'substitute_last', 'substitutes': ids[:1]},
            'of the shape',
        ),
        (
            [3],
            {'pair': 'substitute_last', 'substitutes': ids},
            'Expected another token',
        ),
    ):
        with pytest.raises(ValueError, match=message):
            representation_collapse(state, ids, lengths, **options)
    with pytest.raises(ValueError, match='another token'):
        representation_collapse(
            state, ids[:1].expand(3, -1), [2], pair='substitute_last'
        )
    with pytest.raises(ValueError, match=r'of shape \[S, T\]'):
        representation_collapse(state, ids[0], [2])
    with pytest.raises(ValueError, match='states of shape'):
        representation_collapse(lambda x: table[x], ids, [2])
