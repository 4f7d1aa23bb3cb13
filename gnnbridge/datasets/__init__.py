"""Text and synthetic streams to train and to measure decoders on."""

from gnnbridge.datasets.batches import backcopy_batches as backcopy_batches
from gnnbridge.datasets.batches import retrieval_batches as retrieval_batches
from gnnbridge.datasets.batches import text_batches as text_batches
from gnnbridge.datasets.batches import token_batches as token_batches
from gnnbridge.datasets.copying import BigramBackcopy as BigramBackcopy
from gnnbridge.datasets.copying import bigram_table as bigram_table
from gnnbridge.datasets.copying import (
    most_frequent_letters as most_frequent_letters,
)
from gnnbridge.datasets.corpus import documents as documents
from gnnbridge.datasets.digits import DigitBatch as DigitBatch
from gnnbridge.datasets.digits import copy_digits as copy_digits
from gnnbridge.datasets.digits import count_digits as count_digits
from gnnbridge.datasets.duplicates import BindingTokens as BindingTokens
from gnnbridge.datasets.duplicates import DuplicateBatch as DuplicateBatch
from gnnbridge.datasets.duplicates import duplicate_keys as duplicate_keys
from gnnbridge.datasets.duplicates import ends_and_middle as ends_and_middle
from gnnbridge.datasets.duplicates import every_key as every_key
from gnnbridge.datasets.prompts import Haystack as Haystack
from gnnbridge.datasets.prompts import Prompt as Prompt
from gnnbridge.datasets.prompts import json_retrieval as json_retrieval
from gnnbridge.datasets.prompts import needle_prompts as needle_prompts
from gnnbridge.datasets.retrieval import RetrievalBatch as RetrievalBatch
from gnnbridge.datasets.retrieval import (
    absent_key_control as absent_key_control,
)
from gnnbridge.datasets.retrieval import curriculum as curriculum
from gnnbridge.datasets.retrieval import (
    key_value_retrieval as key_value_retrieval,
)
from gnnbridge.datasets.text import Corpus as Corpus
from gnnbridge.datasets.text import byte_windows as byte_windows
from gnnbridge.datasets.text import python_corpus as python_corpus
from gnnbridge.datasets.text import sample_text as sample_text
from gnnbridge.datasets.vocabulary import StreamVocabulary as StreamVocabulary

__all__ = [
    'BigramBackcopy',
    'BindingTokens',
    'Corpus',
    'DigitBatch',
    'DuplicateBatch',
    'Haystack',
    'Prompt',
    'RetrievalBatch',
    'StreamVocabulary',
    'absent_key_control',
    'backcopy_batches',
    'bigram_table',
    'byte_windows',
    'copy_digits',
    'count_digits',
    'curriculum',
    'documents',
    'duplicate_keys',
    'ends_and_middle',
    'every_key',
    'json_retrieval',
    'key_value_retrieval',
    'most_frequent_letters',
    'needle_prompts',
    'python_corpus',
    'retrieval_batches',
    'sample_text',
    'text_batches',
    'token_batches',
]
