"""Graph neural networks, attention and rewirings compared on graph tasks.

Behind ``gnnbridge bench``. A :class:`Suite` of cells, each a task, a model and
a rewiring, is run by :func:`run_suite` with the same search for all, put
together by :func:`summarize`, and written as a :func:`leaderboard`::

    suite = select(SUITES['quick'], tasks=['csbm'], models=['gcn', 'gatv2'])
    run = run_suite(suite, Path('trials.jsonl'))
    print(leaderboard(summarize(run, suite, Materials())))
"""

from gnnbridge.bench.cells import Cell as Cell
from gnnbridge.bench.cells import Effort as Effort
from gnnbridge.bench.cells import Settings as Settings
from gnnbridge.bench.cells import Suite as Suite
from gnnbridge.bench.leaderboard import leaderboard as leaderboard
from gnnbridge.bench.materials import Materials as Materials
from gnnbridge.bench.models.registry import MODELS as MODELS
from gnnbridge.bench.models.registry import build_model as build_model
from gnnbridge.bench.rewirings import REWIRINGS as REWIRINGS
from gnnbridge.bench.rewirings import rewired as rewired
from gnnbridge.bench.runner import Run as Run
from gnnbridge.bench.runner import run_suite as run_suite
from gnnbridge.bench.suites import SUITES as SUITES
from gnnbridge.bench.suites import select as select
from gnnbridge.bench.suites import with_effort as with_effort
from gnnbridge.bench.summary import summarize as summarize
from gnnbridge.bench.task import Splits as Splits
from gnnbridge.bench.task import Task as Task
from gnnbridge.bench.tasks.registry import TASKS as TASKS
from gnnbridge.bench.tasks.registry import make_task as make_task
from gnnbridge.bench.trial import Trial as Trial
from gnnbridge.bench.trial import run_trial as run_trial

__all__ = [
    'MODELS',
    'REWIRINGS',
    'SUITES',
    'TASKS',
    'Cell',
    'Effort',
    'Materials',
    'Run',
    'Settings',
    'Splits',
    'Suite',
    'Task',
    'Trial',
    'build_model',
    'leaderboard',
    'make_task',
    'rewired',
    'run_suite',
    'run_trial',
    'select',
    'summarize',
    'with_effort',
]
