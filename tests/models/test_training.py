import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    set_seed,
)

from gnnbridge.models.training import Stream, StreamMixture, train

CONFIG = LlamaConfig(
    vocab_size=13,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    bos_token_id=None,
    eos_token_id=None,
)
SETTINGS = {
    'learning_rate': 1e-2,
    'logging_steps': 1000,
    'disable_tqdm': True,
    'save_steps': 3,
}


def counting(step, generator):
    start = torch.randint(13, (4, 1), generator=generator)
    ids = (start + torch.arange(7)) % 13
    return {'input_ids': ids, 'labels': ids}


def repeating(step, generator):
    ids = torch.randint(13, (2, 1), generator=generator).expand(-1, 5 + step)
    return {'input_ids': ids, 'labels': ids}


def mixture(seed=0):
    streams = [
        Stream('counting', counting),
        Stream('repeating', repeating, weight=0.25, start=2),
    ]
    return StreamMixture(streams, seed)


NEOX = GPTNeoXConfig(
    vocab_size=13,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=1,
    num_attention_heads=2,
    bos_token_id=None,
    eos_token_id=None,
)


def new_model(name='llama'):
    set_seed(0)
    if name == 'neox':
        return GPTNeoXForCausalLM(NEOX)
    return LlamaForCausalLM(CONFIG)


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


# GPT-NeoX calls its head otherwise in files than in the module.
@pytest.mark.parametrize('name', ['llama', 'neox'])
def test_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, name
):
    whole = train(
        new_model(name), mixture(), tmp_path / 'a', steps=6, **SETTINGS
    )

    class Killed(Exception):
        pass

    def killing(step, generator):
        if step == 4:
            raise Killed
        return counting(step, generator)

    def late(step, generator):
        # Steps that were taken before the kill must not be taken again.
        return (counting if step >= 3 else repeating)(step, generator)

    def replaced(draw):
        streams = [Stream('counting', draw), *mixture().streams[1:]]
        return StreamMixture(streams, 0)

    directory = tmp_path / 'b'
    with pytest.raises(Killed):
        train(
            new_model(name), replaced(killing), directory, steps=6, **SETTINGS
        )
    assert (directory / 'checkpoint-3').is_dir()
    resumed = train(
        new_model(name), replaced(late), directory, steps=6, **SETTINGS
    )
    fresh = new_model(name).state_dict()
    for key, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], weight), key
        assert not torch.equal(fresh[key], weight), key


def test_loss_is_the_weighted_sum_of_the_streams(tmp_path):
    # One step of SGD at rate 1 moves the weights by minus the gradient.
    model, twin = new_model(), new_model()
    streams = [Stream('a', counting, weight=0.5), Stream('b', repeating)]
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
        disable_tqdm=True,
    )
    batches = both.step(0)
    loss = 0.5 * twin(**batches['a']).loss + twin(**batches['b']).loss
    loss.backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        # Float32 rounding of one update of weights of size up to one.
        assert torch.allclose(p, q - q.grad, atol=1e-6)


@pytest.mark.parametrize('name', ['llama', 'neox'])
def test_finished_run_is_loaded_and_not_trained_further(tmp_path, name):
    whole = train(new_model(name), mixture(), tmp_path, steps=4, **SETTINGS)
    again = train(new_model(name), mixture(), tmp_path, steps=4, **SETTINGS)
    for key, weight in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], weight), key
    assert [d.name for d in tmp_path.glob('checkpoint-*')] == ['checkpoint-4']


def test_nothing_to_start_with_is_refused():
    with pytest.raises(ValueError, match='starts at step 0'):
        StreamMixture([Stream('late', counting, start=3)], 0)


def test_two_streams_of_one_name_are_refused():
    with pytest.raises(ValueError, match='distinct stream names'):
        StreamMixture([Stream('a', counting), Stream('a', repeating)], 0)
