"""Which decoders each experiment compares."""

from __future__ import annotations

from dataclasses import replace

from arms import Arm, baseline, remedied
from tasks import (
    BACKCOPY,
    BACKCOPY_WITHOUT_FIRST,
    CONTINUED_RETRIEVAL,
    FEW_RETRIEVAL,
    FROZEN_BACKCOPY,
    FROZEN_RETRIEVAL,
    RETRIEVAL,
    TEXT,
    Task,
)

from gnnbridge.remedies.base import Remedy
from gnnbridge.remedies.differential import Differential
from gnnbridge.remedies.registry import make
from gnnbridge.remedies.tokens import PauseTokens, SinkTokens

SEEDS = (0, 1, 2)
# Places of learned sink tokens, where there is no first token any more.
SINKS = {
    'sink at 0': (0,),
    'sink in the middle': ('middle',),
    'sink at the end': (-1,),
    'three sinks': (0, 'middle', -1),
}
PAUSES = {'prepend': (4, 0), 'append': (0, 4), 'both': (2, 2)}
# Layers x width. Those at one size have as many parameters as three layers of
# width 64, up to a tenth.
SHAPES = {
    'depth at one width': ('1x64', '2x64', '3x64', '8x64'),
    'width at one depth': ('3x16', '3x32', '3x64', '3x128'),
    'depth at one size': ('1x96', '2x80', '3x64'),
}
RATES = (1.5e-3, 3e-3, 6e-3)
# How many times the steps take as many operations (products of matrices) as
# the last of a row does in the usual number of them.
EQUAL_OPERATIONS = {
    'narrow': {'3x16': 9.8, '3x32': 3.4, '3x64': 1.0},
    'wide': {'3x64': 3.6, '3x128': 1.0},
    'deep': {'1x64': 5.9, '2x64': 3.5, '8x64': 1.0},
}
HISTORIES = ('decay', 'layer', 'runway')
# Of ordinary tokens; a sequence of Bigram-Backcopy without its first has 31.
_PROMPT = 31


def sink_ablation() -> dict[str, Arm]:
    """Decoders trained with and without a first token and learned sinks."""
    return {
        'first token': baseline(BACKCOPY),
        'no first token': baseline(BACKCOPY_WITHOUT_FIRST),
        **{
            name: remedied(
                BACKCOPY_WITHOUT_FIRST,
                SinkTokens(positions=places),
                name.replace(' ', '-'),
                prompt=_PROMPT,
            )
            for name, places in SINKS.items()
        },
        'sink logit': remedied(BACKCOPY, make('sink_logit')),
        'softmax-one': remedied(BACKCOPY, make('softmax_one')),
    }


def deep_sinks() -> dict[str, Arm]:
    """Eight layers, with and without a first token."""
    return {
        'first token': Arm('8-layers', BACKCOPY, layers=8),
        'no first token': Arm('8-layers', BACKCOPY_WITHOUT_FIRST, layers=8),
    }


def sink_replacement() -> dict[str, Arm]:
    """Sinks alone trained, in decoders that were trained with a first token."""
    return {
        name: remedied(
            FROZEN_BACKCOPY,
            SinkTokens(positions=places, frozen=True),
            name.replace(' ', '-'),
            prompt=_PROMPT,
            start=baseline(BACKCOPY),
        )
        for name, places in SINKS.items()
    }


def pauses_continued() -> dict[str, Arm]:
    """Trained on with pauses, all weights."""
    start = baseline(RETRIEVAL)
    return {
        'none': Arm('none', CONTINUED_RETRIEVAL, start=start),
        **{
            name: remedied(
                CONTINUED_RETRIEVAL,
                PauseTokens(prepend=before, append=after),
                name,
                start=start,
            )
            for name, (before, after) in PAUSES.items()
        },
    }


def pauses_frozen() -> dict[str, Arm]:
    """Pauses alone trained."""
    return {
        name: remedied(
            FROZEN_RETRIEVAL,
            PauseTokens(prepend=before, append=after, frozen=True),
            name,
            start=baseline(RETRIEVAL),
        )
        for name, (before, after) in PAUSES.items()
    }


def pauses_from_scratch() -> dict[str, Arm]:
    """Trained with pauses from the first step, twice as long as usual."""
    steps = 2 * RETRIEVAL.steps
    return {
        'none': longer(2.0),
        **{
            name: remedied(
                RETRIEVAL,
                PauseTokens(prepend=before, append=after),
                f'pause-{name}-2x',
                steps=steps,
            )
            for name, (before, after) in PAUSES.items()
        },
    }


def longer(
    factor: float, remedy: Remedy | None = None, task: Task = RETRIEVAL
) -> Arm:
    """A decoder that is trained for more steps than usual."""
    name = 'baseline' if remedy is None else remedy.name
    return Arm(
        f'{name}-{factor:g}x', task, remedy, steps=round(factor * task.steps)
    )


def with_steps(name: str, factor: float) -> str:
    """What an arm of that many times the steps is called."""
    return name if factor == 1 else f'{name}, {factor:g} times the steps'


def at_rate(name: str, rate: float) -> str:
    """What an arm at one of its learning rates is called."""
    return f'{name} at {rate:g}'


def _softmax(task: Task, *factors: float) -> dict[str, Arm]:
    """Decoders as they are, by the steps that they are trained for."""
    return {
        'softmax': baseline(task),
        **{with_steps('softmax', k): longer(k, task=task) for k in factors},
    }


def _but(arms: dict[str, Arm], *names: str) -> dict[str, Arm]:
    return {name: arm for name, arm in arms.items() if name not in names}


def retrieval_at_equal_compute() -> dict[str, Arm]:
    """Remedies, and what they cost spent on more steps of softmax instead."""
    remedies = _but(remedies_on_retrieval(), 'none', 'pause')
    return {
        **_softmax(RETRIEVAL, 1.25, 1.5, 2.0),
        **remedies,
        with_steps('differential', 1.25): longer(1.25, Differential()),
        **_but(histories(retrieval=True), 'softmax', 'differential'),
    }


def pauses_at_equal_compute() -> dict[str, Arm]:
    """Pauses that are trained on with, and more steps without them."""
    steps = round(1.25 * CONTINUED_RETRIEVAL.steps)
    more = replace(pauses_continued()['none'], name='none-1.25x', steps=steps)
    return {
        'none': pauses_continued()['none'],
        with_steps('none', 1.25): more,
        **_but(pauses_continued(), 'none'),
    }


def scratch_at_equal_compute() -> dict[str, Arm]:
    """Pauses from the first step, and more steps without them."""
    arms = pauses_from_scratch()
    return {
        'none': arms['none'],
        # Of twice the usual steps, that all of these are trained for.
        with_steps('none', 1.25): longer(2.5),
        **_but(arms, 'none'),
    }


def backcopy_at_equal_compute() -> dict[str, Arm]:
    """Remedies, and what they cost spent on more steps of softmax instead."""
    return {
        **_softmax(BACKCOPY, 1.5, 2.0),
        **_but(remedies_on_backcopy(), 'none'),
    }


def sinks_at_equal_compute() -> dict[str, Arm]:
    """Inserted sinks, and more steps without any nor a first token."""
    arms = sink_ablation()
    name = 'no first token'
    return {
        name: arms[name],
        with_steps(name, 1.25): longer(1.25, task=BACKCOPY_WITHOUT_FIRST),
        **{sinks: arms[sinks] for sinks in SINKS},
    }


def prose_at_equal_compute() -> dict[str, Arm]:
    """Differential attention on prose, and more steps of softmax instead."""
    return {
        **_softmax(TEXT, 1.5, 2.0),
        **_but(histories(retrieval=False), 'softmax'),
    }


def shapes_at_equal_compute() -> dict[str, Arm]:
    """All shapes with the usual steps, and with as many operations each."""
    found = {}
    usual = sizes()
    for row in EQUAL_OPERATIONS.values():
        for name, factor in row.items():
            found[name] = usual[name]
            if factor != 1:
                found[with_steps(name, factor)] = replace(
                    usual[name],
                    name=f'{name}-{factor:g}x',
                    steps=round(factor * FEW_RETRIEVAL.steps),
                )
    return found


def widths_by_rate() -> dict[str, dict[float, Arm]]:
    """Those of three layers at every learning rate, by name and rate."""
    shapes = shapes_at_equal_compute()
    return {
        with_steps(name, steps): {
            rate: shapes[with_steps(name, steps)].at(rate) for rate in RATES
        }
        for row in ('narrow', 'wide')
        for name, factor in EQUAL_OPERATIONS[row].items()
        for steps in (1.0, factor)
    }


def histories(retrieval: bool) -> dict[str, Arm]:
    """Softmax, differential attention, and three kinds of history."""
    task = RETRIEVAL if retrieval else TEXT
    return {
        'softmax': baseline(task),
        'differential': remedied(task, Differential()),
        **{
            f'with {name} history': remedied(
                task, Differential(history=name), f'differential-{name}'
            )
            for name in HISTORIES
        },
    }


def sizes() -> dict[str, Arm]:
    """Depth at one width, width at one depth, and depth at one size.

    Heads are 16 wide as far as they go, and each shape is trained at the
    learning rate that suits it.
    """
    arms = {}
    for name in dict.fromkeys(name for row in SHAPES.values() for name in row):
        layers, width = map(int, name.split('x'))
        arms[name] = Arm(
            name,
            FEW_RETRIEVAL,
            layers=layers,
            width=width,
            heads=max(width // 32 * 2, 1),
            rates=RATES,
        )
    return arms


def remedies_on(task: Task, pause: Arm) -> dict[str, Arm]:
    """Every remedy that is trained with, on one task.

    Args:
        task: The task.
        pause: The arm with pauses.
    """
    plain = ('sink_logit', 'softmax_one', 'gated', 'sigmoid', 'runway')
    return {
        'none': baseline(task),
        **{name: remedied(task, make(name)) for name in plain},
        'window_sinks': remedied(
            task, make('window_sinks', window=16, sinks=1)
        ),
        'pause': pause,
        'sink_tokens': remedied(task, SinkTokens()),
        'differential': remedied(task, Differential()),
    }


def remedies_on_backcopy() -> dict[str, Arm]:
    """With pauses in the middle, as all of a sequence is predicted."""
    pauses = PauseTokens(prepend=2, append=2)
    return remedies_on(BACKCOPY, remedied(BACKCOPY, pauses, prompt=16))


def remedies_on_retrieval() -> dict[str, Arm]:
    """With pauses that were added after training."""
    return remedies_on(RETRIEVAL, pauses_continued()['both'])
