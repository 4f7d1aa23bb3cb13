import pytest
import torch
import transformers
from tiny_decoder import byte_tokenizer, tiny_decoder

from gnnbridge.profiling.reading import compare, outputs, read


def test_bos_and_every_token_are_shown_as_text() -> None:
    reading = read(tiny_decoder(), byte_tokenizer(), 'a b\n', 16)
    assert reading.text['tokens'] == ['<bos>', 'a', ' ', 'b', '\n']
    assert reading.text['bos'] is True
    assert reading.text['truncated'] is False
    assert reading.input_ids.shape == (1, 5)


def test_tokenizer_without_bos() -> None:
    reading = read(tiny_decoder(), byte_tokenizer(bos=False), 'abc', 16)
    assert reading.text['tokens'] == ['a', 'b', 'c']
    assert reading.text['bos'] is False


@pytest.mark.parametrize(
    ('context', 'max_tokens', 'why'),
    [(128, 70, 'max_tokens'), (66, 70, "the model's context")],
)
def test_long_text_is_cut_and_it_is_said(
    context: int,
    max_tokens: int,
    why: str,
) -> None:
    model = tiny_decoder(max_position_embeddings=context)
    size = min(context, max_tokens)
    reading = read(model, byte_tokenizer(), 'x' * 99, max_tokens)
    assert reading.text['num_tokens'] == size
    assert reading.text['truncated'] is True
    assert reading.notes == [
        f'The text was cut to its first {size} tokens ({why}).'
    ]
    # One token fewer, and the text fits: nothing is cut, nothing said.
    reading = read(model, byte_tokenizer(), 'x' * (size - 1), max_tokens)
    assert reading.text['num_tokens'] == size
    assert reading.notes == []


@pytest.mark.parametrize('text', ['', '  \n', 'x'])
def test_text_without_two_tokens_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='at least two tokens'):
        read(tiny_decoder(), byte_tokenizer(bos=False), text, 16)


def test_one_token_is_too_few() -> None:
    with pytest.raises(ValueError, match="'max_tokens' to be at least 2"):
        read(tiny_decoder(), byte_tokenizer(), 'text', 1)


def test_tokenizer_of_another_model_is_refused() -> None:
    model = tiny_decoder(vocab_size=100)
    with pytest.raises(ValueError, match=r'below 100.*another model'):
        read(model, byte_tokenizer(), 'text', 16)


def test_encoder_decoder_is_refused() -> None:
    config = transformers.T5Config(
        vocab_size=257, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    model = transformers.T5ForConditionalGeneration(config)
    with pytest.raises(NotImplementedError, match='T5ForConditional'):
        read(model, byte_tokenizer(), 'text', 16)


def test_compare_measures_on_the_scale_of_the_original() -> None:
    original = torch.tensor([[1.0, -8.0], [2.0, 4.0]])
    other = original + torch.tensor([[0.0, 0.0], [0.004, 0.0]])
    found = compare(('logits', original), ('logits', other))
    # 0.004 is added to 2.0 in float32, which is good to 2e-7.
    assert found['max_abs_error'] == pytest.approx(0.004, abs=1e-6)
    assert found['relative_error'] == pytest.approx(0.0005, abs=1e-7)
    assert found['same_prediction'] == 1.0


@pytest.mark.parametrize('wrong', [0.01, float('nan'), float('inf')])
def test_compare_is_loud(wrong: float) -> None:
    original = torch.ones(3, 2)
    other = original.clone()
    other[1, 1] += wrong
    with pytest.raises(RuntimeError, match="the original's logits"):
        compare(('logits', original), ('logits', other))


def test_compare_allows_half_precision_its_rounding() -> None:
    original = torch.full((3, 2), 1.0, dtype=torch.bfloat16)
    other = original + 2**-7
    found = compare(('logits', original), ('logits', other))
    assert found['relative_error'] == 2**-7
    with pytest.raises(RuntimeError):
        compare(('logits', original), ('logits', original * 1.25))


def test_outputs_are_those_of_a_plain_call() -> None:
    model, ids = tiny_decoder(), torch.tensor([[1, 5, 9]])
    name, found = outputs(model, ids)
    assert name == 'logits'
    torch.testing.assert_close(found, model(ids).logits[0], rtol=0, atol=0)
    name, found = outputs(model.model, ids)
    assert name == 'last_hidden_state'
    assert found.shape == (3, 24)
