"""Runs of one process: killed, resumed, finished, refused."""

import importlib.util
import json
import shutil

import pytest
import torch
from small_runs import (
    SETTINGS,
    counting,
    mixture,
    new_model,
    repeating,
)
from tiny_decoder import byte_tokenizer, tiny_decoder
from torch import nn

from gnnbridge.datasets import token_batches
from gnnbridge.models.training import (
    MixtureTrainer,
    Stream,
    StreamMixture,
    loss_history,
    train,
)


class Killed(Exception):
    pass


def replaced(draw):
    """The mixture with other batches of its first stream."""
    streams = [Stream('counting', draw), *mixture().streams[1:]]
    return StreamMixture(streams, 0)


def killing(step, generator):
    if step == 4:
        raise Killed
    return counting(step, generator)


def late(step, generator):
    # Steps that were taken before the kill must not be taken again.
    return (counting if step >= 3 else repeating)(step, generator)


def assert_same(model, other):
    for key, weight in other.state_dict().items():
        assert torch.equal(model.state_dict()[key], weight), key


def steps_of(directory):
    return sorted(int(d.name[11:]) for d in directory.glob('checkpoint-*'))


def test_step_draws_the_streams_that_have_started():
    steps = iter(mixture())
    first, second, third = (next(steps) for _ in range(3))
    assert set(first) == set(second) == {'counting'}
    assert set(third) == {'counting', 'repeating'}
    assert third['repeating']['input_ids'].shape == (2, 7)


def test_batches_depend_on_seed_and_step_alone():
    ids = mixture().step(5)['counting']['input_ids']
    assert torch.equal(mixture().step(5)['counting']['input_ids'], ids)
    assert not torch.equal(mixture().step(6)['counting']['input_ids'], ids)
    assert not torch.equal(mixture(1).step(5)['counting']['input_ids'], ids)


# GPT-NeoX calls its head otherwise in files than in the module, tied weights
# are saved once, and GPT-2 has dropout.
@pytest.mark.parametrize('name', ['llama', 'tied', 'neox', 'gpt2'])
def test_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, name
):
    def fresh():
        if name == 'tied':
            return new_model(tie_word_embeddings=True)
        return new_model(name)

    whole = train(fresh(), mixture(), tmp_path / 'a', steps=6, **SETTINGS)
    directory = tmp_path / 'b'
    with pytest.raises(Killed):
        train(fresh(), replaced(killing), directory, steps=6, **SETTINGS)
    assert (directory / 'checkpoint-3').is_dir()
    resumed = train(fresh(), replaced(late), directory, steps=6, **SETTINGS)
    assert_same(resumed, whole)
    for key, weight in fresh().state_dict().items():
        assert not torch.equal(resumed.state_dict()[key], weight), key


def test_no_step_is_drawn_again(tmp_path):
    drawn = []

    def noting(step, generator):
        drawn.append(step)
        return counting(step, generator)

    with pytest.raises(Killed):
        train(new_model(), replaced(killing), tmp_path, steps=6, **SETTINGS)
    train(new_model(), replaced(noting), tmp_path, steps=6, **SETTINGS)
    assert drawn == [3, 4, 5]
    train(new_model(), replaced(noting), tmp_path, steps=6, **SETTINGS)
    assert drawn == [3, 4, 5]


def test_accumulated_steps_go_on_too(tmp_path):
    settings = {
        **SETTINGS, 'gradient_accumulation_steps': 2, 'save_total_limit': 2,
    }  # fmt: skip
    whole = train(new_model('gpt2'), mixture(), tmp_path, steps=4, **settings)
    assert steps_of(tmp_path) == [3, 4]
    shutil.rmtree(tmp_path / 'checkpoint-4')

    def drawn(step, generator):
        # A step of the run is two of the mixture.
        return (counting if step >= 6 else repeating)(step, generator)

    resumed = train(
        new_model('gpt2'), replaced(drawn), tmp_path, steps=4, **settings
    )
    assert_same(resumed, whole)


def test_a_checkpoint_that_was_being_written_is_removed(tmp_path):
    whole = train(new_model(), mixture(), tmp_path / 'a', steps=6, **SETTINGS)
    directory = tmp_path / 'b'
    with pytest.raises(Killed):
        train(new_model(), replaced(killing), directory, steps=6, **SETTINGS)
    for name, text in (('checkpoint-4', ''), ('checkpoint-5', '{"log_hi')):
        shutil.copytree(directory / 'checkpoint-3', directory / name)
        (directory / name / 'trainer_state.json').write_text(text)
    (directory / 'checkpoint-9').mkdir()
    (directory / 'checkpoint-9-of-mine').mkdir()
    settings = {**SETTINGS, 'save_total_limit': None}
    resumed = train(new_model(), mixture(), directory, steps=6, **settings)
    assert_same(resumed, whole)
    assert {d.name for d in directory.iterdir()} == {
        'checkpoint-3', 'checkpoint-6', 'checkpoint-9-of-mine',
    }  # fmt: skip


def test_a_run_that_is_killed_while_it_saves_goes_on(tmp_path, monkeypatch):
    whole = train(new_model(), mixture(), tmp_path / 'a', steps=6, **SETTINGS)
    directory = tmp_path / 'b'
    name = '_save_optimizer_and_scheduler'
    save = getattr(MixtureTrainer, name)

    def dying(self, output_dir):
        if self.state.global_step == 6:
            raise Killed
        save(self, output_dir)

    monkeypatch.setattr(MixtureTrainer, name, dying)
    with pytest.raises(Killed):
        train(new_model(), mixture(), directory, steps=6, **SETTINGS)
    monkeypatch.undo()
    assert steps_of(directory) == [3, 6]
    resumed = train(new_model(), mixture(), directory, steps=6, **SETTINGS)
    assert_same(resumed, whole)


def test_loss_is_the_weighted_sum_of_the_streams(tmp_path):
    # One step of SGD at rate 1 moves the weights by minus the gradient.
    model, twin = new_model(), new_model()
    streams = [Stream('a', counting, weight=0.5), Stream('labels', repeating)]
    both = StreamMixture(streams, 0)
    train(
        model,
        both,
        tmp_path,
        steps=1,
        optim='sgd',
        learning_rate=1.0,
        lr_scheduler_type='constant',
        max_grad_norm=0.0,
        logging_steps=1,
        disable_tqdm=True,
    )
    batches = both.step(0)
    loss = 0.5 * twin(**batches['a']).loss + twin(**batches['labels']).loss
    loss.backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        # Float32 rounding of one update of weights of size up to one.
        assert torch.allclose(p, q - q.grad, atol=1e-6)
    # Some versions of transformers log four decimals.
    [(step, logged)] = loss_history(tmp_path)
    assert step == 1
    assert logged == pytest.approx(loss.item(), abs=1e-4)


@pytest.mark.parametrize('name', ['llama', 'neox'])
def test_finished_run_is_loaded_and_not_trained_further(tmp_path, name):
    whole = train(new_model(name), mixture(), tmp_path, steps=4, **SETTINGS)
    again = train(new_model(name), mixture(), tmp_path, steps=4, **SETTINGS)
    assert_same(again, whole)
    assert not again.training
    assert steps_of(tmp_path) == [4]


def test_a_text_and_a_tokenizer_are_all_it_takes(tmp_path):
    text = tmp_path / 'text.txt'
    text.write_text('every walk of a graph is read by every token ' * 30)
    ids = byte_tokenizer()(text.read_text())['input_ids']
    draw = token_batches(ids, 8, 24, bos=256)
    model = train(
        tiny_decoder(), StreamMixture([Stream('text', draw)], 0),
        tmp_path / 'run', steps=60, disable_tqdm=True, learning_rate=1e-2,
        logging_steps=20,
    )  # fmt: skip
    (_, first), *_, (last, loss) = loss_history(tmp_path / 'run')
    assert last == 60
    assert loss < first / 2
    assert not model.training


def test_models_are_left_as_they_were_but_for_their_weights(tmp_path):
    model = new_model()
    before = set(model.__dict__)
    train(model, mixture(), tmp_path, steps=2, bf16=True, **SETTINGS)
    assert set(model.__dict__) == before
    assert model.config.use_cache
    # No autocast stays behind.
    ids = torch.arange(5).unsqueeze(0)
    twin = new_model().eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(model(ids).logits, twin(ids).logits)


def test_nothing_to_start_with_is_refused():
    with pytest.raises(ValueError, match='starts at step 0'):
        StreamMixture([Stream('late', counting, start=3)], 0)


def test_two_streams_of_one_name_are_refused():
    with pytest.raises(ValueError, match='distinct stream names'):
        StreamMixture([Stream('a', counting), Stream('a', repeating)], 0)


@pytest.mark.parametrize('steps', [0, -1, 2.0, True])
def test_steps_that_are_no_number_of_steps_are_refused(tmp_path, steps):
    with pytest.raises(ValueError, match=r"'steps' to be at least 1"):
        train(new_model(), mixture(), tmp_path, steps=steps)


def test_a_run_that_is_longer_already_is_refused(tmp_path):
    model = train(new_model(), mixture(), tmp_path, steps=4, **SETTINGS)
    with pytest.raises(ValueError, match=r"got 'checkpoint-4'\). Ask for 4"):
        train(new_model(), mixture(), tmp_path, steps=3, **SETTINGS)
    assert_same(
        train(new_model(), mixture(), tmp_path, steps=4, **SETTINGS), model
    )


def test_checkpoints_without_their_optimizer_are_refused(tmp_path):
    settings = {**SETTINGS, 'save_only_model': True}
    train(new_model(), mixture(), tmp_path, steps=3, **settings)
    with pytest.raises(ValueError, match='without save_only_model'):
        train(new_model(), mixture(), tmp_path, steps=6, **settings)


def test_training_takes_accelerate(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        'gnnbridge.models.training.run.find_spec',
        lambda name: None if name == 'accelerate' else find(name),
    )
    with pytest.raises(ImportError, match=r"pip install 'gnnbridge\[train\]'"):
        train(new_model(), mixture(), tmp_path, steps=3)


def test_models_without_weights_and_other_things_are_refused(tmp_path):
    with torch.device('meta'):
        model = new_model()
    with pytest.raises(ValueError, match="on the device 'meta'"):
        train(model, mixture(), tmp_path, steps=3)
    with pytest.raises(TypeError, match=r"model of transformers \(got 'Lin"):
        train(nn.Linear(2, 2), mixture(), tmp_path, steps=3)


@pytest.mark.parametrize(
    ('name', 'value', 'instead'),
    [
        ('seed', 3, 'to the mixture'),
        ('max_steps', 3, "give 'steps'"),
        ('per_device_train_batch_size', 8, 'as many rows as they like'),
        ('label_smoothing_factor', 0.1, "the model's own loss"),
    ],
)
def test_settings_that_are_given_otherwise_are_refused(
    tmp_path, name, value, instead
):
    with pytest.raises(ValueError, match=f"without '{name}'.*{instead}"):
        train(new_model(), mixture(), tmp_path, steps=3, **{name: value})


def test_batches_without_labels_are_refused(tmp_path):
    def drawn(step, generator):
        return {'input_ids': counting(step, generator)['input_ids']}

    with pytest.raises(ValueError, match=r"'labels' .* 'counting' at step 0"):
        train(new_model(), replaced(drawn), tmp_path, steps=3, **SETTINGS)


@pytest.mark.parametrize('saved', ['checkpoint-3', None])
def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path, saved):
    at = 4 if saved else 0

    def drawn(step, generator):
        batch = counting(step, generator)
        if step == at:  # the mean over no labels
            batch['labels'] = torch.full_like(batch['labels'], -100)
        return batch

    with pytest.raises(
        FloatingPointError, match=rf'loss .got nan at step {at}'
    ):
        train(new_model(), replaced(drawn), tmp_path, steps=6, **SETTINGS)
    found = [d.name for d in tmp_path.glob('checkpoint-*')]
    assert found == ([saved] if saved else [])


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    model = new_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    norm = model.model.norm.weight
    norm.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(
        FloatingPointError, match=r'gradient .got inf at step 0'
    ):
        train(model, mixture(), tmp_path, steps=1, **SETTINGS)
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, before[key]), key
    assert not steps_of(tmp_path)


def test_losses_are_told_over_all_starts_of_a_run(tmp_path):
    settings = {**SETTINGS, 'logging_steps': 1}
    train(new_model(), mixture(), tmp_path / 'a', steps=6, **settings)
    with pytest.raises(Killed):
        train(
            new_model(), replaced(killing), tmp_path / 'b', steps=6, **settings
        )
    assert [step for step, _ in loss_history(tmp_path / 'b')] == [1, 2, 3]
    train(new_model(), mixture(), tmp_path / 'b', steps=6, **settings)
    losses = loss_history(tmp_path / 'a')
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert all(loss > 0 for _, loss in losses)
    assert loss_history(tmp_path / 'b') == losses
    state = tmp_path / 'b' / 'checkpoint-6' / 'trainer_state.json'
    assert json.loads(state.read_text())['epoch'] == 1
    with pytest.raises(ValueError, match='none'):
        loss_history(tmp_path)
