"""Work that may kill its process; light, for processes that start quickly."""

import os
import signal
import time
from pathlib import Path

THREADS = 'OMP_NUM_THREADS', 'MKL_NUM_THREADS'


def work(job: tuple[str, str]) -> object:
    """Does what the first word says, with the second."""
    kind, word = job
    if kind == 'die':
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'exit':
        os._exit(3)
    if kind == 'die once' and not Path(word).exists():
        Path(word).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'sleep':
        Path(word).touch()
        time.sleep(600)
    if kind == 'threads':
        return [os.environ[name] for name in THREADS]
    if kind == 'interrupt':
        os.kill(os.getpid(), signal.SIGINT)
    return word.upper()
