"""From a model and a corpus to a profile."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from gnnbridge.datasets.corpus import Source, describe_source, documents
from gnnbridge.datasets.text import sample_text
from gnnbridge.models.convert import Mode, conversion_mode
from gnnbridge.models.rewire import rewire
from gnnbridge.models.slots import self_attention_slots
from gnnbridge.models.support import evaluation_mode
from gnnbridge.profiling.assembling import assemble
from gnnbridge.profiling.baseline import untrained
from gnnbridge.profiling.clock import Clock
from gnnbridge.profiling.description import (
    model_facts,
    notes,
    text_facts,
    versions,
)
from gnnbridge.profiling.estimate import (
    Estimate,
    costs_of,
    estimate,
    refuse_too_large,
    room,
)
from gnnbridge.profiling.identity import fingerprint
from gnnbridge.profiling.ledger import Ledger, known_units
from gnnbridge.profiling.memory import held_memory, peak_memory
from gnnbridge.profiling.pieces import Reader, batches
from gnnbridge.profiling.processes import Processes, processes
from gnnbridge.profiling.reading import (
    as_message_passing,
    known_tokens,
    reading_limit,
)
from gnnbridge.profiling.result import Profile
from gnnbridge.profiling.sampling import (
    Subject,
    Tally,
    Task,
)
from gnnbridge.profiling.sections.registry import sections
from gnnbridge.profiling.settings import ProfileSettings, with_options
from gnnbridge.profiling.shown_graphs import ShownGraphs, shown_graphs
from gnnbridge.profiling.work import Worker

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel
    from gnnbridge.models.rewire import Rewiring

# Sequences that tasks may use.
_FIRST = 16
# Tokens on which message passing is compared with the original.
_COMPARED = 512


def profile(
    model: PreTrainedModel,
    tokenizer: Any,
    text: Source | None = None,
    *,
    settings: ProfileSettings | None = None,
    rewiring: Rewiring | None = None,
    checkpoint: str | Path | None = None,
    max_memory: int | None = None,
    field: str = 'text',
    progress: bool = True,
    **options: Any,
) -> Profile:
    """Measures how a model fails as a graph, on a text or a corpus.

    The model's attention runs as message passing and is compared with the
    original; attention sinks, over-smoothing, over-squashing, the collapse of
    the last token, the runway and retrieval are measured, each beside what
    the same architecture gives with re-initialised weights and what uniform
    attention gives. The model is left as it came.

    Work is done in units, batches of the corpus and tasks, whose results add
    up. With a `checkpoint` a run that was killed goes on where it was: no
    unit is lost or counted twice. Under ``torchrun`` the processes share the
    units, and all return the same profile.

    Args:
        model: A decoder (or encoder) of ``transformers``, converted or not;
            inside of :func:`gnnbridge.rewire` it is measured as it is.
        tokenizer: Its tokenizer.
        text: What the model reads: a text, the :class:`~pathlib.Path` of a
            text file, of JSON lines or of a directory, or an iterable of
            texts or mappings, which is read as a stream and once; by default
            a page that ships with the package.
        settings: What to measure, and how much of it.
        rewiring: What :func:`gnnbridge.rewire` is given for all that is
            measured, of the re-initialised weights too.
        checkpoint: A directory for unfinished work. It holds the whole run in
            the end, so that a further call measures nothing again.
        max_memory: Bytes that the run may take; by default what is free.
        field: The field of mappings and JSON lines that holds the text.
        progress: Whether to show a progress bar, and the estimate before.
        **options: Attributes of :class:`ProfileSettings`, such as
            ``max_tokens=512`` or ``diagnostics=('sinks',)``.

    Returns:
        A :class:`Profile`: see its attributes.

    Raises:
        TypeError: If there is no such option.
        ValueError: If the corpus holds no two tokens, or tokens that the
            model does not know; if `checkpoint` holds another run; or, as
            ``DoesNotFit``, if the run needs more memory than there is.
        NotImplementedError: If the model cannot run as message passing, and
            was not converted with ``mode='mask'``.
        RuntimeError: If it does, with other outputs than the original's.

    Example:
        >>> import gnnbridge as gb
        >>> result = gb.profile(*gb.load_embedded())
        >>> result.to_html('report.html')
    """
    settings = with_options(settings or ProfileSettings(), options)
    given = _Given(
        model,
        tokenizer,
        sample_text() if text is None else text,
        'the sample text' if text is None else describe_source(text),
        settings,
        rewiring,
        None if checkpoint is None else Path(checkpoint),
        max_memory,
        field,
    )
    with processes(model.device) as group, evaluation_mode(model):
        return _Run(given, group, progress and group.is_first).profile()


@dataclass(frozen=True)
class _Given:
    """The arguments of a run."""

    model: PreTrainedModel
    tokenizer: Any
    source: Source
    name: str
    settings: ProfileSettings
    rewiring: Rewiring | None
    checkpoint: Path | None
    max_memory: int | None
    field: str


class _Run:
    """One run, in one of several processes."""

    def __init__(self, given: _Given, group: Processes, talks: bool) -> None:
        self.given, self.group, self.talks = given, group, talks
        self.settings = given.settings
        self.sections = sections(self.settings.chosen)
        self.started = time.perf_counter()
        self.held = held_memory(given.model.device)
        self.limit = reading_limit(given.model, self.settings.max_tokens)
        known = known_tokens(given.model)
        self.reader = Reader(given.tokenizer, self.settings, self.limit, known)
        self.clock = Clock(('read', 'parity', 'graphs', 'model'), False)

    def profile(self) -> Profile:
        """Does the work, and says what was found."""
        with self.clock('read'):
            sequences, first = self._read()
        ids = first[0][:_COMPARED].unsqueeze(0).to(self.given.model.device)
        with ExitStack() as stack:
            with self.clock('parity'):
                parity = stack.enter_context(
                    as_message_passing(self.given.model, ids)
                )
                mode = conversion_mode(self.given.model) or 'messages'
            stack.enter_context(self._rewired(self.given.model))
            with self.clock('graphs'):
                subject, shown = self._subject(self.given.model, first)
            tasks, refused = self._tasks(subject)
            cost = self._estimate(subject, shown, tasks)
            worker = self._worker(first, tasks, cost)
            stack.enter_context(worker.bar)
            worker.ledger.tally.reasons |= refused
            with self.clock('model'):
                kept = self._measure(worker, subject, tasks, sequences)
            baseline = None
            if self.settings.baseline:
                with self.clock('re-initialised'):
                    baseline = self._baseline(worker, subject, mode, kept)
        return self._result(
            worker, subject, baseline, shown, parity, mode, cost
        )

    def _read(self) -> tuple[Iterator[Tensor], tuple[Tensor, ...]]:
        """All sequences of the corpus, and the first of them."""
        given = self.given
        texts = documents(given.source, field=given.field)
        sequences = self.reader.sequences(texts)
        first = tuple(islice(sequences, _FIRST))
        if not first:
            raise ValueError(
                'Expected a text of at least two tokens (got fewer, in '
                f'{self.reader.counted.short} texts).'
            )
        return chain(first, sequences), first

    @contextmanager
    def _rewired(self, model: PreTrainedModel) -> Iterator[None]:
        if self.given.rewiring is None:
            yield
            return
        with rewire(model, self.given.rewiring):
            yield

    def _subject(
        self, model: PreTrainedModel, first: tuple[Tensor, ...]
    ) -> tuple[Subject, ShownGraphs]:
        layers = len(self_attention_slots(model))
        shown = shown_graphs(model, first[0], layers)
        bos = getattr(self.given.tokenizer, 'bos_token_id', None)
        subject = Subject(
            model=model,
            tokenizer=self.given.tokenizer,
            settings=self.settings,
            num_layers=layers,
            causal=shown.causal,
            sequences=first,
            bos=bos is not None and int(first[0][0]) == bos,
        )
        return subject, shown

    def _tasks(self, subject: Subject) -> tuple[list[Task], dict[str, str]]:
        """The tasks of all sections, and why some have none."""
        tasks: list[Task] = []
        refused: dict[str, str] = {}
        for section in self.sections:
            try:
                tasks += section.tasks(subject)
            except NotImplementedError as refusal:
                refused[f'model/{section.name}/tasks'] = str(refusal)
        return tasks, refused

    def _estimate(
        self, subject: Subject, shown: ShownGraphs, tasks: Sequence[Task]
    ) -> Estimate:
        """What the run will cost; refuses what does not fit."""
        model = subject.model
        longest = max(subject.sequences, key=len)
        shapes = max(shown.heads, default=1), shown.hidden_size
        costs = costs_of(model, longest, shapes)
        counted = self.reader.counted
        pieces = -(-counted.pieces // max(counted.documents, 1))
        shape = (len(longest), pieces)
        found = estimate(self.given.source, tasks, costs, self.settings, shape)
        if found.seconds is not None:
            found = replace(found, seconds=found.seconds / self.group.size)
        free = room(model.device, self.given.max_memory)
        refuse_too_large(found, free, costs, self.settings, shape)
        if self.talks:
            tqdm.write(f'This takes {found.line()}.', file=sys.stderr)
        return found

    def _worker(
        self, first: Sequence[Tensor], tasks: Sequence[Task], cost: Estimate
    ) -> Worker:
        given, group = self.given, self.group
        name = fingerprint(given.model, self.settings, first, given.rewiring)
        ledger = Ledger(given.checkpoint, name, str(group.rank))
        parts = self._parts(ledger)
        total = None
        if cost.sequences is not None:
            again = min(cost.sequences, self.settings.baseline_sequences)
            read = cost.sequences + self.settings.baseline * again
            passes = sum(task.passes for task in tasks)
            total = read * len(first[0])
            total += round(passes) * (1 + self.settings.baseline)
        bar = tqdm(total=total, unit='token', disable=not self.talks,
                   leave=False, unit_scale=True)  # fmt: skip
        known = known_units(done for _, done in parts.values())
        return Worker(ledger, group, known, bar)

    def _parts(self, ledger: Ledger) -> dict[str, tuple[Tally, dict[str, str]]]:
        """What every process has counted, and earlier ones that are gone."""
        merged: dict[str, tuple[Tally, dict[str, str]]] = {}
        everyone = self.group.gather(ledger.parts())
        for found in everyone:
            merged |= found
        # What a process says of itself is newer than what others have read.
        return merged | {
            str(rank): found[str(rank)] for rank, found in enumerate(everyone)
        }

    def _measure(
        self,
        worker: Worker,
        subject: Subject,
        tasks: Sequence[Task],
        sequences: Iterator[Tensor],
    ) -> list[Tensor]:
        """Measures the model; returns the sequences for the baseline."""
        kept: list[Tensor] = []

        def keep() -> Iterator[Tensor]:
            for sequence in sequences:
                if len(kept) < self.settings.baseline_sequences:
                    kept.append(sequence)
                yield sequence

        grouped = batches(keep(), self.settings.batch_size)
        worker.read_corpus(subject, grouped, self.sections, 'model/')
        worker.do_tasks(subject, tasks, 'model/')
        return kept

    def _baseline(
        self,
        worker: Worker,
        subject: Subject,
        mode: Mode,
        sequences: Sequence[Tensor],
    ) -> Subject:
        """Measures the same architecture with other weights."""
        fresh = untrained(subject.model, self.settings.seed, mode)
        baseline = replace(subject, model=fresh)
        tasks, _ = self._tasks(baseline)
        grouped = batches(sequences, self.settings.batch_size)
        with self._rewired(fresh):
            worker.read_corpus(baseline, grouped, self.sections, 'baseline/')
            worker.do_tasks(baseline, tasks, 'baseline/')
        return baseline

    def _result(
        self,
        worker: Worker,
        subject: Subject,
        baseline: Subject | None,
        shown: ShownGraphs,
        parity: dict[str, Any] | None,
        mode: Mode,
        cost: Estimate,
    ) -> Profile:
        worker.ledger.save()
        parts = self._parts(worker.ledger)
        tally = Tally()
        for name in sorted(parts):
            tally.merge(parts[name][0])
        diagnostics = {
            section.name: assemble(section, tally, subject, baseline)
            for section in self.sections
        }
        found = Profile(
            model=model_facts(subject, shown),
            text=text_facts(
                subject, shown, self.reader.counted, self.given.name
            ),
            parity=parity,
            findings=[],
            diagnostics=diagnostics,
            graphs=shown.to_dict(),
            notes=notes(self.reader, parity, mode),
            settings={
                **dataclasses.asdict(self.settings),
                'rewiring': None
                if self.given.rewiring is None
                else repr(self.given.rewiring),
                'threads': torch.get_num_threads(),
            },
            versions=versions(),
            timings=self.clock.timings,
            resources={
                'memory_before_bytes': self.held,
                'peak_memory_bytes': peak_memory(self.given.model.device),
                'processes': self.group.size,
                'seconds': round(time.perf_counter() - self.started, 2),
                'estimated_seconds': cost.seconds,
                'estimated_memory_bytes': cost.memory,
            },
        )
        # The words are the report's, which brings matplotlib.
        from gnnbridge.report.findings import findings

        found.findings = findings(found.to_dict())
        return found
