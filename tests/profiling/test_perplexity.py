import math

import pytest
import torch
from tiny_decoder import tiny_decoder
from transformers import GPT2Config, GPT2ForSequenceClassification, LlamaModel

from gnnbridge.profiling.perplexity import perplexity

IDS = torch.tensor([[256, 5, 9, 200, 33]])


def test_it_is_that_of_the_model_own_loss() -> None:
    model = tiny_decoder()
    with torch.no_grad():
        loss = float(model(input_ids=IDS, labels=IDS).loss)
    found = perplexity(model, IDS)
    # float32 on both sides.
    assert found['nats_per_token'] == pytest.approx(loss, rel=1e-6)
    assert found['perplexity'] == math.exp(found['nats_per_token'])


def test_it_is_a_mean_over_what_can_be_predicted() -> None:
    model = tiny_decoder()
    with torch.no_grad():
        shares = model(input_ids=IDS).logits[0].double().softmax(-1)
    surprise = [
        -math.log(shares[place, IDS[0, place + 1]]) for place in range(4)
    ]
    # Logits are float32.
    assert perplexity(model, IDS)['nats_per_token'] == pytest.approx(
        sum(surprise) / 4, rel=1e-5
    )


def test_beyond_all_bounds_it_is_infinite() -> None:
    model = tiny_decoder()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    found = perplexity(model, IDS)
    assert 700 < found['nats_per_token'] < math.inf
    assert found['perplexity'] == math.inf


def test_models_without_logits_for_each_token_are_refused() -> None:
    config = GPT2Config(
        vocab_size=300, n_embd=8, n_layer=1, n_head=1, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    for model in (
        GPT2ForSequenceClassification(config),
        LlamaModel(tiny_decoder().config),
    ):
        with pytest.raises(ValueError, match=type(model).__name__):
            perplexity(model.eval(), IDS)
