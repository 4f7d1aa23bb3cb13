"""Which rows each process takes of a step, and what they weigh."""

import pytest
import torch
from small_runs import counting, lonely, new_model, uneven, uneven_mixture

from gnnbridge.models.training import Stream, StreamMixture
from gnnbridge.models.training.split import SplitSteps


def of(draw, size, **options):
    """The parts of all processes of a mixture of one stream."""
    mixture = StreamMixture([Stream('s', draw, **options)], 0)
    return [SplitSteps(mixture, rank, size) for rank in range(size)]


def test_one_process_takes_what_is_drawn():
    mixture = uneven_mixture()
    part = SplitSteps(mixture)[3]
    assert {name: weight for name, (weight, _) in part.items()} == {
        'c': 1.0, 'uneven': 1.0, 'lonely': 0.5,
    }  # fmt: skip
    for name, batch in mixture.step(3).items():
        assert part[name][1].keys() == batch.keys()
        for key, value in batch.items():
            assert torch.equal(part[name][1][key], value)


@pytest.mark.parametrize('size', [2, 3, 5])
def test_every_row_is_taken_by_one_process(size):
    parts = [steps[4]['s'][1] for steps in of(uneven, size)]
    whole = SplitSteps(StreamMixture([Stream('s', uneven)], 0))[4]['s'][1]
    for rank, part in enumerate(parts):
        if part is None:  # the first row has no labels, and is alone here
            assert (rank, size) == (0, 5)
            continue
        for key, value in whole.items():
            assert torch.equal(part[key], value[rank::size])


@pytest.mark.parametrize('draw', [counting, uneven, lonely])
@pytest.mark.parametrize('size', [2, 3])
def test_the_mean_of_the_parts_is_the_loss_of_all(draw, size):
    model = new_model().double()
    parts = [steps[1]['s'] for steps in of(draw, size, weight=0.3)]
    losses = [
        weight * model(**batch).loss.item() if batch is not None else 0.0
        for weight, batch in parts
    ]
    [whole] = of(draw, 1)
    expected = 0.3 * model(**whole[1]['s'][1]).loss.item()
    # The loss itself is in float32.
    assert sum(losses) / size == pytest.approx(expected, rel=1e-6)


def test_processes_without_labels_have_nothing_to_do():
    parts = [steps[1]['s'] for steps in of(lonely, 2, weight=0.5)]
    assert parts[0] == (0.0, None)
    assert parts[1][0] == 2 * 0.5


def test_what_has_no_rows_is_for_all():
    def draw(step, generator):
        whole = {'prompt_length': 3, 'scale': torch.tensor(2.0)}
        return {**lonely(step, generator), **whole}

    _, part = of(draw, 2)[1][0]['s']
    assert part['prompt_length'] == 3
    assert part['scale'] == 2
    assert part['position_ids'].shape == (1, 6)
    assert part['input_ids'].shape == (1, 6)


def test_a_batch_without_any_label_is_left_to_the_loss():
    def draw(step, generator):
        batch = counting(step, generator)
        return {**batch, 'labels': torch.full_like(batch['labels'], -100)}

    weight, part = of(draw, 2)[1][0]['s']
    assert weight == 1
    assert len(part['labels']) == 2


def test_batches_that_cannot_be_split_are_refused():
    with pytest.raises(ValueError, match=r"5 processes .*'s' at step 7 .got 4"):
        of(counting, 5)[2][7]

    def other(step, generator):
        batch = counting(step, generator)
        return {**batch, 'attention_mask': torch.ones(3, 7)}

    with pytest.raises(ValueError, match=r"4 rows .* 'attention_mask'"):
        of(other, 2)[0][0]
    with pytest.raises(ValueError, match=r"'labels' .*\['input_ids'\]"):
        of(lambda *_: {'input_ids': torch.ones(4, 3)}, 1)[0][0]
