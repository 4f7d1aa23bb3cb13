"""What a profile is to measure, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gnnbridge.graph.checks import check_size

# In the order of the report.
DIAGNOSTICS = (
    'sinks',
    'smoothing',
    'squashing',
    'collapse',
    'runway',
    'retrieval',
)


@dataclass(frozen=True)
class ProfileSettings:
    """The sizes of a profile; everything that can change a number.

    Attributes:
        diagnostics: Names from :data:`DIAGNOSTICS`, all by default.
        max_tokens: How many tokens of each sequence to read at most. Time and
            memory grow with its square.
        batch_size: Sequences that run together.
        max_sequences: How many sequences to read at most; all if ``None``.
        split: Whether a document of more than ``max_tokens`` tokens is read
            to its end, as several sequences.
        baseline: Whether to measure re-initialised weights as well.
        baseline_sequences: On how many sequences of the corpus at most.
        seed: Source of chance: of the new weights, probes and tasks.
        sink_tokens: How many tokens sink scores are taken over.
        jacobian_tokens: How many tokens Jacobians are taken over at most.
        jacobian_sequences: For how many sequences.
        probes: Random directions for each receiver of the estimate of all
            pairs.
        collapse_tokens: The longest sequence of the collapse curves.
        collapse_sequences: Sequences at each of their lengths.
        half_precision: Whether collapse is measured in bfloat16 as well, on
            a copy of the model.
        pairs: Bindings in each sequence of the key-value task.
        questions: Questions of each retrieval, copying and counting task.
        needle_tokens: The length of the text around a needle at most.
        noise: Standard deviations of the noise on embeddings, in units of
            that of the embedding matrix.
    """

    diagnostics: tuple[str, ...] = DIAGNOSTICS
    max_tokens: int = 256
    batch_size: int = 8
    max_sequences: int | None = None
    split: bool = False
    baseline: bool = True
    baseline_sequences: int = 32
    seed: int = 0
    sink_tokens: int = 64
    jacobian_tokens: int = 128
    jacobian_sequences: int = 2
    probes: int = 16
    collapse_tokens: int = 256
    collapse_sequences: int = 16
    half_precision: bool = True
    pairs: int = 16
    questions: int = 256
    needle_tokens: int = 256
    noise: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)

    def __post_init__(self) -> None:
        """Check everything that needs no model."""
        for name, minimum in (
            ('max_tokens', 2),
            ('batch_size', 1),
            ('baseline_sequences', 1),
            ('seed', 0),
            ('sink_tokens', 2),
            ('jacobian_tokens', 2),
            ('jacobian_sequences', 1),
            ('probes', 1),
            ('collapse_tokens', 8),
            ('collapse_sequences', 2),
            ('pairs', 2),
            ('questions', 1),
            ('needle_tokens', 16),
        ):
            check_size(name, getattr(self, name), minimum)
        if self.max_sequences is not None:
            check_size('max_sequences', self.max_sequences)
        unknown = [x for x in self.diagnostics if x not in DIAGNOSTICS]
        if unknown or not self.diagnostics:
            raise ValueError(
                f"Expected 'diagnostics' to be some of "
                f'{", ".join(DIAGNOSTICS)} (got '
                f'{", ".join(unknown) or "none"}).'
            )
        if any(not sigma > 0 for sigma in self.noise):
            raise ValueError(
                f"Expected 'noise' to be positive (got {self.noise})."
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The diagnostics in the order of the report, each once."""
        return tuple(name for name in DIAGNOSTICS if name in self.diagnostics)


def with_options(
    settings: ProfileSettings, options: Mapping[str, Any]
) -> ProfileSettings:
    """The settings with some of them changed.

    Raises:
        TypeError: If there is no such setting.
        ValueError: If one does not fit.
    """
    names = [field.name for field in fields(ProfileSettings)]
    if unknown := sorted(set(options) - set(names)):
        raise TypeError(
            f'Expected options of a profile, {", ".join(names)} (got '
            f"'{unknown[0]}')."
        )
    given = dict(options)
    diagnostics = given.get('diagnostics')
    if isinstance(diagnostics, str):
        given['diagnostics'] = (diagnostics,)
    elif diagnostics is not None:
        given['diagnostics'] = tuple(diagnostics)
    return replace(settings, **given)
