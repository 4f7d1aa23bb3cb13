"""Doing the units of a profile: once each, whoever does them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from gnnbridge.models.capture import capture
from gnnbridge.models.outgoing import outgoing_states
from gnnbridge.profiling.ledger import Ledger
from gnnbridge.profiling.pieces import Batch
from gnnbridge.profiling.processes import Processes
from gnnbridge.profiling.sampling import (
    GraphSampler,
    Samples,
    SectionModule,
    Subject,
    Task,
)


@dataclass
class Worker:
    """One process that does its share of the units.

    Attributes:
        ledger: Where it counts.
        group: The processes that share the work.
        known: The units that are done, by anybody, with their digests.
        bar: Shows the tokens that have passed.
    """

    ledger: Ledger
    group: Processes
    known: Mapping[str, str]
    bar: tqdm

    def read_corpus(
        self,
        subject: Subject,
        batches: Iterable[Batch],
        sections: Sequence[SectionModule],
        prefix: str,
    ) -> None:
        """Measures the token graphs of every batch of a corpus.

        Raises:
            ValueError: If a batch is not the one that was measured.
        """
        for batch in batches:
            key = f'{prefix}corpus/{batch.number}'
            if self._is_known(key, batch.digest):
                continue
            if self.group.owns(batch.number):
                samples, reasons = sample_graphs(
                    subject, batch.input_ids, sections
                )
                self.ledger.tally.reasons |= {
                    f'{prefix}{name}/corpus': reason
                    for name, reason in reasons.items()
                }
                self._count(key, batch.digest, samples, prefix)
            self.bar.update(batch.input_ids.numel())

    def do_tasks(
        self, subject: Subject, tasks: Sequence[Task], prefix: str
    ) -> None:
        """Does tasks; what one refuses is noted with the reason."""
        for number, task in enumerate(tasks):
            key = f'{prefix}{task.key}'
            if self._is_known(key, ''):
                continue
            if self.group.owns(number):
                self.bar.set_description(key)
                try:
                    self._count(key, '', task.run(subject), prefix)
                except NotImplementedError as refusal:
                    self.ledger.add(key, '', {}, str(refusal))
            self.bar.update(round(task.passes))

    def _is_known(self, key: str, digest: str) -> bool:
        if key not in self.known:
            return False
        if self.known[key] != digest:
            raise ValueError(
                f"Expected '{key}' to be the sequences that an earlier run "
                'measured (got others). Go on with the same text, or start '
                'again in an empty directory.'
            )
        return True

    def _count(
        self, key: str, digest: str, samples: Samples, prefix: str
    ) -> None:
        named = {f'{prefix}{name}': value for name, value in samples.items()}
        self.ledger.add(key, digest, named)


def sample_graphs(
    subject: Subject, input_ids: Tensor, sections: Sequence[SectionModule]
) -> tuple[Samples, dict[str, str]]:
    """Runs a batch once and lets every section see its token graphs.

    Args:
        subject: The model.
        input_ids: The tokens ``[B, N]``, without padding.
        sections: Whose samplers listen.

    Returns:
        Their samples, and the reasons of those that refused.
    """
    listening: dict[str, GraphSampler] = {}
    reasons: dict[str, str] = {}
    for section in sections:
        sampler = section.sampler(subject.settings)
        if sampler is not None:
            listening[section.name] = sampler

    def hear(graph: Data) -> None:
        for name, sampler in list(listening.items()):
            try:
                sampler.add(graph)
            except NotImplementedError as refusal:
                reasons[name] = str(refusal)
                del listening[name]

    if not listening:
        return {}, reasons
    with outgoing_states(subject.model) as passed:
        capture(
            subject.model, input_ids, device='cpu', values=True, on_layer=hear
        )
    outgoing = list(passed[-1].cpu()) if passed else []
    samples: dict = {}
    for name, sampler in listening.items():
        try:
            samples |= sampler.result(outgoing)
        except NotImplementedError as refusal:
            reasons[name] = str(refusal)
    return samples, reasons
