import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.bench.metrics import (
    accuracy,
    average_precision,
    loss,
    mean_absolute_error,
    measure,
    roc_auc,
)

NAN = float('nan')


def by_thresholds(scores, hits):
    """The definition, one threshold at a time."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [h for s, h in zip(scores, hits, strict=True) if s >= threshold]
        precision = sum(taken) / len(taken)
        recall = sum(taken) / sum(hits)
        total += (recall - recall_before) * precision
        recall_before = recall
    return total


@given(
    pairs=st.lists(
        st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12
    )
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_average_precision_is_its_definition_with_ties(pairs):
    scores = [float(score) for score, _ in pairs]
    hits = [float(hit) for _, hit in pairs]
    if len(set(hits)) < 2:
        with pytest.raises(ValueError, match='both a hit and a miss'):
            average_precision(torch.tensor([scores]).T, torch.tensor([hits]).T)
        return
    found = average_precision(torch.tensor([scores]).T, torch.tensor([hits]).T)
    assert found == pytest.approx(by_thresholds(scores, hits), abs=1e-12)


def test_average_precision_of_known_rankings():
    y = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    perfect = torch.tensor([[4.0], [2.0], [3.0], [1.0]])
    assert average_precision(perfect, y) == 1
    assert average_precision(-perfect, y) == pytest.approx((1 / 3 + 2 / 4) / 2)
    # All equal: the share of hits.
    assert average_precision(torch.zeros(4, 1), y) == 0.5


def test_average_precision_leaves_out_the_unknown():
    scores = torch.tensor([[0.9, 0.1, 5.0], [0.8, 0.2, 1.0], [0.1, 0.3, 0.0]])
    y = torch.tensor([[1.0, 0.0, 1.0], [NAN, 0.0, NAN], [0.0, NAN, 0.0]])
    # The middle target has no hit; of the others one row is unknown.
    assert average_precision(scores, y) == 1
    alone = average_precision(scores[[0, 2], :1], y[[0, 2], :1])
    assert average_precision(scores[:, :1], y[:, :1]) == alone


@given(
    pairs=st.lists(
        st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12
    )
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_area_under_the_curve_is_the_share_of_pairs_in_order(pairs):
    scores = torch.tensor([[float(score) for score, _ in pairs]]).T
    y = torch.tensor([[float(hit) for _, hit in pairs]]).T
    if len(set(y.flatten().tolist())) < 2:
        with pytest.raises(ValueError, match='both a hit and a miss'):
            roc_auc(scores, y)
        return
    hits = [score for score, hit in pairs if hit]
    misses = [score for score, hit in pairs if not hit]
    won = [(h > m) + (h == m) / 2 for h in hits for m in misses]
    assert roc_auc(scores, y) == pytest.approx(sum(won) / len(won), abs=1e-12)
    assert measure('roc_auc', scores, y) == roc_auc(scores, y)


def test_area_under_the_curve_leaves_out_the_unknown():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]])
    y = torch.tensor([[1.0, 0.0], [NAN, 0.0], [0.0, NAN]])
    assert roc_auc(scores, y) == 1
    assert roc_auc(-scores, y) == 0


def test_accuracy_and_error():
    output = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, -1.0]])
    assert accuracy(output, torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
    y = torch.tensor([[1.0, NAN], [NAN, 4.0], [3.5, -1.0]])
    # |2 - 1|, |1 - 4|, |3 - 3.5| and 0.
    assert mean_absolute_error(output, y) == pytest.approx(4.5 / 4)
    with pytest.raises(ValueError, match='Give the split more'):
        accuracy(output[:0], torch.tensor([], dtype=torch.long))
    with pytest.raises(ValueError, match='Give the split more'):
        mean_absolute_error(output, torch.full_like(output, NAN))


def test_losses_and_what_they_ignore():
    output = torch.tensor([[2.0, 1.0], [0.0, 1.0]], requires_grad=True)
    entropy = -(2 * output.log_softmax(1)[[0, 1], [0, 1]]).mean() / 2
    found = loss('accuracy', output, torch.tensor([0, 1]))
    assert torch.allclose(found, entropy)
    y = torch.tensor([[1.0, NAN], [NAN, 0.0]])
    assert loss('mean_absolute_error', output, y).item() == 1
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    found = loss('average_precision', output, y)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    found.backward()
    assert output.grad.isfinite().all()
    assert output.grad[0, 1] == output.grad[1, 0] == 0


@pytest.mark.parametrize(
    'metric', ['mean_absolute_error', 'average_precision', 'roc_auc']
)
def test_loss_without_answers_is_zero_with_gradients(metric):
    output = torch.randn(3, 2, requires_grad=True)
    found = loss(metric, output, torch.full((3, 2), NAN))
    found.backward()
    assert found.item() == 0
    assert (output.grad == 0).all()


@pytest.mark.parametrize(
    ('metric', 'shape'),
    [
        ('accuracy', (3, 2)),
        ('mean_absolute_error', (3,)),
        ('average_precision', (3, 1)),
        ('roc_auc', (3, 1)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(metric, shape):
    with pytest.raises(ValueError, match="Expected 'y' to be"):
        measure(metric, torch.zeros(3, 2), torch.zeros(shape))
