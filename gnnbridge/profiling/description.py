"""What is said of a model, of what it read, and of what it ran on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnbridge import __version__
from gnnbridge.models.convert import Mode
from gnnbridge.profiling.pieces import Counted, Reader
from gnnbridge.profiling.reading import cut_notes
from gnnbridge.profiling.sampling import Subject
from gnnbridge.profiling.shown_graphs import SHOWN_TOKENS, ShownGraphs

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

_NOTES: dict[Mode, list[str]] = {
    'messages': [],
    'mask': [
        'The attention of this architecture cannot be replaced: it ran as it '
        'is, as dense attention and not as message passing, and its graphs '
        'were read from its scores.'
    ],
}


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Name, architecture, size, and where a model runs."""
    name = str(model.config.name_or_path or type(model).__name__)
    return {
        # A model from a directory has the directory's path for its name.
        'name': Path(name).name if Path(name).is_dir() else name,
        'architecture': type(model).__name__,
        'num_parameters': sum(p.numel() for p in model.parameters()),
        'dtype': str(model.dtype).removeprefix('torch.'),
        'device': str(model.device),
    }


def versions() -> dict[str, str]:
    """The versions of everything that can change a number."""
    packages = ('torch', 'torch-geometric', 'transformers')
    return {
        'gnnbridge': __version__,
        'python': platform.python_version(),
        **{package: version(package) for package in packages},
    }


def model_facts(subject: Subject, shown: ShownGraphs) -> dict[str, Any]:
    """What a profile says of its model."""
    ends = sorted({min(shown.heads), max(shown.heads)})
    return {
        **describe(subject.model),
        'num_layers': subject.num_layers,
        'num_heads': ' to '.join(map(str, ends)),
        'hidden_size': shown.hidden_size,
        'causal': subject.causal,
    }


def text_facts(
    subject: Subject, shown: ShownGraphs, counted: Counted, source: str
) -> dict[str, Any]:
    """What a profile says of the corpus, and the sequence that it shows."""
    decode = subject.tokenizer.decode
    return {
        'source': source,
        'num_sequences': counted.sequences,
        'num_tokens': counted.tokens,
        'longest': counted.longest,
        'truncated': counted.cut,
        'bos': subject.bos,
        'tokens': [
            decode([token]) if token >= 0 else '(inserted)'
            for token in shown.token_ids
        ],
        'token_ids': shown.token_ids,
        'excerpt': decode(subject.sequences[0].tolist()[:SHOWN_TOKENS]),
    }


def notes(
    reader: Reader, parity: dict[str, Any] | None, mode: Mode
) -> list[str]:
    """What the reader has to know before the figures."""
    counted, limit = reader.counted, reader.limit
    by_context = limit < reader.settings.max_tokens
    found = cut_notes(counted.cut, limit, by_context)
    if counted.short:
        found.append(
            f'{counted.short:,} texts of fewer than two tokens were left out.'
        )
    if parity is None:
        found.append(
            'The model came rewired, or with remedies: it was measured as it '
            'was, and not compared with its original. Re-initialised weights '
            'have the remedies too, but no rewiring.'
        )
    return [*found, *_NOTES[mode]]
