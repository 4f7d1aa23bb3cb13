"""``gnnbridge`` in a process that is killed once, in the middle of its work.

Run in place of ``-m gnnbridge``. The environment says who dies when:
``DIES`` is the rank, ``AFTER`` the number of units that it has done by then.
Processes that torchrun starts again live on.
"""

import os
import signal

from gnnbridge.cli import main
from gnnbridge.profiling import ledger

count = 0
add = ledger.Ledger.add


def dying_add(self: ledger.Ledger, *args: object, **kwargs: object) -> None:
    """Counts a unit in, and at a certain one kills its own process."""
    global count
    add(self, *args, **kwargs)  # type: ignore[arg-type]
    count += 1
    if count == int(os.environ['AFTER']):
        os.kill(os.getpid(), signal.SIGKILL)


first_time = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') == '0'
if first_time and os.environ.get('RANK', '0') == os.environ.get('DIES'):
    ledger.Ledger.add = dying_add  # type: ignore[method-assign]
# Every unit is saved, so that what was done by the death is known.
ledger._PATIENCE = -1.0
main()
