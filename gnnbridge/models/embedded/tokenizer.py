"""A tokenizer of bytes: every UTF-8 byte is one token, and nothing merges."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

NUM_SYMBOLS = 32
SPECIAL_TOKENS = (
    '<bos>',
    '<pad>',
    '<pause>',
    '<q>',
    *(f'<k{i}>' for i in range(NUM_SYMBOLS)),
    *(f'<v{i}>' for i in range(NUM_SYMBOLS)),
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer of the embedded model.

    The id of a byte is its value; the special tokens follow from 256 on, in
    the order of ``SPECIAL_TOKENS``. ``<bos>`` goes in front of every text by
    itself, and padding goes to the left.
    """
    tokenizer = Tokenizer(models.BPE(vocab=_byte_symbols(), merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='<bos> $A',
        pair='<bos> $A $B',
        special_tokens=[('<bos>', tokenizer.token_to_id('<bos>'))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token='<bos>',
        pad_token='<pad>',
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        padding_side='left',
        model_input_names=['input_ids', 'attention_mask'],
        clean_up_tokenization_spaces=False,
    )


def _byte_symbols() -> dict[str, int]:
    # The byte-level scheme writes each byte as a printable character: itself
    # if it is one in Latin-1, else the next character from U+0100 on.
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return {
        chr(byte if byte in printable else next(spare)): byte
        for byte in range(256)
    }
