import math

import pytest
import torch
from small_bench import Model, build_model, make_task
from torch import nn

from gnnbridge.bench.batching import collate
from gnnbridge.bench.metrics import measure
from gnnbridge.bench.training import (
    Diverged,
    Schedule,
    _optimizer,
    evaluate,
    fit,
)


def data(task, seed=0):
    return collate(task.load(seed), nodes=4000, seed=seed)


def model(task, name='quick', seed=0):
    return build_model(
        name, task, budget=100, relations=1, dropout=0.0, seed=seed
    )


class Scripted(nn.Module):
    """A model that says what it is told, one evaluation after the other."""

    def __init__(self, said):
        super().__init__()
        self.said = said
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer('moment', torch.zeros((), dtype=torch.long))

    def forward(self, batch):
        if self.training:
            self.moment += 1
            return (self.weight + 0 * batch.x.sum()).expand(len(batch.y), 3)
        classes = batch.y.clone()
        classes[self.said[int(self.moment) - 1] :] += 1
        return nn.functional.one_hot(classes % 3, 3).float()


def schedule(steps, evaluations=10, rate=1e-2):
    return Schedule(steps, evaluations, rate, seed=0)


def test_the_best_step_on_validation_data_is_reported():
    task = make_task('classes')
    batches = data(task)
    # How many answers are right after each step; 3 of them twice.
    scripted = Scripted([1, 3, 2, 3, 0])
    found = fit(scripted, batches, task, schedule(5, evaluations=5))
    count = len(batches.val[0].y)
    assert found.best_step == 2
    assert found.val == pytest.approx(3 / count)
    assert found.test == pytest.approx(3 / len(batches.test[0].y))
    assert found.train == pytest.approx(3 / len(batches.train[0].y))
    assert found.steps == 5
    # The model is left with that step's weights.
    assert int(scripted.moment) == 2


def test_of_errors_the_smallest_is_best():
    task = make_task('distance')
    batches = data(task)

    class Far(Scripted):
        def forward(self, batch):
            right = torch.nan_to_num(batch.y)
            if self.training:
                return super().forward(batch)[:, :2] + right
            return right + self.said[int(self.moment) - 1]

    found = fit(Far([3.0, 1.0, 2.0]), batches, task, schedule(3))
    assert found.best_step == 2
    assert found[:3] == pytest.approx((1, 1, 1), abs=1e-6)


def test_evaluations_are_a_tenth_apart_and_at_the_end():
    task = make_task('classes')

    class Counting(Model):
        seen = 0

        def eval(self):
            self.seen += 1
            return super().eval()

    counting = Counting('quick', task, 0.0)
    fit(counting, data(task), task, schedule(25, rate=1e-5))
    # At 2, 4, .., 24 and 25, and for the test and the training part.
    assert counting.seen == 13 + 2


def test_a_task_is_learned():
    task = make_task('classes', graphs=60)
    batches = data(task)
    learner = model(task)
    before = evaluate(learner, batches.test, task)
    found = fit(learner, batches, task, schedule(200, rate=0.1))
    assert found.test > max(before, 0.85)
    assert found.test == evaluate(learner, batches.test, task)


def test_it_stops_when_nothing_better_can_come():
    task = make_task('classes')
    batches = data(task)
    count = len(batches.val[0].y)
    found = fit(Scripted([1, 99, 0, 99]), batches, task, schedule(4, 4))
    assert (found.val, found.best_step, found.steps) == (1, 2, 2)
    almost = fit(Scripted([1, count - 1, 0]), batches, task, schedule(3, 3))
    assert (almost.best_step, almost.steps) == (2, 3)


def test_batches_are_measured_together():
    task = make_task('classes')
    splits = task.load(0)
    small = collate(splits, nodes=4, seed=0)
    whole = collate(splits, nodes=4000, seed=0)
    assert len(small.test) == 2
    assert len(whole.test) == 1
    learner = model(task)
    a = evaluate(learner, small.test, task)
    assert a == evaluate(learner, whole.test, task)
    answers = whole.test[0].y
    output = learner(whole.test[0])
    assert a == measure('accuracy', output, answers)


def test_steps_are_adam_with_clipping_and_warm_up():
    task = make_task('classes')
    batches = data(task)
    # Large features, so that gradients are clipped.
    batches.train[0].x *= 20
    ours, theirs = model(task), model(task)
    fit(ours, batches, task, schedule(3, evaluations=1, rate=0.1))
    optimizer = torch.optim.AdamW(theirs.parameters(), weight_decay=1e-4)
    batch, norms = batches.train[0], []
    for rate in (0.05, 0.1, 0.05):  # half of a rise, the top, half of a fall
        optimizer.param_groups[0]['lr'] = rate
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(batch), batch.y).backward()
        norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), 1.0))
        optimizer.step()
    assert min(norms) > 1
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_learning_rates_rise_and_fall_as_a_cosine():
    optimizer, scheduler = _optimizer(
        model(make_task('classes')), schedule(100, rate=1.0)
    )
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    rising = [(1 + 10 * n / 10) / 11 for n in range(10)]
    falling = [(1 + math.cos(math.pi * n / 90)) / 2 for n in range(90)]
    assert rates == pytest.approx(rising + falling, abs=1e-9)


def test_a_diverging_training_is_told():
    task = make_task('classes')
    with pytest.raises(Diverged, match='loss is nan'):
        fit(model(task, 'diverging'), data(task), task, schedule(9, 1))
    with pytest.raises(Diverged, match='an output is not finite'):
        fit(model(task, 'diverging'), data(task), task, schedule(3, 3))

    class Infinite(Model):
        def forward(self, batch):
            output = super().forward(batch)
            return output + output.detach().sum() * 0 * self.own.weight.sum()

        def own_gradient(self, gradient):
            return gradient * float('inf')

    infinite = Infinite('quick', task, 0.0)
    infinite.own.weight.register_hook(infinite.own_gradient)
    with pytest.raises(Diverged, match='norm of the gradient'):
        fit(infinite, data(task), task, schedule(3))


def test_unknown_answers_are_no_obstacle():
    task = make_task('targets')
    batches = data(task)
    batches.train[0].y[::2, 0] = float('nan')
    found = fit(model(task), batches, task, schedule(30, rate=0.1))
    assert 0 <= found.test <= 1


def test_a_training_needs_a_step():
    task = make_task('classes')
    with pytest.raises(ValueError, match="'steps' to be positive"):
        fit(model(task), data(task), task, schedule(0))
