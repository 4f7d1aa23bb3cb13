"""Text and synthetic streams to train and to measure decoders on."""

from gnnbridge.datasets.copying import BigramBackcopy as BigramBackcopy
from gnnbridge.datasets.copying import bigram_table as bigram_table
from gnnbridge.datasets.copying import (
    most_frequent_letters as most_frequent_letters,
)
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
    'Corpus',
    'RetrievalBatch',
    'StreamVocabulary',
    'absent_key_control',
    'bigram_table',
    'byte_windows',
    'curriculum',
    'key_value_retrieval',
    'most_frequent_letters',
    'python_corpus',
    'sample_text',
]
