import pytest
import torch

from gnnbridge.bench.models.encoder import Encoder


def test_float_features_go_through_a_linear_map():
    encoder = Encoder(3, 5)
    x = torch.randn(7, 3)
    (linear,) = encoder.maps
    torch.testing.assert_close(encoder(x), x @ linear.weight.t() + linear.bias)


def test_categories_are_embedded_and_summed():
    encoder = Encoder((4, 2), 5)
    x = torch.tensor([[3, 1], [0, 0], [3, 0]])
    first, second = (table.weight for table in encoder.maps)
    expected = torch.stack(
        [first[3] + second[1], first[0] + second[0], first[3] + second[0]]
    )
    torch.testing.assert_close(encoder(x), expected)


def test_a_single_column_may_come_without_its_dimension():
    encoder = Encoder((4,), 5)
    x = torch.tensor([3, 0, 2])
    assert torch.equal(encoder(x), encoder(x.unsqueeze(1)))


@pytest.mark.parametrize('features', [6, (4, 2)])
def test_a_rank_bounds_that_of_the_states(features):
    torch.manual_seed(0)
    encoder = Encoder(features, 8, rank=2)
    assert encoder.width == 8
    x = torch.randn(50, 6)
    if features != 6:
        x = torch.stack([torch.randint(n, (50,)) for n in features], dim=1)
    states = encoder(x) - encoder.expand.bias
    assert torch.linalg.matrix_rank(states, rtol=1e-5) == 2


@pytest.mark.parametrize(
    ('features', 'x', 'message'),
    [
        (3, None, r"'x' to be float of shape \[n, 3\] \(got none\)"),
        (3, torch.randn(2, 4), r'float32 of shape \[2, 4\]'),
        (3, torch.ones(2, 3).long(), r'got torch.int64 of shape'),
        ((3, 2), torch.randn(2, 2), r'int64 of shape \[n, 2\] .got torch.fl'),
        ((3, 2), torch.zeros(2, 1).long(), r'of shape \[2, 1\]'),
        ((3, 2), torch.tensor([[1, 2]]), r'below \[3, 2\] .got up to \[1, 2\]'),
    ],
)
def test_other_features_are_refused(features, x, message):
    with pytest.raises(ValueError, match=message):
        Encoder(features, 5)(x)


def test_the_name_of_the_features_is_said():
    with pytest.raises(ValueError, match="Expected 'edge_attr' to be"):
        Encoder(3, 5, name='edge_attr')(None)
