"""The tasks that the models of the benchmark are compared on."""

from gnnbridge.bench.tasks.registry import TASKS as TASKS
from gnnbridge.bench.tasks.registry import make_task as make_task
from gnnbridge.bench.tasks.stored import STORED_TASKS as STORED_TASKS

__all__ = ['STORED_TASKS', 'TASKS', 'make_task']
