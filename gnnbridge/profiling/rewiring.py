"""A model before and after its attention was rewired."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnbridge.models.convert import conversion_mode, converted
from gnnbridge.models.rewire import rewire
from gnnbridge.models.slots import self_attention_slots
from gnnbridge.models.support import evaluation_mode
from gnnbridge.profiling.clock import Clock
from gnnbridge.profiling.description import describe, versions
from gnnbridge.profiling.perplexity import perplexity
from gnnbridge.profiling.reading import read
from gnnbridge.profiling.retrieval import RetrievalTask, retrieval_task
from gnnbridge.profiling.rewiring_notes import notes
from gnnbridge.profiling.rewiring_report import Column, RewiringReport
from gnnbridge.profiling.rewiring_settings import (
    BEFORE,
    Choice,
    RewiringSettings,
    Transforms,
    choices,
)
from gnnbridge.profiling.token_graphs import ModelGraph, model_graph

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

_PARTS = ('text', 'retrieval', 'graph')


def compare_rewiring(
    model: PreTrainedModel,
    tokenizer: Any,
    transforms: Transforms,
    text: str | None = None,
    *,
    settings: RewiringSettings | None = None,
    progress: bool = True,
) -> RewiringReport:
    """Measures a model's token graph and what it can do, before and after.

    Of the graph that the model attends on, the mean over layers and heads on
    the text: edges, reach, causal resistance, spectral gap and curvature
    (:func:`gnnbridge.diagnostics.token_graph_metrics`), with the attention
    that the model puts on the edges it has, and the resistance with even
    attention too. Of the model: perplexity on the text, and accuracy of
    key-value retrieval. Weights stay as they are, and the model is left as it
    came. Where layers or heads have different graphs, edges are counted in
    each, and all else is measured on the mean of their matrices.

    Args:
        model: A causal language model of ``transformers``, converted or not.
        tokenizer: Its tokenizer.
        transforms: The name of one of
            :data:`gnnbridge.transforms.PATTERNS`, or anything that
            :func:`gnnbridge.rewire` takes; or several of these by their
            names in the report.
        text: What the model reads; by default a page that ships with the
            package.
        settings: See :class:`RewiringSettings`.
        progress: Whether to show a progress bar.

    Returns:
        A :class:`RewiringReport`: see its attributes.

    Raises:
        ValueError: If the model is no causal language model, the text holds
            fewer than two tokens, or a transform, layer or head does not fit.
        NotImplementedError: If the model cannot be converted.

    Example:
        >>> import gnnbridge as gb
        >>> from gnnbridge.profiling import compare_rewiring
        >>> found = compare_rewiring(*gb.load_embedded(), 'sinks')
        >>> found.figure('rewire.png')
    """
    settings = RewiringSettings() if settings is None else settings
    rewirings = choices(transforms, settings)
    names = [BEFORE, *(choice.name for choice in rewirings)]
    steps = ['read', *(f'{name}: {part}' for name in names for part in _PARTS)]
    with Clock(steps, progress) as clock, evaluation_mode(model):
        with clock('read'):
            reading = read(model, tokenizer, text, settings.max_tokens)
            task = retrieval_task(
                model,
                tokenizer,
                pairs=settings.pairs,
                questions=settings.questions,
                bos=reading.text['bos'],
                seed=settings.seed,
            )
        run = _Run(model, reading.input_ids, task, settings, clock)
        # As the model came, so that nothing else is called 'before'.
        text_before = run.text(BEFORE)
        answers_before = run.answers(BEFORE)
        with converted(model, None):
            mixing = settings.hops is None
            own = run.graph(BEFORE, run.shown(None), mixing=mixing)
            _require_causal(model, own)
            depth = _depth(own, settings.hops)
            hops = depth['hops']
            columns = [
                Column.of(BEFORE, own, hops, text_before, answers_before)
            ]
            for choice in rewirings:
                columns.append(run.rewired(choice, hops))
            mode = conversion_mode(model)
    return RewiringReport(
        model={**describe(model), 'num_layers': len(own.num_edges)},
        text=reading.text,
        task=None if task is None else task.describe(),
        depth=depth,
        columns=columns,
        notes=[
            *reading.notes,
            *notes(settings, rewirings, columns, task, mode),
        ],
        settings={
            **dataclasses.asdict(settings),
            'transforms': names[1:],
            'threads': torch.get_num_threads(),
        },
        versions=versions(),
        timings=clock.timings,
    )


@dataclass(frozen=True)
class _Run:
    """A model, and what it is to read."""

    model: PreTrainedModel
    input_ids: Tensor
    task: RetrievalTask | None
    settings: RewiringSettings
    clock: Clock

    def text(self, name: str) -> dict[str, float]:
        """Perplexity on the text, on the graph that the model has now."""
        with self.clock(f'{name}: text'):
            return perplexity(self.model, self.input_ids)

    def graph(
        self, name: str, show: tuple[int, int], *, mixing: bool = False
    ) -> ModelGraph:
        """The graph that the model has now."""
        with self.clock(f'{name}: graph'):
            return model_graph(
                self.model, self.input_ids, show=show, mixing=mixing
            )

    def answers(
        self, name: str, choice: Choice | None = None, hops: float | None = None
    ) -> dict[str, Any] | None:
        """Retrieval and its control, each on graphs of its own length."""
        with self.clock(f'{name}: retrieval'):
            if self.task is None:
                return None
            asked, control = (
                self.on(choice, batch.input_ids.size(1), hops)
                for batch in (self.task.asked, self.task.control)
            )
            with asked:
                found = self.task.accuracy(self.model)
            with control:
                return {**found, **self.task.absent_key(self.model)}

    def rewired(self, choice: Choice, hops: float | None) -> Column:
        """The metrics of one rewiring."""
        num_tokens = self.input_ids.size(1)
        what = choice.make(num_tokens, hops)
        with self.on(choice, num_tokens, hops):
            text = self.text(choice.name)
            graph = self.graph(choice.name, self.shown(what))
        answers = self.answers(choice.name, choice, hops)
        column = Column.of(choice.name, graph, hops, text, answers)
        return dataclasses.replace(column, transform=repr(what))

    def on(
        self, choice: Choice | None, num_tokens: int, hops: float | None
    ) -> AbstractContextManager[Any]:
        """The model on the graph that is chosen for sequences of a length."""
        what = None if choice is None else choice.make(num_tokens, hops)
        if what is None:
            return nullcontext()
        return rewire(
            self.model,
            what,
            layers=self.settings.layers,
            heads=self.settings.heads,
        )

    def shown(self, what: Any) -> tuple[int, int]:
        """A layer and a head that are rewired, if any are."""
        layers = self.settings.layers
        if isinstance(what, Mapping):
            layers = tuple(what)
        slots = self_attention_slots(self.model, layers).values()
        head = self.settings.heads[0] if self.settings.heads else 0
        return min(slot.layer for slot in slots), head


def _require_causal(model: PreTrainedModel, graph: ModelGraph) -> None:
    if not graph.causal:
        raise ValueError(
            f"Expected a causal language model (got '{type(model).__name__}', "
            f'whose tokens attend to later ones).'
        )


def _depth(graph: ModelGraph, hops: float | None) -> dict[str, Any]:
    """The depth to match, and where it comes from."""
    if hops is not None:
        unlimited = hops == math.inf
        source = 'unlimited' if unlimited else 'given'
        return {'hops': None if unlimited else hops, 'source': source}
    if graph.mixing is None:
        return {'hops': len(graph.num_edges), 'source': 'number of layers'}
    return {'hops': sum(graph.mixing), 'source': 'measured mixing'}
