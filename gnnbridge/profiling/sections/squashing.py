"""Over-squashing: how much the state of a token still depends on others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnbridge.diagnostics.bounds import sensitivity_bound
from gnnbridge.diagnostics.jacobian import JacobianNorms, jacobian_norms
from gnnbridge.diagnostics.pullback import Prefix
from gnnbridge.models.lipschitz import BlockConstants, block_constants
from gnnbridge.models.stack import (
    Stack,
    block_stack,
    find_blocks,
    unconverted,
)
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.pair_scores import pair_scores, score_samples
from gnnbridge.profiling.sections.structure import (
    StructureSampler,
    structure_of,
    uniform_resistance,
)
from gnnbridge.profiling.settings import ProfileSettings

# Of the picture of all pairs: rows and columns at most.
_MAP = 48
# Multiplications for constants of blocks above which there are no bounds; on
# two cores they take some minutes.
_MOST_WORK = 1e13
_NOT_CAUSAL = (
    'Expected a causal model (got one in which tokens attend to later ones). '
    'Its states depend on all tokens at once.'
)
BOUNDS = (
    'theorem C/D, layered T',
    'theorem D, visits V',
    'theorem D, envelope h*',
    'Di Giovanni',
    'Black',
    'Barbero',
)


class Squashing:
    r"""Derivatives of states at the top in states at the input.

    All norms are :math:`\lVert \partial x_i^{(L)} / \partial x_j^{(0)}
    \rVert_F / \sqrt d` of states before the final norm. Of the last receiver
    they are exact; of all pairs they are estimated without bias in the
    square. Beside them what graphs say of the same pairs without a backward
    pass, and bounds, whose constants are those of the blocks at the states of
    the same sequence: they hold for the derivatives there, softmax included.
    """

    name = 'squashing'
    meaning = (
        'The norm of the derivative of one state in another says how much a '
        'change of the one can still move the other: what is squashed on its '
        'way through the layers cannot be read at the end.'
    )

    def sampler(self, settings: ProfileSettings) -> StructureSampler:
        """A fresh listener for one batch."""
        return StructureSampler()

    def tasks(self, subject: Subject) -> list[Task]:
        """The last receiver, its bounds, and all pairs, by sequence."""
        if not subject.causal:
            raise NotImplementedError(_NOT_CAUSAL)
        width = _width(subject)
        tasks = []
        for number, ids in enumerate(_sequences(subject)):
            size = len(ids)
            rows, held_back = 8 * size * width, _graph_bytes(subject, size)
            passes = subject.settings.probes * size + 64.0
            for key, run, cost, held in (
                ('last receiver', _last, 4 * width, 64),
                ('bounds', _bounds, 3 * width, 64),
                ('pairs', _pairs, passes, 64 + subject.settings.probes),
            ):
                tasks.append(
                    Task(
                        f'squashing/{key} {number}',
                        partial(run, number),
                        float(cost * size),
                        held_back + held * rows,
                    )
                )
        return tasks

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """What was found."""
        own = tally.under('squashing/')
        if not own.moments:
            return None
        found: dict[str, Any] = {
            name: own.mean(name) if name in own else None
            for name in (
                'jacobian_last',
                'jacobian_last_in_layer',
                'jacobian_by_distance',
                'jacobian_mean',
                'jacobian_map',
                'jacobian_error',
            )
        }
        some = found['jacobian_last']
        some = found['jacobian_mean'] if some is None else some
        return {
            'tokens': None if some is None else len(some),
            'probes': subject.settings.probes,
            **found,
            'proxies': _proxies(own),
            'bounds': _bound_figures(own),
            **structure_of(own),
        }

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """Uniform attention over the tokens that it may see."""
        own = tally.under('squashing/')
        last, uniform = 'jacobian_last', 'proxy/uniform rollout/last'
        found = None
        if last in own and uniform in own:
            found = own.mean(uniform) * own.mean(last).sum()
        return {'jacobian_last': found, 'resistance': uniform_resistance(own)}


def _sequences(subject: Subject) -> list[Tensor]:
    """Beginnings of sequences, all of one length."""
    settings = subject.settings
    lengths = sorted((len(ids) for ids in subject.sequences), reverse=True)
    chosen = lengths[: settings.jacobian_sequences]
    size = min([settings.jacobian_tokens, *chosen])
    if not chosen or size < 2:
        raise NotImplementedError(
            'Expected a sequence of at least two tokens (got none). A single '
            'token depends on no other.'
        )
    long = [ids[:size] for ids in subject.sequences if len(ids) >= size]
    return long[: settings.jacobian_sequences]


def _width(subject: Subject) -> int:
    width = getattr(subject.model.config.get_text_config(), 'hidden_size', None)
    # Some configs have another name for it; it is for an estimate alone.
    return width if isinstance(width, int) else 1024


def _graph_bytes(subject: Subject, size: int) -> int:
    """What autograd keeps of a sequence, or of copies of a small one."""
    config = subject.model.config.get_text_config()
    heads = getattr(config, 'num_attention_heads', None)
    heads = heads if isinstance(heads, int) else 32
    # States and hidden units of a block, and its attention, in float32.
    block = 4 * size * (40 * _width(subject) + 4 * heads * size)
    return max(2**26, subject.num_layers * block)


def _last(number: int, subject: Subject) -> Samples:
    """The last receiver, through all blocks and through each."""
    ids = _sequences(subject)[number]
    with block_stack(subject.model, ids) as stack:
        whole = _exact(jacobian_norms(*stack, receivers=-1, method='exact'))
        layers = [
            _exact(
                jacobian_norms(
                    *stack.between(layer, layer + 1),
                    receivers=-1,
                    method='exact',
                )
            )
            for layer in stack.layers
        ]
        scale = stack.states.size(1) ** -0.5
    return {
        'squashing/jacobian_last': scale * whole[None],
        'squashing/jacobian_last_in_layer': scale * np.stack(layers)[None],
    }


def _exact(norms: JacobianNorms) -> np.ndarray:
    return norms.norm[0].numpy()


def _pairs(number: int, subject: Subject) -> Samples:
    """All pairs, and how scores of graphs agree with them."""
    ids = _sequences(subject)[number]
    settings = subject.settings
    with block_stack(subject.model, ids) as stack:
        found = _estimated(stack, settings, number)
        norm = (found.norm * stack.states.size(1) ** -0.5).numpy()
    curves = {
        'jacobian_by_distance': _by_distance(norm),
        'jacobian_mean': _by_source(norm),
        'jacobian_map': _map(norm),
        'jacobian_error': np.array(found.relative_error),
    }
    samples = {f'squashing/{key}': x[None] for key, x in curves.items()}
    scores = pair_scores(subject, ids)
    return samples | score_samples(scores, norm)


def _estimated(
    stack: Stack, settings: ProfileSettings, number: int
) -> JacobianNorms:
    """All pairs, by prefixes if they give the states of the whole."""

    def measured(prefix: Prefix | None) -> JacobianNorms:
        return jacobian_norms(
            *stack,
            probes=max(settings.probes, 2),
            prefix=prefix,
            generator=torch.Generator().manual_seed(settings.seed + number),
        )

    try:
        return measured(stack.prefix)
    except NotImplementedError:
        # Such as a layer that looks for keys among all that there are.
        return measured(None)


def _by_distance(norm: np.ndarray) -> np.ndarray:
    """Root mean square over the receivers at each distance ``[N]``."""
    size = len(norm)
    square = [np.mean(np.diagonal(norm, -k) ** 2) for k in range(size)]
    return np.sqrt(square)


def _by_source(norm: np.ndarray) -> np.ndarray:
    """Root mean square over later receivers ``[N]``, NaN for the last."""
    square = (np.tril(norm, -1) ** 2).sum(0)
    count = np.arange(len(norm) - 1, -1, -1)
    return np.sqrt(np.where(count, square / np.maximum(count, 1), np.nan))


def _map(norm: np.ndarray) -> np.ndarray:
    """Mean logarithm in blocks ``[M, M]``, NaN where all is later."""
    size = len(norm)
    count = min(_MAP, size)
    place = np.arange(size) * count // size
    receiver, source = np.tril_indices(size)
    value = norm[receiver, source]
    kept = value > 0
    at = (place[receiver[kept]], place[source[kept]])
    total, pairs = np.zeros((count, count)), np.zeros((count, count))
    np.add.at(total, at, np.log10(value[kept]))
    np.add.at(pairs, at, 1)
    return np.where(pairs, total / np.maximum(pairs, 1), np.nan)


def _bounds(number: int, subject: Subject) -> Samples:
    """Bounds of the last receiver over its norms."""
    ids = _sequences(subject)[number]
    with unconverted(subject.model) as model:
        _refuse_much_work(subject, ids)
        device = model.device if model.device.type != 'meta' else 'cpu'
        constants = block_constants(model, ids.unsqueeze(0).to(device))
        with block_stack(model, ids) as stack:
            norm = jacobian_norms(*stack, receivers=-1, method='exact').norm[0]
            norm = norm * stack.states.size(1) ** -0.5
    samples: dict[str, np.ndarray] = {}
    for name, (bound, constant) in _bounds_of(constants).items():
        # Of sources without any influence every bound is right.
        over = bound[-1].cpu() - norm.log10()
        over = torch.where(norm > 0, over, torch.nan).numpy()
        there = np.isfinite(over)
        start = f'squashing/bound/{name}'
        samples[f'{start}/last'] = over[None]
        samples[f'{start}/constant'] = np.array([constant])
        # Single precision allows no more than this.
        wrong = float((over[there] < -1e-5).sum())
        samples[f'{start}/violations'] = np.array([wrong])
        if there.any():
            middle, least = np.median(over[there]), over[there].min()
            samples[f'{start}/median'] = np.array([middle])
            samples[f'{start}/least/{number}'] = np.array([least])
    return samples


def _bounds_of(c: BlockConstants) -> dict[str, tuple[Tensor, float]]:
    """Logarithms of each bound ``[N, N]`` and of its constants together."""
    stay, pull = c.uniform
    largest = torch.maximum(stay, pull)
    ours = float(c.factor.amax(-1).log10().sum())
    common = float(largest.log10().sum())
    walk: dict[str, Any] = {'constants': c.factor, 'mixing': c.share}
    theirs: dict[str, Any] = {'constants': largest}
    kinds: tuple[tuple[Any, Tensor, dict[str, Any], float], ...] = (
        ('layers', c.weighted, walk, ours),
        ('visits', c.weighted, walk, ours),
        ('envelope', c.weighted, walk, ours),
        ('di_giovanni', c.attention, {'weights': (stay, pull)}, common),
        ('black', c.attention, theirs, common),
        ('barbero', c.attention, theirs, common),
    )
    return {
        name: (sensitivity_bound(A, kind=kind, log=True, **given), constant)
        for name, (kind, A, given, constant) in zip(BOUNDS, kinds, strict=True)
    }


def _refuse_much_work(subject: Subject, ids: Tensor) -> None:
    config = subject.model.config.get_text_config()
    width, hidden = _width(subject), getattr(config, 'intermediate_size', None)
    hidden = hidden if isinstance(hidden, int) else 4 * width
    blocks = len(find_blocks(subject.model))
    work = float(blocks * len(ids) * width**2 * (2 * hidden + 20 * width))
    if work > _MOST_WORK:
        raise NotImplementedError(
            f'Expected a model whose bounds take up to {_MOST_WORK:.0e} '
            f'multiplications (got {work:.0e}). Use a smaller '
            "'jacobian_tokens' for them."
        )


def _proxies(own: Tally) -> dict[str, Any]:
    """Of each score the last row, and how it agrees with the norms."""
    names = [
        name.removeprefix('proxy/').removesuffix('/all')
        for name in own.moments
        if name.startswith('proxy/') and name.endswith('/all')
    ]
    return {
        name: {
            what: own.mean(f'proxy/{name}/{what}')
            for what in ('last', 'all', 'per_receiver', 'partial')
        }
        for name in names
    }


def _bound_figures(own: Tally) -> dict[str, Any]:
    """Of each bound its logarithm over the norm, and whether it held."""
    found = {}
    for name in BOUNDS:
        start = f'bound/{name}'
        if f'{start}/last' not in own:
            continue
        least = [
            float(own.mean(key))
            for key in own.moments
            if key.startswith(f'{start}/least/')
        ]
        wrong = f'{start}/violations'
        found[name] = {
            'last': own.mean(f'{start}/last'),
            'median_log10': own.mean(f'{start}/median')
            if f'{start}/median' in own
            else None,
            'least_log10': min(least, default=None),
            'violations': round(
                float(own.mean(wrong)) * float(own.count(wrong))
            ),
            'rigorous': True,
            'constant_log10': own.mean(f'{start}/constant'),
        }
    return found
