"""Text, synthetic streams and graphs to train and to measure models on."""

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
from gnnbridge.datasets.graphs.block_model import (
    contextual_blocks as contextual_blocks,
)
from gnnbridge.datasets.graphs.block_model import (
    labelled_blocks as labelled_blocks,
)
from gnnbridge.datasets.graphs.distances import eccentricities as eccentricities
from gnnbridge.datasets.graphs.distances import hop_distances as hop_distances
from gnnbridge.datasets.graphs.distances import shortest_paths as shortest_paths
from gnnbridge.datasets.graphs.tokens import causal_copy as causal_copy
from gnnbridge.datasets.graphs.tokens import (
    key_value_graphs as key_value_graphs,
)
from gnnbridge.datasets.graphs.transfer import (
    clique_path_transfer as clique_path_transfer,
)
from gnnbridge.datasets.graphs.transfer import (
    directed_path_transfer as directed_path_transfer,
)
from gnnbridge.datasets.graphs.transfer import (
    lollipop_transfer as lollipop_transfer,
)
from gnnbridge.datasets.graphs.transfer import ring_transfer as ring_transfer
from gnnbridge.datasets.graphs.tree_neighbors import (
    tree_neighbors_match as tree_neighbors_match,
)
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
from gnnbridge.datasets.stored.files import STORED_FILES as STORED_FILES
from gnnbridge.datasets.stored.files import StoredFiles as StoredFiles
from gnnbridge.datasets.stored.files import stored_files as stored_files
from gnnbridge.datasets.stored.ogb import molhiv_parts as molhiv_parts
from gnnbridge.datasets.stored.pyg import peptides_parts as peptides_parts
from gnnbridge.datasets.stored.pyg import planetoid_parts as planetoid_parts
from gnnbridge.datasets.stored.pyg import tu_graphs as tu_graphs
from gnnbridge.datasets.stored.pyg import zinc_parts as zinc_parts
from gnnbridge.datasets.text import Corpus as Corpus
from gnnbridge.datasets.text import byte_windows as byte_windows
from gnnbridge.datasets.text import python_corpus as python_corpus
from gnnbridge.datasets.text import sample_text as sample_text
from gnnbridge.datasets.vocabulary import StreamVocabulary as StreamVocabulary

__all__ = [
    'STORED_FILES',
    'BigramBackcopy',
    'BindingTokens',
    'Corpus',
    'DigitBatch',
    'DuplicateBatch',
    'Haystack',
    'Prompt',
    'RetrievalBatch',
    'StoredFiles',
    'StreamVocabulary',
    'absent_key_control',
    'backcopy_batches',
    'bigram_table',
    'byte_windows',
    'causal_copy',
    'clique_path_transfer',
    'contextual_blocks',
    'copy_digits',
    'count_digits',
    'curriculum',
    'directed_path_transfer',
    'documents',
    'duplicate_keys',
    'eccentricities',
    'ends_and_middle',
    'every_key',
    'hop_distances',
    'json_retrieval',
    'key_value_graphs',
    'key_value_retrieval',
    'labelled_blocks',
    'lollipop_transfer',
    'molhiv_parts',
    'most_frequent_letters',
    'needle_prompts',
    'peptides_parts',
    'planetoid_parts',
    'python_corpus',
    'retrieval_batches',
    'ring_transfer',
    'sample_text',
    'shortest_paths',
    'stored_files',
    'text_batches',
    'token_batches',
    'tree_neighbors_match',
    'tu_graphs',
    'zinc_parts',
]
